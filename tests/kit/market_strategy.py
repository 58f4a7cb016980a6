"""A strategy that decides on every kind of market event, for tests of where it is called and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from libs.domain.bars import Bar
from libs.domain.market import BestQuote, DepthDelta, DepthSnapshot, Trade
from services.strategy import AccountView, Strategy, TargetPosition, parameter, state

PATH = "tests.kit.market_strategy:MarketFollower"


class MarketFollower(Strategy):
    """Turns with every so many trades, quotes and books, and with its timer where the trend says so."""

    timer_s: int = parameter(20, minimum=1)
    every: int = parameter(40, minimum=1)
    notional_usdt: Decimal = parameter("500", above=0)
    heard: dict[str, int] = state(dict)
    trade_e8: int = state(0)

    def start(self) -> None:
        self.trend = self.indicators.ema(3)

    def on_bar(self, _bar: Bar, _view: AccountView) -> None:
        self._hear("bars")

    def on_trade(self, trade: Trade, _view: AccountView) -> Sequence[TargetPosition]:
        self.trade_e8 = trade.price_e8
        return self._turn("trades", trade.instrument)

    def on_quote(self, quote: BestQuote, _view: AccountView) -> Sequence[TargetPosition]:
        return self._turn("quotes", quote.instrument)

    def on_book(self, depth: DepthSnapshot | DepthDelta, _view: AccountView) -> Sequence[TargetPosition]:
        return self._turn("books", depth.instrument)

    def on_timer(self, event_time: int, view: AccountView) -> Sequence[TargetPosition]:
        assert event_time % (self.timer_s * 10**9) == 0
        self._hear("timers")
        side = -1 if self.trade_e8 / 1e8 < self.trend.value else 1
        return [TargetPosition(each, self.notional_usdt * side, "the timer") for each in view.positions]

    def _hear(self, kind: str) -> int:
        self.heard[kind] = self.heard.get(kind, 0) + 1
        return self.heard[kind]

    def _turn(self, kind: str, instrument: str) -> Sequence[TargetPosition]:
        turns, rest = divmod(self._hear(kind), self.every)
        if rest:
            return ()
        return [TargetPosition(instrument, self.notional_usdt * (1 if turns % 2 else -1), f"{kind} {turns}")]


class Timed(Strategy):
    """Turns each time that its timer rings."""

    timer_s: int = parameter(10, minimum=1)
    side: int = state(1)

    def on_timer(self, _event_time: int, _view: AccountView) -> Sequence[TargetPosition]:
        self.side = -self.side
        return [TargetPosition("BTCUSDT.BINANCE", Decimal(500) * self.side, "the timer")]
