from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

import pytest

from libs.domain.market import BestQuote, Trade
from libs.domain.orders import OrderEvent
from services.backtest.inputs import open_simulation
from services.backtest.options import BacktestOptions, parse_strategies
from services.backtest.run import run_backtest
from services.strategy import AccountView, Strategy, TargetPosition, parameter, state

BTC = "BTCUSDT.BINANCE"
PATH = "tests.unit.backtest.test_market_handlers:Hearer"
HEARD: list[str] = []


class Hearer(Strategy):
    """Notes what it hears of the market and buys at the first trade."""

    timer_s: int = parameter(10, minimum=1)
    has_asked: bool = state(False)

    def on_trade(self, trade: Trade, _view: AccountView) -> Sequence[TargetPosition]:
        HEARD.append("trade")
        if self.has_asked:
            return ()
        self.has_asked = True
        return (TargetPosition(trade.instrument, Decimal(0), "the first trade", quantity=Decimal("0.01")),)

    def on_quote(self, _quote: BestQuote, _view: AccountView) -> None:
        HEARD.append("quote")

    def on_fill(self, _order: OrderEvent, view: AccountView) -> None:
        HEARD.append(f"fill {view.positions[BTC]}")

    def on_timer(self, event_time: int, _view: AccountView) -> None:
        assert event_time % (10 * 10**9) == 0
        HEARD.append("timer")


@pytest.mark.slow
def test_strategy_hears_trades_quotes_fills_and_its_timer_in_a_backtest() -> None:
    HEARD.clear()
    result = run_backtest(
        open_simulation(7, minutes=1, history_bars=30), BacktestOptions(BTC, strategies=parse_strategies([PATH]))
    )
    assert sum(fill.quantity for fill in result.record.fills) == Decimal("0.01")
    assert HEARD.count("trade") > 10
    assert HEARD.count("quote") > 10
    assert 5 <= HEARD.count("timer") <= 7
    assert any(heard.startswith("fill 0.01") for heard in HEARD)


def test_before_trading_begins_the_market_is_heard_and_answers_count_for_nothing() -> None:
    HEARD.clear()
    market = open_simulation(7, minutes=1, history_bars=0)
    events = list(market.events)
    trade_from = [event.event_time for event in events if isinstance(event, Trade)][20]
    options = BacktestOptions(BTC, strategies=parse_strategies([PATH]), trade_from=trade_from)
    result = run_backtest(replace(market, events=iter(events)), options)
    assert HEARD.count("trade") > 20
    assert result.record.counts["intents"] == 0
