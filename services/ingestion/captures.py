"""Reads captures line by line: ``<ns> <json>``, cryptofeed's ``<unix time>: <json>``, and plain frames, gzipped or not.

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

from libs.domain.market import MarketEvent
from libs.venues.binance_frames import Frame, decode_frame, open_frame
from libs.venues.frames import FrameError
from services.ingestion.items import Item

_NS_LINE = re.compile(rb"(\d{16,20}) (\{.*)", re.DOTALL)
_CRYPTOFEED_LINE = re.compile(rb"(\d{9,11}(?:\.\d+)?): (.*)", re.DOTALL)
_REST_LINE = re.compile(rb"https?://(\S+) -> (\d{9,11}(?:\.\d+)?): (.*)", re.DOTALL)
_HEADER = re.compile(rb"\s*$|wss?://\S+ <|configuration:")
_REST_SYMBOL = re.compile(rb"/(?:depth|openInterest|premiumIndex)\?(?:.*&)?symbol=([A-Z0-9_]+)")
_FORMS = "a capture line is '<ns> <json>', '<unix time>: <json>' or a frame as JSON"


def read_capture(
    path: Path, *, file_number: int, after_line: int, symbol: str, clock: int, seen_symbols: set[str] | None = None
) -> Iterator[Item]:
    """Yield an item for each line behind `after_line` that concerns the symbol or cannot be read.

    Line numbers start at 1. `clock` (ns) is the latest event time before that line; it dates frames that carry no time.
    The symbols of other lines are added to `seen_symbols`.
    """
    line_number = 0
    with closing(_open(path)) as file:
        while True:
            problem = ""
            try:
                line = file.readline()
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                line, problem = b"", f"the gzip stream is broken: {error}"
            if not line and not problem:
                return
            line_number += 1
            if line_number > after_line:
                item = _broken(line, problem) if problem else _read_line(line, symbol, clock, seen_symbols)
                if item is not None:
                    clock = item.clock = max(clock, item.event.event_time) if item.event else clock
                    item.source, item.file, item.line = str(path), file_number, line_number
                    yield item
            if problem:
                return


def _open(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _broken(line: bytes, problem: str) -> Item:
    return Item(received_time=0, error=problem, payload=line.rstrip(b"\r\n"))


def _read_line(line: bytes, symbol: str, clock: int, seen_symbols: set[str] | None) -> Item | None:
    try:
        return _decode_line(line, symbol, clock, seen_symbols)
    except FrameError as error:
        return _broken(line, str(error))


def _decode_line(line: bytes, symbol: str, clock: int, seen_symbols: set[str] | None) -> Item | None:
    frame: Frame | None
    named = symbol
    received_time: int | None
    if match := _NS_LINE.match(line):
        received_time, frame = int(match[1]), open_frame(match[2])
    elif match := _CRYPTOFEED_LINE.match(line):
        received_time, frame = _unix_ns(match[1]), open_frame(match[2])
    elif match := _REST_LINE.match(line):
        target = _REST_SYMBOL.search(match[1])
        if target is None:
            return None
        named = target[1].decode()
        received_time, frame = _unix_ns(match[2]), open_frame(match[3])
    elif line.startswith(b"{"):
        received_time, frame = None, open_frame(line)
    elif _HEADER.match(line):
        return None
    else:
        raise FrameError(f"the line begins with {line[:24]!r}", _FORMS)
    if frame is None:
        return None
    of = frame.symbol or named
    if of != symbol:
        if seen_symbols is not None:
            seen_symbols.add(of)
        return None
    event = _decode(frame, received_time, clock, of)
    return None if event is None else Item(received_time=event.received_time, event=event)


def _decode(frame: Frame, received_time: int | None, clock: int, symbol: str) -> MarketEvent | None:
    if received_time is None:
        # Plain frames have no recorder's time: what the venue stamped when it sent them stands for it.
        stamp = frame.data.get("E", frame.data.get("time", frame.data.get("T")))
        received_time = stamp * 1_000_000 if type(stamp) is int and stamp > 0 else clock
        if not received_time:
            raise FrameError("the first frames carry no time", "begin the capture with a frame that has E")
    return decode_frame(frame, received_time=received_time, fallback_time=clock or received_time, symbol=symbol)


def _unix_ns(text: bytes) -> int:
    return int(Decimal(text.decode()).scaleb(9))
