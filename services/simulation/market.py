"""A small market for simulations: few events, many closed bars, prices that turn often so that strategies trade."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from libs.domain.bars import Bar
from libs.domain.events import Core
from libs.domain.market import BestQuote, ClockTick, FundingSettled, MarketEvent, MarkPrice, Trade
from libs.domain.numbers import NANOSECONDS
from libs.wire import encode
from services.simulation.decoding import DecodedOnce

START_NS = 1_767_225_600 * NANOSECONDS
"""2026-01-01 00:00 UTC, a whole day, so that every timeframe begins with the session."""

_MINUTE = 60
_SCALE = 100_000_000
# Base price, tick and half spread in 1e-8.
_INSTRUMENTS = {
    "BTCUSDT.BINANCE": (60_000 * _SCALE, _SCALE // 10, 5 * _SCALE),
    "ETHUSDT.BINANCE": (3_000 * _SCALE, _SCALE // 100, _SCALE // 4),
}
INSTRUMENTS = tuple(_INSTRUMENTS)


class SessionMarket:
    """A market as it is sent, as it is decoded, and the bars that an undisturbed core of bars closes over it."""

    def __init__(self, events: Sequence[MarketEvent], bars: Core) -> None:
        self.encoded = [encode(event) for event in events]
        self.bars = [encode(bar) for event in events for bar in bars.handle(event) if isinstance(bar, Bar)]
        self.decode = DecodedOnce()
        for encoded in self.encoded:
            self.decode(encoded.topic, encoded.payload)


def make_market(seed: int, event_count: int, instruments: Sequence[str] = INSTRUMENTS) -> list[MarketEvent]:
    """Return a market of about `event_count` events (never fewer), in order of time."""
    rng = random.Random(f"market/{seed}")
    prices = {name: _INSTRUMENTS[name][0] for name in instruments}
    events: list[MarketEvent] = []
    minute = 0
    while len(events) < event_count:
        events.extend(_one_minute(rng, minute, prices))
        minute += 1
    return events


def _one_minute(rng: random.Random, minute: int, prices: dict[str, int]) -> Iterator[MarketEvent]:
    opened = START_NS + minute * _MINUTE * NANOSECONDS
    for number, name in enumerate(prices):
        base, tick, half_spread = _INSTRUMENTS[name]
        # Pulled back to the base, so that averages cross often and no position runs away.
        drift = (base - prices[name]) // 4
        moved = prices[name] + drift + int(rng.gauss(0.0, 0.0015) * base)
        price = prices[name] = moved - moved % tick
        identity = f"{name}/{minute}"

        def at(second: float, salt: int = number) -> int:
            return opened + int(second * NANOSECONDS) + salt

        quantity = rng.randint(1, 500) * _SCALE // 1_000
        is_buyer_maker = rng.random() < 0.5
        if minute % 480 == 0 and minute:
            yield FundingSettled(name, f"f/{identity}", at(1), at(1), rng.randint(-20_000, 20_000), price)
        yield Trade(name, f"t/{identity}", at(20), at(20), price, quantity, is_buyer_maker, minute + 1)
        yield MarkPrice(name, f"m/{identity}", at(57), at(57), price, price, 10_000, opened + 8 * 3_600 * NANOSECONDS)
        bid, ask = price - half_spread, price + half_spread
        depth = 1_000 * _SCALE
        yield BestQuote(
            name, f"q/{identity}", at(58), at(58), minute + 1, bid - bid % tick, depth, ask - ask % tick, depth
        )
    for name in prices:
        closed = opened + (_MINUTE + 1) * NANOSECONDS
        yield ClockTick(name, f"c/{name}/{minute}", closed, closed)
