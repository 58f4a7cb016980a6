"""The simulated market without HTTP: history and events from a seed, for training and backtests."""

from __future__ import annotations

from collections.abc import Iterator

from libs.domain.market import ExchangeBar, MarketEvent
from services.exchange.core.frames import decode_kline, decode_rows
from services.exchange.core.market import HISTORY_MINUTES, SimulatedMarket


def generate_history(seed: int, *, minutes: int = HISTORY_MINUTES) -> list[ExchangeBar]:
    """Return the last `minutes` klines before the stream begins (at most `HISTORY_MINUTES`), as history bars."""
    history = SimulatedMarket(seed).history
    return [decode_kline(kline) for kline in history[len(history) - min(minutes, len(history)) :]]


def generate_events(seed: int, *, minutes: int) -> Iterator[MarketEvent]:
    """Yield the raw market events of the stream's first minutes; ingestion's `Normaliser` adds the clock to them."""
    market = SimulatedMarket(seed)
    for _ in range(minutes):
        yield from decode_rows(market.next_minute())


def generate_klines(seed: int, *, minutes: int) -> list[ExchangeBar]:
    """Return the 1m klines of the stream's first minutes as a market of bars (not history)."""
    market = SimulatedMarket(seed)
    return [decode_kline(market.next_minute().kline, is_history=False) for _ in range(minutes)]
