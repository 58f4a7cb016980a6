"""Strategies that read the market: timers by market time, and indicators that are there after a restart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from libs.domain.market import BestQuote, ClockTick, Side, Trade
from libs.domain.orders import OrderIntent
from services.strategy import AccountView, Strategy, TargetPosition, state
from tests.unit.strategy.builders import BTC, START, a_bar, a_core, an_account

SECOND = 10**9
ETH = "ETHUSDT.BINANCE"


class Watch(Strategy):
    """Notes the times of its timer and, with each trade, where its average stood."""

    times: list[int] = state(list)
    seen: list[float | None] = state(list)

    def start(self) -> None:
        self.average = self.indicators.ema(2)

    def on_timer(self, event_time: int, _view: AccountView) -> None:
        self.times.append((event_time - START) // SECOND)

    def on_trade(self, trade: Trade, _view: AccountView) -> Sequence[TargetPosition]:
        value = self.average.of(trade.instrument)
        self.seen.append(None if math.isnan(value) else value)
        return [TargetPosition(trade.instrument, Decimal(500), "a trade")]


def a_tick(second: int, instrument: str = BTC) -> ClockTick:
    at = START + second * SECOND
    return ClockTick(instrument, f"{instrument}/tick/{at}", at, at)


def a_trade(second: int, instrument: str = BTC) -> Trade:
    at = START + second * SECOND
    return Trade(instrument, f"{instrument}/trade/{second}", at, at, 60_000 * 10**8, 10**8, False, second)


def test_a_timer_rings_once_a_period_of_market_time_though_ticks_of_instruments_interleave() -> None:
    watch = Watch(timer_s=10)
    core = a_core(watch)
    for second in range(31):
        core.handle(a_tick(second))
        core.handle(a_tick(max(0, second - 3), ETH))
    assert watch.times == [10, 20, 30]


def test_a_timer_goes_on_after_a_restart_where_it_was() -> None:
    core, again = a_core(Watch(timer_s=10)), a_core(watch := Watch(timer_s=10))
    core.handle(a_tick(9))
    again.restore(core.snapshot())
    again.handle(a_tick(10))
    again.handle(a_tick(11))
    assert watch.times == [10]


def test_an_indicator_holds_its_value_after_a_restart_before_the_next_bar() -> None:
    core, again = a_core(Watch()), a_core(watch := Watch())
    assert math.isnan(watch.average.value)
    for minute in (1, 2, 3):
        core.handle(a_bar(minute, str(60_000 + minute)))
    again.restore(core.snapshot())
    again.handle(a_trade(200))
    core.handle(a_trade(200))
    assert again.snapshot() == core.snapshot()
    assert watch.seen == [watch.average.value]
    assert watch.average.value > 60_000


def test_a_core_reads_of_the_market_what_its_strategies_handle() -> None:
    class Quotes(Strategy):
        def on_quote(self, _quote: BestQuote, _view: AccountView) -> None:
            return None

    assert a_core(Watch(timer_s=1)).market_kinds == {"trade", "clock_tick"}
    assert a_core(Watch(timer_s=1), Quotes()).market_kinds == {"trade", "clock_tick", "best_quote"}


def test_a_trade_of_an_instrument_that_the_account_does_not_trade_is_passed_by() -> None:
    watch = Watch()
    core = a_core(watch)
    core.handle(an_account(1))
    assert core.handle(a_trade(1, "DOGEUSDT.BINANCE")) == ()
    assert not watch.seen
    (intent,) = core.handle(a_trade(2))
    assert isinstance(intent, OrderIntent)
    assert intent.side is Side.BUY
