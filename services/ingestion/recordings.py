"""Reads a recorded market: a capture or Parquet file, or a folder of them in the order of their names. No pacing."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

from libs.domain.events import DeadInput
from libs.domain.instruments import split_instrument_id
from libs.domain.market import DepthSnapshot, ExchangeBar, MarketEvent
from libs.domain.numbers import NANOSECONDS
from libs.runtime.errors import BadInput
from libs.venues.registry import UnknownVenue, make_recording_decoder
from services.ingestion.captures import CaptureReader
from services.ingestion.core.order import TradeOrder
from services.ingestion.core.stream import Stream, select_history
from services.ingestion.items import Item, release, release_rest
from services.ingestion.tables import kline_range, read_klines, read_table

_MINUTE = 60 * NANOSECONDS
_WHOLE_FILE = 2**63
_SUFFIXES = (".ns-jsonl", ".ns-jsonl.gz", ".jsonl", ".jsonl.gz", ".csv", ".gz", ".parquet")


class Recording:
    """Recorded files of one instrument; the same files give the same events. Frames that say that they are of another
    of the exchange's markets are refused by `BadInput` as they are read, the first file's by `open`.

    `history` is a Parquet file of 1m klines; the last `history_bars` that close before the recording begins go first,
    and the kline of the minute in which it begins takes that minute's place. Raises `BadInput` where no files are.
    """

    def __init__(self, path: Path, *, instrument: str, history: Path | None = None, history_bars: int = 1500) -> None:
        self._instrument = instrument
        self._symbol, self._venue = split_instrument_id(instrument)
        try:
            make_recording_decoder(instrument)
        except UnknownVenue as error:
            raise BadInput(f"{instrument}: {error}") from None
        self.files = _list_files(path)
        self._history = history
        self._history_bars = history_bars

    def open(self, span_ns: int = 0) -> tuple[Stream, Sequence[ExchangeBar]]:
        """Return the stream for the items and the history before them. Raises `BadInput` where the files do not fit."""
        first_time = self._find_first_event().event_time
        klines = self._read_history(first_time)
        stream = Stream(self._instrument, span_ns=span_ns, klines=klines)
        return stream, select_history(klines, first_event_time=first_time, count=self._history_bars)

    def items(
        self, file: int = 0, line: int = 0, clock: int = 0, seen_symbols: set[str] | None = None
    ) -> Generator[Item]:
        """Yield the items behind a line of a file; `clock` is the latest event time up to it."""
        decoder = make_recording_decoder(self._instrument)
        reader = CaptureReader(decoder, self._symbol, self._venue, seen_symbols)
        # What a frame says may depend on all before it.
        for number in range(0 if decoder.keeps_state else file, len(self.files)):
            path = self.files[number]
            after = line if number == file else 0 if number > file else _WHOLE_FILE
            if path.suffix != ".parquet":
                items = reader.read(path, file_number=number, after_line=after, clock=clock)
            elif number >= file:
                items = read_table(path, file_number=number, after_row=after, instrument=self._instrument)
            else:
                continue
            for item in items:
                clock = item.clock = max(clock, item.clock)
                yield item

    def events(self) -> Iterator[MarketEvent | DeadInput]:
        """Yield all there is, history first, as fast as it is taken; opened now, so that what is wrong is said now."""
        stream, history = self.open()
        return self._release(stream, history)

    def _release(self, stream: Stream, history: Sequence[ExchangeBar]) -> Iterator[MarketEvent | DeadInput]:
        for bar in history:
            yield from stream.accept(bar)
        order = TradeOrder(self._instrument)
        with closing(self.items()) as items:
            for item in items:
                yield from release(stream, order, item)
        yield from release_rest(stream, order)

    def _find_first_event(self) -> MarketEvent:
        seen: set[str] = set()
        error = ""
        first: MarketEvent | None = None
        for item in self.items(seen_symbols=seen):
            if not item.error:
                first = first or item.events[0]
                # A REST snapshot of the book names no symbol: it is ours only if other frames are.
                if not isinstance(item.events[0], DepthSnapshot):
                    return first
                continue
            error = error or f"{item.source}:{item.line}: {item.error}"
        names = ", ".join(str(file) for file in self.files)
        if first is not None and not seen:
            return first
        if seen:
            raise BadInput(f"unknown symbol {self._symbol}: {names} has {', '.join(sorted(seen))}; choose one of these")
        raise BadInput(
            f"{names} has no event of {self._symbol}; " + (f"first error: {error}" if error else "it is empty")
        )

    def _read_history(self, first_time: int) -> list[ExchangeBar]:
        path = self._history
        if path is None:
            return []
        if not path.is_file():
            raise BadInput(f"history file {path} does not exist; give 1m klines as Parquet")
        this_minute = first_time - first_time % _MINUTE
        klines = read_klines(
            path,
            instrument=self._instrument,
            from_time=this_minute - self._history_bars * _MINUTE,
            to_time=this_minute + _MINUTE,
        )
        if not any(kline.close_time <= first_time for kline in klines):
            first, last = kline_range(path)
            raise BadInput(
                f"history file {path} covers {_format(first)} to {_format(last)}, none of it in the "
                f"{self._history_bars} minutes before the recording begins at {_format(first_time)}; "
                "give klines that reach up to it"
            )
        return klines


def _format(time_ns: int) -> str:
    return datetime.fromtimestamp(time_ns // NANOSECONDS, UTC).strftime("%Y-%m-%d %H:%M")


def _list_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise BadInput(f"{path} does not exist; give a capture, a Parquet file or a folder of them")
    files = sorted(file for file in path.iterdir() if file.is_file() and file.name.endswith(_SUFFIXES))
    if not files:
        raise BadInput(f"{path} holds no recording; known are files ending in {', '.join(_SUFFIXES)}")
    return files
