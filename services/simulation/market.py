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
_DEPTH = 1_000 * _SCALE
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
    for number, name in enumerate(prices):
        base, tick, _ = _INSTRUMENTS[name]
        opening = prices[name]
        # Pulled back to the base, so that averages cross often and no position runs away.
        moved = opening + (base - opening) // 4 + int(rng.gauss(0.0, 0.0015) * base)
        closing = prices[name] = moved - moved % tick
        yield from _instrument_minute(rng, minute, name, number, (opening, closing))
    for name in prices:
        closed = START_NS + (minute + 1) * _MINUTE * NANOSECONDS + NANOSECONDS
        yield ClockTick(name, f"c/{name}/{minute}", closed, closed)


def _instrument_minute(
    rng: random.Random, minute: int, name: str, salt: int, prices: tuple[int, int]
) -> Iterator[MarketEvent]:
    _, tick, half_spread = _INSTRUMENTS[name]
    opened = START_NS + minute * _MINUTE * NANOSECONDS
    halfway, closing = sum(prices) // 2 // tick * tick, prices[1]

    def stamp(kind: str, second: int) -> tuple[str, str, int, int]:
        at = opened + second * NANOSECONDS + salt
        return name, f"{kind}/{name}/{minute}/{second}", at, at

    def trade(part: int, second: int, price: int) -> Trade:
        quantity = rng.randint(1, 500) * _SCALE // 1_000
        return Trade(*stamp("t", second), price, quantity, rng.random() < 0.5, 3 * minute + part)

    def quote(part: int, second: int, middle: int) -> BestQuote:
        bid, ask = middle - half_spread, middle + half_spread
        return BestQuote(*stamp("q", second), 3 * minute + part, bid - bid % tick, _DEPTH, ask - ask % tick, _DEPTH)

    if minute % 480 == 0 and minute:
        yield FundingSettled(*stamp("f", 1), rng.randint(-20_000, 20_000), closing)
    yield trade(1, 10, halfway)
    yield quote(1, 20, halfway)
    yield trade(2, 30, halfway)
    yield quote(2, 35, closing)
    yield trade(3, 40, closing)
    yield MarkPrice(*stamp("m", 57), closing, closing, 10_000, opened + 8 * 3_600 * NANOSECONDS)
    yield quote(3, 58, closing)
