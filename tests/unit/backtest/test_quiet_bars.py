"""Passing the bars between decisions gives the same orders, fills and equity as handling every bar, to the bit."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.bars import Bar
from libs.domain.numbers import from_e8, quantize_e8
from services.backtest.columns import BarColumns, read_columns
from services.backtest.inputs import open_recording
from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.quiet_bars import equity_at
from services.backtest.run import BacktestResult, run_backtest
from services.ingestion.core.stream import Stream
from services.strategy import AccountView, Strategy, TargetPosition, state
from tests.unit.backtest.builders import note_handled
from tests.unit.backtest.test_oracle import ORACLE

BTC = "BTCUSDT.BINANCE"
SHARED = Path(os.environ.get("PERPFLOW_SHARED", Path(__file__).parents[3] / ".." / "shared")).resolve()
OHLCV = SHARED / "data/market/ohlcv"
CROSS = 'ema_cross={"fast_bars": 4, "slow_bars": 9, "quantity": "0.5"}'
MARKETS = (
    "binance_um_BTCUSDT_5m_20230101_20240514.parquet",
    "binance_um_BTCUSDT_1h_20190908_20250630.parquet",
    "bybit_linear_BTCUSDT_5m_20250924_20260331.parquet",
    "binance_um_BTCUSDT_1m_20230718_20230817.parquet",
)


class Looker(Strategy):
    """Turns every few bars and sizes by the equity it sees, so that what is seen must be the same."""

    seen: list[str] = state(list)
    count: int = state(0)

    def on_bar(self, bar: Bar, view: AccountView) -> Sequence[TargetPosition]:
        self.count += 1
        if view.equity_usdt is not None and view.available_usdt is not None:
            held = {name: quantity.normalize() for name, quantity in view.positions.items()}
            self.seen.append(f"{view.equity_usdt.normalize()} {view.available_usdt.normalize()} {held}")
        if self.count % 7 or view.equity_usdt is None:
            return ()
        side = 1 if self.count % 14 else -1
        return (TargetPosition(bar.instrument, view.equity_usdt / 4 * side, "the turn has come"),)


def run(
    path: Path, bars: int, *, fast: bool, strategies: Sequence[str], changed: Sequence[str], learns: int = 0
) -> BacktestResult:
    market = open_recording(path, instrument=BTC, history=None, history_bars=0)
    assert market.columns is not None
    until = int(market.columns.open_time[bars])
    options = BacktestOptions(
        BTC,
        strategies=parse_strategies(strategies),
        starting_balance_usdt=Decimal(100_000),
        settings=parse_settings(changed),
        until=until,
        trade_from=int(market.columns.open_time[learns]) if learns else 0,
        fast=fast,
    )
    return run_backtest(market, options)


SETTINGS: dict[str, Sequence[str]] = {
    "wide": ORACLE,
    "next-open": (*ORACLE[:-3], "execution.bar_fill=next-open"),
    "worst": (*ORACLE[:-3], "execution.bar_fill=worst", "risk.soft_drawdown_fraction=0.01"),
    "daily-loss": (
        *ORACLE,
        "risk.max_daily_loss_fraction=0.002",
        "risk.soft_drawdown_fraction=0.02",
        "risk.hard_drawdown_fraction=0.03",
    ),
    "drawdown": (*ORACLE, "risk.soft_drawdown_fraction=0.004", "risk.hard_drawdown_fraction=0.008"),
    "impact": (*ORACLE, "execution.impact_bps=500"),
    "stops": (*ORACLE, "risk.stop_loss_fraction=0.004", "risk.take_profit_fraction=0.01"),
    "default-limits": (),
}
# Every market under wide limits, the settings on one market after the other.
CASES = [("wide", name) for name in MARKETS] + [
    (changed, MARKETS[place % len(MARKETS)]) for place, changed in enumerate(list(SETTINGS)[1:])
]


@pytest.mark.slow
@pytest.mark.skipif(not OHLCV.is_dir(), reason=f"no recorded bars at {OHLCV}; set PERPFLOW_SHARED")
@pytest.mark.parametrize(("changed", "name"), CASES)
def test_passing_quiet_bars_decides_nothing_differently(changed: str, name: str) -> None:
    passed, handled = (
        run(OHLCV / name, 700, fast=fast, strategies=[CROSS], changed=SETTINGS[changed]).record
        for fast in (True, False)
    )
    assert passed == handled


@pytest.mark.slow
@pytest.mark.skipif(not OHLCV.is_dir(), reason=f"no recorded bars at {OHLCV}; set PERPFLOW_SHARED")
@pytest.mark.parametrize("name", [MARKETS[0], MARKETS[-1]])
def test_bars_before_trading_begins_are_passed_too(name: str) -> None:
    passed, handled = (
        run(OHLCV / name, 700, fast=fast, strategies=[CROSS], changed=ORACLE, learns=300).record
        for fast in (True, False)
    )
    assert passed.fills
    assert passed == handled


@pytest.mark.slow
@pytest.mark.skipif(not OHLCV.is_dir(), reason=f"no recorded bars at {OHLCV}; set PERPFLOW_SHARED")
def test_strategy_sees_the_same_account_at_every_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    path = OHLCV / MARKETS[0]
    made: list[Looker] = []
    monkeypatch.setattr(Looker, "start", lambda looker: made.append(looker))
    choice = ["tests.unit.backtest.test_quiet_bars:Looker"]
    passed, handled = (run(path, 500, fast=fast, strategies=choice, changed=ORACLE) for fast in (True, False))
    assert passed.record.fills == handled.record.fills
    assert len(made[0].seen) == 499
    assert made[0].seen == made[1].seen


@pytest.mark.skipif(not OHLCV.is_dir(), reason=f"no recorded bars at {OHLCV}; set PERPFLOW_SHARED")
def test_most_bars_are_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    handled = note_handled(monkeypatch)
    result = run(OHLCV / MARKETS[0], 700, fast=True, strategies=[CROSS], changed=ORACLE)
    assert len(handled) <= len(result.record.fills) + 6


@pytest.mark.skipif(not OHLCV.is_dir(), reason=f"no recorded bars at {OHLCV}; set PERPFLOW_SHARED")
@pytest.mark.parametrize("name", [*MARKETS, "ftx_BTC-PERP_1m_20211231_20220201.parquet"])
def test_columns_hold_what_the_row_reader_reads(name: str) -> None:
    columns = read_columns(OHLCV / name, BTC)
    assert columns is not None
    market = open_recording(OHLCV / name, instrument=BTC, history=None, history_bars=0)
    stream = Stream(BTC)
    for place in range(300):
        for ours in stream.accept(columns.exchange_bar(place)):
            assert ours == next(market.events)


def test_bar_made_of_columns_is_the_bar_of_the_bars_service() -> None:
    numbers = [np.arange(1, 7) * 300 * 10**9 + place for place in range(6)]
    given: Any = (BTC, "5m", *numbers, None, None, None)
    columns = BarColumns(*given)
    whole = columns.complete_bars(2, 5, columns.length_ns * 5)
    assert [bar.is_history for bar in whole] == [True, False, False]
    made = columns.bars(2, 5, columns.length_ns * 5)
    assert all(isinstance(bar, Bar) for bar in made)
    assert [bar.volume_e8 for bar in made] == [bar.volume_e8 for bar in whole]
    assert type(made[0]) is not Bar
    assert made[0].event_id == whole[0].event_id
    assert type(made[0]) is Bar
    assert made == whole and whole == columns.bars(2, 5, columns.length_ns * 5)
    assert {hash(bar) for bar in made} == {hash(bar) for bar in whole}
    assert copy.deepcopy(columns.bars(3, 4, 0)) == [columns.complete_bars(3, 4, 0)[0]]
    assert replace(columns.bars(3, 4, 0)[0], close_e8=7) == replace(whole[1], close_e8=7)
    with pytest.raises(AttributeError, match="no_such"):
        columns.bars(3, 4, 0)[0].no_such  # type: ignore[attr-defined]  # noqa: B018


@settings(deadline=None)
@given(
    wallet=st.integers(0, 10**15),
    quantity=st.integers(-(10**12), 10**12),
    entry=st.integers(1, 10**13),
    closes=st.lists(st.integers(1, 10**13), min_size=1, max_size=5),
)
def test_equity_in_integers_is_the_exact_one(wallet: int, quantity: int, entry: int, closes: list[int]) -> None:
    found = equity_at(np.array(closes), from_e8(wallet), from_e8(quantity), from_e8(entry))
    for close, equity in zip(closes, found.tolist(), strict=True):
        assert from_e8(equity) == from_e8(wallet) + quantize_e8((from_e8(close) - from_e8(entry)) * from_e8(quantity))


def test_other_markets_are_not_read_as_columns(tmp_path: Path) -> None:
    assert read_columns(tmp_path, BTC) is None
    assert read_columns(tmp_path / "capture.jsonl", BTC) is None
