"""Where a backtest's market comes from: recordings through ingestion's own reader, or the simulated market."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from libs.domain.bars import TIMEFRAMES
from libs.domain.instruments import find_instrument
from libs.domain.market import BestQuote, ClockTick, ExchangeBar, MarketEvent, MarkPrice
from libs.domain.numbers import NANOSECONDS, to_e8
from libs.runtime.source import DeadInput
from services.exchange.core import HISTORY_MINUTES, generate_events, generate_history
from services.ingestion.core.stream import Stream, select_history
from services.ingestion.feed import Pacer
from services.ingestion.recorded import RecordedSource

SIMULATED_INSTRUMENT = "BTCUSDT.BINANCE"
_CHUNK = 4096
_MINUTE = 60 * NANOSECONDS


@dataclass(frozen=True, slots=True)
class MarketInput:
    """A market to run over. `description` tells what it is; `timeframe` is that of bars, empty for ticks.

    `length_ns` is how long it is where that is known beforehand, else 0.
    """

    description: dict[str, str | int]
    timeframe: str
    events: Iterator[MarketEvent | DeadInput]
    length_ns: int = 0


def open_recording(path: Path, *, instrument: str, history: Path | None, history_bars: int) -> MarketInput:
    """Open a capture, a Parquet file of trades or bars, or a folder of them. Raises `BadInput`."""
    source = RecordedSource(path, instrument=instrument, pacer=Pacer(0), history=history, history_bars=history_bars)
    source.open(None)
    description: dict[str, str | int] = {"source": "recorded", "name": path.name, "instrument": instrument}
    if path.is_file():
        description["sha256"] = _sha256_of(path)
    if history is not None:
        description["history"] = history.name
        description["history_sha256"] = _sha256_of(history)
    timeframe, events = _tell_timeframe(_read_all(source))
    return MarketInput(description, timeframe, events)


def open_simulation(seed: int, *, minutes: int, history_bars: int) -> MarketInput:
    """Open the simulated market: its history, then `minutes` of its stream, as ingestion would publish it."""
    klines = generate_history(seed, minutes=min(history_bars, HISTORY_MINUTES))
    description: dict[str, str | int] = {
        "source": "simulated",
        "seed": seed,
        "minutes": minutes,
        "instrument": SIMULATED_INSTRUMENT,
    }
    return MarketInput(description, "", _simulate(seed, minutes, klines, history_bars), minutes * _MINUTE)


def prices_of_bar(bar: ExchangeBar) -> tuple[MarkPrice, BestQuote]:
    """Return a bar's close as mark price and as a quote of one tick: what risk judges orders by.

    A market of bars has neither quotes nor marks, so how wide the spread was and how deep the book is not known there:
    the quote's quantities are the bar's volume. Only risk is told; fills go by the bars themselves.
    """
    tick_e8 = to_e8(find_instrument(bar.instrument).tick_size)
    mark = MarkPrice(
        instrument=bar.instrument,
        event_id=f"{bar.event_id}/mark",
        event_time=bar.close_time,
        received_time=bar.close_time,
        mark_price_e8=bar.close_e8,
        index_price_e8=None,
        funding_rate_e8=0,
        next_funding_time=0,
    )
    quote = BestQuote(
        instrument=bar.instrument,
        event_id=f"{bar.event_id}/quote",
        event_time=bar.close_time,
        received_time=bar.close_time,
        update_id=bar.close_time,
        bid_price_e8=bar.close_e8,
        bid_quantity_e8=bar.volume_e8,
        ask_price_e8=bar.close_e8 + tick_e8,
        ask_quantity_e8=bar.volume_e8,
    )
    return mark, quote


def _simulate(
    seed: int, minutes: int, klines: list[ExchangeBar], history_bars: int
) -> Iterator[MarketEvent | DeadInput]:
    stream = Stream(SIMULATED_INSTRUMENT, span_ns=minutes * _MINUTE, klines=klines)
    first = True
    # One more minute than asked for, so that the clock passes the end of the span and its last bar closes.
    for event in generate_events(seed, minutes=minutes + 1):
        if first:
            first = False
            for bar in select_history(klines, first_event_time=event.event_time, count=history_bars):
                yield from stream.accept(bar)
        yield from stream.accept(event)
        if stream.is_over:
            return


def _read_all(source: RecordedSource) -> Iterator[MarketEvent | DeadInput]:
    try:
        while not source.is_finished:
            yield from source.read(_CHUNK, 0)
    finally:
        source.close()


def _tell_timeframe(
    events: Iterator[MarketEvent | DeadInput],
) -> tuple[str, Iterator[MarketEvent | DeadInput]]:
    seen: list[MarketEvent | DeadInput] = []
    timeframe = ""
    for event in events:
        seen.append(event)
        if isinstance(event, ExchangeBar) and not event.is_history:
            timeframe = event.timeframe
            break
        # The clock ticks before bars as it does before ticks, so it tells nothing.
        if not isinstance(event, DeadInput | ExchangeBar | ClockTick):
            break

    def again() -> Iterator[MarketEvent | DeadInput]:
        yield from seen
        yield from events

    return timeframe, again()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bar_length_ns(timeframe: str) -> int:
    """Return the length of the bars that decisions are made on: the market's own, one minute for ticks."""
    return TIMEFRAMES[timeframe or "1m"]
