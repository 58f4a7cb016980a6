"""A recorded market of some minutes that is played again and again, under any symbol: its frames' content, new numbers.

Recordings end; played in a circle one lasts for ever. Where the circle closes, one change of the book leads from its
last state to its first. Updates, quotes and trades are numbered anew, without holes.
"""

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson

from libs.domain.bars import Bar, BarRevision
from libs.domain.numbers import SCALE
from tests.kit.captures import simulated_capture

MINUTE_MS = 60_000
_KINDS = {
    "depthUpdate": "depth",
    "bookTicker": "quote",
    "trade": "trade",
    "aggTrade": "trade",
    "markPriceUpdate": "mark",
}
_KEPT_TRADES = 20_000
Levels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Happening:
    """What a frame tells: its kind, when in its minute it happened (ms), Binance's fields."""

    kind: str
    offset_ms: int
    data: Mapping[str, Any]


@dataclass(slots=True)
class Book:
    """The levels of both sides: quantity by price, both as they are written."""

    bids: Levels
    asks: Levels

    def apply(self, data: Mapping[str, Any]) -> None:
        """Advance by a change."""
        for levels, changes in ((self.bids, data["b"]), (self.asks, data["a"])):
            for price, quantity in changes:
                levels[price] = quantity
                if not float(quantity):
                    del levels[price]

    def copy(self) -> Book:
        """Return another of the same levels."""
        return Book(dict(self.bids), dict(self.asks))

    def change_to(self, other: Book) -> Mapping[str, Any]:
        """Return the change that leads to another book."""
        gone = [[[price, "0"] for price in ours.keys() - theirs.keys()] for ours, theirs in _sides(self, other)]
        there = [[[price, size] for price, size in theirs.items()] for _, theirs in _sides(self, other)]
        return {"b": gone[0] + there[0], "a": gone[1] + there[1]}


def _sides(one: Book, other: Book) -> Iterator[tuple[Levels, Levels]]:
    yield one.bids, other.bids
    yield one.asks, other.asks


@dataclass(frozen=True, slots=True)
class MarketRecording:
    """Whole minutes of a recorded market and the book at the beginning of each; the last book is that of the end."""

    minutes: list[list[Happening]]
    books: list[Book]


