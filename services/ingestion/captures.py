"""Reads captures by line: ``<ns> <json>``, cryptofeed's ``<unix time>: <json>``, plain frames, CSV; gzipped or not.

A line that cannot be read becomes an item with an error and its line number; reading goes on behind it.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import IO, cast

from libs.domain.instruments import MARKET_DATA_ONLY, instrument_id
from libs.runtime.errors import BadInput
from libs.venues.api import FrameDecoder
from libs.venues.frames import FrameError, OpenedFrame
from libs.venues.recorder_csv import read_csv_lines
from libs.venues.registry import venue_names
from services.ingestion.items import Item

_NS_LINE = re.compile(rb"(\d{16,20}) (\{.*)", re.DOTALL)
_CRYPTOFEED_LINE = re.compile(rb"(\d{9,11}(?:\.\d+)?): (.*)", re.DOTALL)
_REST_LINE = re.compile(rb"https?://(\S+) -> (\d{9,11}(?:\.\d+)?): (.*)", re.DOTALL)
_HEADER = re.compile(rb"\s*$|wss?://\S+ <|configuration:")
_FORMS = "a capture line is '<ns> <json>', '<unix time>: <json>' or a frame as JSON"


class CaptureReader:
    """Reads the lines of captures that concern a symbol, through a venue's decoder.

    The symbols of other lines are added to `seen_symbols`. Raises `BadInput` at the first line of a capture that says
    that it is of another market than `venue`.
    """

    def __init__(self, decoder: FrameDecoder, symbol: str, venue: str, seen_symbols: set[str] | None = None) -> None:
        self._decoder = decoder
        self._symbol = symbol
        self._venue = venue
        self._told_venue = ""
        self._seen_symbols = seen_symbols

    def read(self, path: Path, *, file_number: int, after_line: int, clock: int) -> Iterator[Item]:
        """Yield an item for each line behind `after_line` (they start at 1) that has events or cannot be read.

        `clock` (ns) is the latest event time before that line; it dates frames that carry no time.
        """
        line_number = 0
        self._path, self._told_venue = path, ""
        with closing(_open(path)) as file:
            lines = read_csv_lines(file) if ".csv" in path.suffixes else enumerate(file, start=1)
            while True:
                problem = ""
                try:
                    line_number, line = next(lines)
                except StopIteration:
                    return
                except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                    line_number, line, problem = line_number + 1, b"", f"the gzip stream is broken: {error}"
                if line_number > after_line:
                    item = _broken(line, problem) if problem else self._read_line(line, clock)
                    if item is not None:
                        clock = item.clock = max(clock, *(event.event_time for event in item.events), item.clock)
                        item.source, item.file, item.line = str(path), file_number, line_number
                        yield item
                elif self._decoder.keeps_state and not problem:
                    self._read_line(line, clock)
                if problem:
                    return

    def _read_line(self, line: bytes, clock: int) -> Item | None:
        try:
            return self._decode_line(line, clock)
        except FrameError as error:
            return _broken(line, str(error))

    def _decode_line(self, line: bytes, clock: int) -> Item | None:
        named = self._symbol
        frame: OpenedFrame | None
        received_time = 0
        if match := _NS_LINE.match(line):
            received_time, payload = int(match[1]), match[2]
            frame = self._decoder.open(payload)
        elif match := _CRYPTOFEED_LINE.match(line):
            received_time, payload = _unix_ns(match[1]), match[2]
            frame = self._decoder.open(payload)
        elif match := _REST_LINE.match(line):
            target = self._decoder.rest_symbol.search(match[1])
            if target is None:
                return None
            named = target[1].decode()
            received_time, payload = _unix_ns(match[2]), match[3]
            frame = self._decoder.open(payload)
        elif line.startswith(b"{"):
            payload, frame = line, self._decoder.open(line)
            # There is no recorder's time: what the venue stamped when it sent it stands for it.
            received_time = clock if frame is None else frame.sent_time or clock
            if frame is not None and not received_time and self._concerns(frame.symbol or named):
                raise FrameError("the first frames carry no time", "begin the capture with a frame that has one")
        elif _HEADER.match(line):
            return None
        else:
            raise FrameError(f"the line begins with {line[:24]!r}", _FORMS)
        if frame is None or not self._concerns(frame.symbol or named):
            return None
        if not self._told_venue:
            self._check_venue(payload)
        events = self._decoder.decode(
            frame, received_time=received_time, fallback_time=clock or received_time, symbol=frame.symbol or named
        )
        return Item(received_time=received_time, events=events, payload=line.rstrip(b"\r\n")) if events else None

    def _check_venue(self, payload: bytes) -> None:
        self._told_venue = self._decoder.venue_of(payload)
        if self._told_venue not in ("", self._venue):
            known = self._told_venue in {*venue_names(), *MARKET_DATA_ONLY}
            fix = f"name the instrument {instrument_id(self._symbol, self._told_venue)}" if known else "it is not read"
            raise BadInput(f"{self._path} is of {self._told_venue}, not of {self._venue}; {fix}")

    def _concerns(self, symbol: str) -> bool:
        if symbol == self._symbol:
            return True
        if self._seen_symbols is not None:
            self._seen_symbols.add(symbol)
        return False


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _broken(line: bytes, problem: str) -> Item:
    return Item(received_time=0, error=problem, payload=line.rstrip(b"\r\n"))


def _unix_ns(text: bytes) -> int:
    return int(Decimal(text.decode()).scaleb(9))
