"""Orders that the compiled loop fills are those that the pipeline would have filled: to the bit, refusals included."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.accounts import Position
from libs.domain.bars import Bar
from libs.domain.market import Side
from libs.domain.numbers import from_e8, quantize_e8, to_e8
from libs.matching.liquidity import Slippage
from services.backtest import bar_loop as loop
from services.backtest.quiet_bars import equity_at
from services.strategy import AccountView, Strategy, TargetPosition, parameter, state
from services.strategy.core.compiled import BarNumbers, CompiledStrategy, Floats, compiled_step
from services.strategy.core.compiled_ema_cross import CompiledEmaCross
from tests.unit.backtest.builders import note_handled
from tests.unit.backtest.test_oracle import ORACLE
from tests.unit.backtest.test_quiet_bars import MARKETS, OHLCV, run

PRICES = st.integers(1, 10**13)
SIZES = st.integers(1, 10**11)
RECORDED = pytest.mark.skipif(not OHLCV.is_dir(), reason=f"no recorded bars at {OHLCV}; set PERPFLOW_SHARED")
LIMITS: dict[str, Sequence[str]] = {
    "wide": ORACLE,
    "slippage": (*ORACLE, "execution.slippage_bps=3.7", "execution.taker_fee_rate=0.00045"),
    "rebate": (*ORACLE, "execution.taker_fee_rate=-0.0001"),
    "default": ("execution.bar_fill=close", "risk.max_order_notional_usdt=40000"),
    "losses": (*ORACLE, "risk.max_consecutive_losses=2", "risk.loss_pause_s=7200"),
    "drawdown": (*ORACLE, "risk.soft_drawdown_fraction=0.004", "risk.hard_drawdown_fraction=0.008"),
    "daily": (*ORACLE, "risk.max_daily_loss_fraction=0.002"),
    "margin": (*ORACLE, "execution.leverage=2", "risk.max_leverage=2", "risk.min_liquidation_distance=0.45"),
}


class Wanders(Strategy):
    """Wants a position that a small generator of numbers names now and then: more, less, none, the other side."""

    scale: float = parameter(1.0)
    seed: int = state(17)
    seen: list[str] = state(list)

    def on_bar(self, bar: Bar, view: AccountView) -> Sequence[TargetPosition]:
        self.seed = (self.seed * 1_103_515_245 + 12_345) % 2**31
        if self.seed % 5 == 0:
            self.seen.append(f"{view.equity_usdt} {view.available_usdt} {dict(view.positions)}")
        if self.seed % 3:
            return ()
        quantity = Decimal((self.seed >> 8) % 41 - 20) / 10 * Decimal(str(self.scale))
        if self.seed % 4:
            return (TargetPosition(bar.instrument, Decimal(0), "it came up", quantity=quantity),)
        return (TargetPosition(bar.instrument, quantity * 9_999, "it came up"),)


class Steps(CompiledStrategy):
    """The same as one compiled step."""

    cells = 1
    scale: float = parameter(1.0)

    @compiled_step
    def step(memory: Floats, given: Any, bar: BarNumbers) -> float:  # noqa: N805
        memory[0] = (memory[0] * 16_807.0 + 11.0 + math.floor(bar.close)) % 2_147_483_647.0
        if memory[0] % 3.0 >= 1.0:
            return math.nan
        return (memory[0] // 256.0 % 41.0 - 20.0) / 10.0 * given.scale


@RECORDED
@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["Wanders", "Steps", 'Steps={"scale": 0.01}'])
@pytest.mark.parametrize("limits", LIMITS)
def test_orders_filled_in_the_loop_are_those_of_the_pipeline(limits: str, strategy: str) -> None:
    path = OHLCV / MARKETS[list(LIMITS).index(limits) % 2]
    choice = [f"tests.unit.backtest.test_bar_account:{strategy}"]
    looped, handled = (
        run(path, 400, fast=fast, strategies=choice, changed=LIMITS[limits], learns=20).record for fast in (True, False)
    )
    assert looped.fills
    assert looped == handled


@RECORDED
@pytest.mark.slow
def test_strategy_is_shown_the_account_that_the_pipeline_would_show(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Wanders] = []
    monkeypatch.setattr(Wanders, "start", lambda strategy: made.append(strategy))
    for fast in (True, False):
        run(
            OHLCV / MARKETS[0],
            300,
            fast=fast,
            strategies=["tests.unit.backtest.test_bar_account:Wanders"],
            changed=ORACLE,
        )
    first, second = ([Decimal(text.split()[0]) for text in strategy.seen] for strategy in made)
    assert len(first) > 30
    assert first == second


@RECORDED
def test_clear_orders_are_not_handled_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    handled = note_handled(monkeypatch)
    result = run(
        OHLCV / MARKETS[0],
        700,
        fast=True,
        strategies=['compiled_ema_cross={"fast_bars": 4, "slow_bars": 9, "quantity": 0.5}'],
        changed=ORACLE,
    )
    assert len(result.record.fills) > 50
    assert len(handled) <= 3


@RECORDED
def test_compiled_cross_decides_what_the_python_one_decides() -> None:
    parameters = '={"fast_bars": 4, "slow_bars": 9, "quantity": "0.5"}'
    called, compiled = (
        run(OHLCV / MARKETS[1], 600, fast=True, strategies=[name + parameters], changed=ORACLE).record.fills
        for name in ("ema_cross", "compiled_ema_cross")
    )
    assert called
    assert [(fill.event_time, fill.price, fill.side) for fill in called] == [
        (fill.event_time, fill.price, fill.side) for fill in compiled
    ]


def test_compiled_strategy_goes_on_from_a_snapshot() -> None:
    bars = [
        Bar("BTCUSDT.BINANCE", f"b{at}", at, "1m", at - 1, at, price, price, price, price, 10**8, None, None, None)
        for at, price in enumerate([10**12, 9 * 10**11, 12 * 10**11, 8 * 10**11, 13 * 10**11], 1)
    ]
    view = AccountView("paper", None, None, {})
    one = CompiledEmaCross(fast_bars=1, slow_bars=2, warm_up_bars=1, quantity=0.5)
    answers = [one.on_bar(bar, view) for bar in bars]
    first, second = (CompiledEmaCross(fast_bars=1, slow_bars=2, warm_up_bars=1, quantity=0.5) for _ in range(2))
    head = [first.on_bar(bar, view) for bar in bars[:2]]
    second.restore(first.snapshot())
    assert head + [second.on_bar(bar, view) for bar in bars[2:]] == answers
    assert any(answers)


def test_compiled_step_and_python_form_answer_alike() -> None:
    numbers = BarNumbers(1.0, 2.0, 0.5, 1.5, 7.0)
    given = CompiledEmaCross(fast_bars=2, slow_bars=5, warm_up_bars=1, quantity=0.25).given()
    compiled, plain = np.zeros(4), np.zeros(4)
    for close in (1.5, 1.7, 1.2, 1.9, 0.4):
        bar = numbers._replace(close=close)
        first, second = CompiledEmaCross.step(compiled, given, bar), CompiledEmaCross.step.py_func(plain, given, bar)
        assert first == second or (math.isnan(first) and math.isnan(second))
        assert compiled.tolist() == plain.tolist()


@settings(deadline=None)
@given(quantity=st.integers(-(10**11), 10**11), entry=PRICES, price=PRICES)
def test_gain_in_integers_is_exact(quantity: int, entry: int, price: int) -> None:
    whole, rest = loop.gain_of(quantity, entry, price)
    exact = (from_e8(price) - from_e8(entry)) * from_e8(quantity)
    assert whole * loop.S + rest == exact * 10**16
    assert from_e8(loop.round_half_even(whole, rest, loop.S)) == quantize_e8(exact)


@pytest.mark.parametrize(("moved", "gained"), [(50_000_000, 0), (150_000_000, 2), (250_000_000, 2), (-150_000_000, -2)])
def test_gain_between_two_numbers_goes_to_the_even_one(moved: int, gained: int) -> None:
    entry = 10**9
    assert loop.round_half_even(*loop.gain_of(1, entry, entry + moved), loop.S) == gained
    assert equity_at(np.array([entry + moved]), Decimal(0), from_e8(1), from_e8(entry)).tolist() == [gained]
    assert equity_at(np.array([entry + moved]), Decimal(0), from_e8(-1), from_e8(entry)).tolist() == [-gained]


@settings(deadline=None)
@given(price=PRICES, size=SIZES, rate=st.integers(-1_000_000, 1_000_000))
def test_fee_in_integers_is_exact(price: int, size: int, rate: int) -> None:
    if price * size > loop._LARGE_NOTIONAL * 1e16:
        return
    assert from_e8(loop.fee_of(price, size, rate)) == quantize_e8(from_e8(price) * from_e8(size) * from_e8(rate))


@settings(deadline=None)
@given(entry=PRICES, held=SIZES, price=PRICES, added=SIZES)
def test_average_entry_in_integers_is_that_of_a_position(entry: int, held: int, price: int, added: int) -> None:
    position = Position("BTCUSDT.BINANCE", from_e8(held), from_e8(entry))
    after, _ = position.apply_fill(from_e8(added), from_e8(price), Decimal(0))
    assert loop.average_entry(entry, held, price, added) == to_e8(after.entry_price)


@settings(deadline=None)
@given(
    price=st.integers(10**8, 10**13),
    rate=st.integers(0, 5_000_000),
    tick=st.sampled_from([10**6, 10**7, 3 * 10**6]),
    side=st.sampled_from(list(Side)),
)
def test_worse_price_is_that_of_the_venue(price: int, rate: int, tick: int, side: Side) -> None:
    venue = Slippage(rate, tick, 2 * loop.S, 0)
    assert loop.worsen(price, side is Side.BUY, rate, tick) == venue.worsen(side, price, rate)
    rounding = ROUND_CEILING if side is Side.BUY else ROUND_FLOOR
    exact = (Decimal(price) * (loop.S + rate * side.sign) / loop.S / tick).to_integral_value(rounding) * tick
    assert loop.worsen(price, side is Side.BUY, rate, tick) == max(tick if side is Side.SELL else 0, exact)