def read_recording(lines: Iterable[bytes]) -> MarketRecording:
    """Read a capture's whole minutes: lines of ``<ns> <Binance frame or depth answer>``."""
    frames: list[tuple[int, str, Mapping[str, Any]]] = []
    snapshot: Mapping[str, Any] | None = None
    for line in lines:
        document = orjson.loads(line.split(b" ", 1)[1])
        data = document.get("data", document)
        if "lastUpdateId" in data:
            snapshot = snapshot or data
        elif data.get("e") in _KINDS:
            at = data["E"] if data["e"] == "markPriceUpdate" else data["T"]
            frames.append((at, _KINDS[data["e"]], data))
    assert snapshot is not None
    frames.sort(key=lambda frame: frame[0])
    first = -(-frames[0][0] // MINUTE_MS)
    count = frames[-1][0] // MINUTE_MS - first
    book = Book(dict(snapshot["bids"]), dict(snapshot["asks"]))
    recording = MarketRecording([[] for _ in range(count)], [])
    for at, kind, data in frames:
        minute = at // MINUTE_MS - first
        while minute >= len(recording.books) and len(recording.books) <= count:
            recording.books.append(book.copy())
        if minute >= count:
            break
        if kind == "depth" and data["u"] > snapshot["lastUpdateId"]:
            book.apply(data)
        if minute >= 0:
            recording.minutes[minute].append(Happening(kind, at % MINUTE_MS, data))
    return recording


def recorded_market(path: Path) -> MarketRecording:
    """Return a capture's market."""
    with gzip.open(path) as file:
        return read_recording(file)


def simulated_market(seed: int, minutes: int) -> MarketRecording:
    """Return a recording of the simulated market."""
    # Its last minute ends with its last frame.
    return read_recording(line.encode() for line in simulated_capture(seed, minutes + 1))


@dataclass(slots=True)
class MinuteOfTrades:
    """The sums of a minute's trades, exact."""

    prices: list[Decimal] = field(default_factory=list)
    volume: Decimal = Decimal(0)
    quote_volume: Decimal = Decimal(0)
    taker_buy_volume: Decimal = Decimal(0)
    count: int = 0

    def add(self, price: Decimal, quantity: Decimal, *, is_buyer_maker: bool) -> None:
        """Count a trade; of the prices first, highest, lowest and last are kept."""
        self.prices = (
            [price] * 4
            if not self.prices
            else [self.prices[0], max(self.prices[1], price), min(self.prices[2], price), price]
        )
        self.volume += quantity
        self.quote_volume += price * quantity
        self.taker_buy_volume += Decimal(0) if is_buyer_maker else quantity
        self.count += 1


@dataclass(frozen=True, slots=True)
class NumberedTrade:
    """A trade as it was played."""

    number: int
    at_ms: int
    price: str
    quantity: str
    is_buyer_maker: bool


@dataclass(frozen=True, slots=True)
class Played:
    """What has just happened: its kind, when (ms since the epoch), its number, the recorded fields."""

    kind: str
    at_ms: int
    number: int
    data: Mapping[str, Any]


class PlayedMarket:
    """The market of an instrument, played from `start_ms` (a whole minute) on, beginning with minute `first` of it."""

    def __init__(self, instrument: str, recording: MarketRecording, start_ms: int, first: int = 0) -> None:
        assert not start_ms % MINUTE_MS
        self.instrument = instrument
        self.symbol, _, self.venue = instrument.partition(".")
        self.start_ms = start_ms
        self.now_ms = start_ms
        self._recording = recording
        self._first = first % len(recording.minutes)
        self.book = recording.books[self._first].copy()
        self.numbers = {"depth": 1_000_000, "quote": 1_000_000, "trade": 1_000_000, "mark": 0}
        self.minutes: dict[int, MinuteOfTrades] = {}
        self.trades: deque[NumberedTrade] = deque(maxlen=_KEPT_TRADES)
        self._happenings = self._circle()
        self._next = next(self._happenings)

    def play(self, until_ms: int) -> Iterator[Played]:
        """Yield what happens before a time."""
        while self._next[0] < until_ms:
            at_ms, happening = self._next
            self.now_ms = at_ms
            self.numbers[happening.kind] += 1
            number = self.numbers[happening.kind]
            if happening.kind == "depth":
                self.book.apply(happening.data)
            elif happening.kind == "trade":
                self._count(number, at_ms, happening.data)
            yield Played(happening.kind, at_ms, number, happening.data)
            self._next = next(self._happenings)
        self.now_ms = max(self.now_ms, until_ms)

    def _count(self, number: int, at_ms: int, data: Mapping[str, Any]) -> None:
        self.trades.append(NumberedTrade(number, at_ms, data["p"], data["q"], data["m"]))
        minute = self.minutes.setdefault(at_ms - at_ms % MINUTE_MS, MinuteOfTrades())
        minute.add(Decimal(data["p"]), Decimal(data["q"]), is_buyer_maker=data["m"])

    def _circle(self) -> Iterator[tuple[int, Happening]]:
        minutes, books = self._recording.minutes, self._recording.books
        begin_ms, number = self.start_ms, self._first
        while True:
            for happening in minutes[number]:
                yield begin_ms + happening.offset_ms, happening
            begin_ms += MINUTE_MS
            number += 1
            if number == len(minutes):
                number = 0
                yield begin_ms, Happening("depth", 0, books[-1].change_to(books[0]))


def find_wrong_bars(market: PlayedMarket, bars: Iterable[Bar | BarRevision], end_ms: int = 0) -> list[str]:
    """Compare 1m bars, revisions behind the bars that they revise, with the sums of a market's trades up to a time.

    Returns what differs, minutes that are over and have no bar among it.
    """
    last = {bar.open_time // 1_000_000: bar for bar in bars if bar.timeframe == "1m"}
    wrong = []
    for at_ms, minute in market.minutes.items():
        if at_ms + MINUTE_MS > (end_ms or market.now_ms):
            continue
        bar = last.get(at_ms)
        name = f"{market.instrument} {(at_ms - market.start_ms) // MINUTE_MS}"
        if bar is None:
            wrong.append(f"{name}: no bar")
            continue
        opened, high, low, close = minute.prices
        expected: dict[str, tuple[int | None, Decimal | int]] = {
            "open": (bar.open_e8, opened * SCALE),
            "high": (bar.high_e8, high * SCALE),
            "low": (bar.low_e8, low * SCALE),
            "close": (bar.close_e8, close * SCALE),
            "volume": (bar.volume_e8, minute.volume * SCALE),
            "quote volume": (bar.quote_volume_e8, minute.quote_volume * SCALE),
            "taker buy volume": (bar.taker_buy_volume_e8, minute.taker_buy_volume * SCALE),
            "trade count": (bar.trade_count, minute.count),
        }
        # Klines of Bybit do not say everything.
        wrong += [
            f"{name}: {word} {ours} not {theirs}"
            for word, (ours, theirs) in expected.items()
            if ours not in (None, theirs)
        ]
        if bar.is_incomplete:
            wrong.append(f"{name}: incomplete")
    return wrong
