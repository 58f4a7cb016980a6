"""Where a backtest's market comes from: recordings through ingestion's own reader, or the simulated market."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from libs.domain.bars import TIMEFRAMES
from libs.domain.control import ControlCommand
from libs.domain.events import DeadInput
from libs.domain.instruments import split_instrument_id
from libs.domain.market import ClockTick, ExchangeBar, MarketEvent
from libs.domain.numbers import NANOSECONDS
from libs.history.series import has_sample_data
from libs.runtime.errors import BadInput
from services.backtest.archives import ConvertedFiles, convert
from services.backtest.columns import BarColumns, read_columns
from services.backtest.market_file import MarketFile, read_market_file
from services.backtest.trade_columns import TradeColumns, TradeFile, open_trades
from services.exchange.core import HISTORY_MINUTES, generate_events, generate_history
from services.ingestion.core.stream import Stream, select_history
from services.ingestion.recordings import Recording

SIMULATED_INSTRUMENT = "BTCUSDT.BINANCE"
_MINUTE = 60 * NANOSECONDS


@dataclass(frozen=True, slots=True)
class MarketInput:
    """A market to run over. `description` tells what it is; `timeframe` is that of bars, empty for ticks;
    `commands`, in order of time, are given between its events.

    `columns`, `trades` or `prepared` hold the same events where the whole market is bars or trades of one file, or a
    file of columns; `converted` are files that were made for the run and go with it.
    """

    description: dict[str, str | int]
    timeframe: str
    events: Iterator[MarketEvent | DeadInput]
    columns: BarColumns | None = None
    trades: TradeColumns | TradeFile | None = None
    converted: ConvertedFiles | None = None
    prepared: MarketFile | None = None
    commands: tuple[ControlCommand, ...] = ()


def merge_commands(
    events: Iterable[MarketEvent | DeadInput], commands: Sequence[ControlCommand]
) -> Iterator[MarketEvent | DeadInput | ControlCommand]:
    """Put each command before the first event that is later than it."""
    waiting = list(reversed(commands))
    for event in events:
        if not isinstance(event, DeadInput):
            while waiting and waiting[-1].event_time < event.event_time:
                yield waiting.pop()
        yield event


def open_recording(path: Path, *, instrument: str, history: Path | None, history_bars: int) -> MarketInput:
    """Open a capture, a Parquet file or an archive of trades or bars, a folder of them, or what `prepare-market` wrote.

    Raises `BadInput`.
    """
    prepared = read_market_file(path)
    if prepared is not None:
        if prepared.instrument != instrument:
            raise BadInput(f"{path} is of {prepared.instrument}, not of {instrument}; give its --instrument")
        if history is not None:
            raise BadInput(f"{path} brings the history that it was written with; leave --history out")
        described = {**prepared.description, "prepared": path.name}
        return MarketInput(described, "", prepared.events(), prepared=prepared)
    converted = convert(path, instrument)
    market = _open_files(path if converted is None else converted.market, path, instrument, history, history_bars)
    return replace(market, converted=converted)


def _open_files(path: Path, given: Path, instrument: str, history: Path | None, history_bars: int) -> MarketInput:
    description: dict[str, str | int] = {"source": "recorded", "name": given.name, "instrument": instrument}
    columns = None if history is not None else read_columns(path, instrument)
    trades = None if history is not None else open_trades(path, instrument)
    if columns is not None or trades is not None:
        timeframe, events = "" if columns is None else columns.timeframe, _read_late(path, instrument)
    else:
        # Opened now, so that what is wrong with the input is said before anything is built.
        recording = Recording(path, instrument=instrument, history=history, history_bars=history_bars)
        timeframe, events = _look_ahead(recording.events())
    if given.is_file():
        description["sha256"] = _sha256_of(given)
    if has_sample_data(given) or (history is not None and has_sample_data(history)):
        description["sample_data"] = "yes"
    if history is not None:
        description["history"] = history.name
        description["history_sha256"] = _sha256_of(history)
    if timeframe:
        description["timeframe"] = timeframe
    return MarketInput(description, timeframe, events, columns, trades)


def _read_late(path: Path, instrument: str) -> Iterator[MarketEvent | DeadInput]:
    # Opened for the first event that is taken: most runs over columns take none.
    yield from Recording(path, instrument=instrument, history_bars=0).events()


def merge_markets(markets: Sequence[MarketInput]) -> MarketInput:
    """Return markets of several instruments as one, in order of event time; of equal times the first one's come first.

    Raises `BadInput` where some are bars and others are not, or bars of another length.
    """
    if len(markets) == 1:
        return markets[0]
    timeframes = {market.timeframe for market in markets}
    if len(timeframes) > 1:
        said = ", ".join(f"{market.description['instrument']} {market.timeframe or 'ticks'}" for market in markets)
        raise BadInput(f"the markets of several instruments must be alike, and these are {said}")
    description: dict[str, str | int] = {**markets[0].description}
    for number, market in enumerate(markets[1:], 2):
        description |= {f"{name}_{number}": value for name, value in market.description.items() if name != "source"}
    merged = heapq.merge(*(_timed(market.events) for market in markets), key=lambda timed: timed[0])
    return MarketInput(description, markets[0].timeframe, (event for _, event in merged))


def _timed(
    events: Iterable[MarketEvent | DeadInput],
) -> Iterator[tuple[int, MarketEvent | DeadInput]]:
    """Yield each event with the latest time so far, at which it can come: a market's own order stays as it is."""
    latest = 0
    for event in events:
        if not isinstance(event, DeadInput):
            latest = max(latest, event.event_time)
        yield latest, event


def open_simulation(
    seed: int, *, minutes: int, history_bars: int, instrument: str = SIMULATED_INSTRUMENT
) -> MarketInput:
    """Open the simulated market: its history, then `minutes` of its stream, as ingestion would publish it.

    It goes under the name of an `instrument`.
    """
    klines = generate_history(seed, minutes=min(history_bars, HISTORY_MINUTES))
    description: dict[str, str | int] = {
        "source": "simulated",
        "seed": seed,
        "minutes": minutes,
        "instrument": instrument,
    }
    events = _simulate(seed, minutes, klines, history_bars)
    if instrument != SIMULATED_INSTRUMENT:
        events = (_rename(event, instrument) for event in events)
    return MarketInput(description, "", events)


def _rename(event: MarketEvent | DeadInput, instrument: str) -> MarketEvent | DeadInput:
    if isinstance(event, DeadInput):
        return event
    own, listed = (split_instrument_id(name)[0] for name in (instrument, SIMULATED_INSTRUMENT))
    return replace(event, instrument=instrument, event_id=event.event_id.replace(listed, own))


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


def describe_market(events: Iterator[MarketEvent | DeadInput], description: dict[str, str | int]) -> MarketInput:
    """Return events that were opened as a market. Raises `BadInput` where there are none."""
    timeframe, events = _look_ahead(events)
    first = next(events, None)
    if first is None:
        raise BadInput(f"{description['name']} holds no market events of {description['instrument']}")
    if timeframe:
        description["timeframe"] = timeframe
    return MarketInput(description, timeframe, chain((first,), events))


def _look_ahead(
    events: Iterator[MarketEvent | DeadInput],
) -> tuple[str, Iterator[MarketEvent | DeadInput]]:
    """Return the timeframe of a market of bars, empty for ticks, and the same events again."""
    seen: list[MarketEvent | DeadInput] = []
    first: MarketEvent | None = None
    for event in events:
        seen.append(event)
        is_history = isinstance(event, ExchangeBar) and event.is_history
        # The clock ticks before bars as it does before trades, so it tells nothing.
        if not isinstance(event, DeadInput | ClockTick) and not is_history:
            first = event
            break

    def again() -> Iterator[MarketEvent | DeadInput]:
        yield from seen
        yield from events

    return first.timeframe if isinstance(first, ExchangeBar) else "", again()


def _sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def bar_length_ns(timeframe: str) -> int:
    """Return the length of the bars that decisions are made on: the market's own, one minute for ticks."""
    return TIMEFRAMES[timeframe or "1m"]
