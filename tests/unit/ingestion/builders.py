"""Builders of books, klines and captures."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import orjson

from libs.domain.events import DeadInput
from libs.domain.market import DepthDelta, DepthSnapshot, ExchangeBar, MarketEvent
from libs.domain.numbers import NANOSECONDS, SCALE
from libs.runtime.source import EventSource
from services.ingestion.feed import Pacer
from services.ingestion.recorded import RecordedSource
from tests.kit.builders import BTC, START

START_MS = START // 1_000_000


def a_delta(first: int, final: int, previous: int, seconds: float = 0.0) -> DepthDelta:
    """A change of one bid and one ask."""
    at = START + round(seconds * NANOSECONDS)
    prices = ((60_000 * SCALE,), (SCALE,), (60_001 * SCALE,), (SCALE,))
    return DepthDelta(BTC, f"{BTC}/depth/{final}", at, at, first, final, previous, *prices)


def a_snapshot(last: int, seconds: float = 0.0) -> DepthSnapshot:
    """A book of one level a side."""
    at = START + round(seconds * NANOSECONDS)
    prices = ((60_000 * SCALE,), (SCALE,), (60_001 * SCALE,), (SCALE,))
    return DepthSnapshot(BTC, f"{BTC}/snapshot/{last}", at, at, last, *prices)


def a_kline(minute: int, close: int = 60_000, **changes: Any) -> ExchangeBar:
    """A history kline `minute` minutes after START."""
    opened = START + minute * 60 * NANOSECONDS
    fields: dict[str, Any] = {
        "instrument": BTC,
        "event_id": f"{BTC}/kline/1m/{opened}",
        "event_time": opened + 60 * NANOSECONDS,
        "received_time": opened + 60 * NANOSECONDS,
        "timeframe": "1m",
        "open_time": opened,
        "close_time": opened + 60 * NANOSECONDS,
        "open_e8": 60_000 * SCALE,
        "high_e8": max(60_000, close) * SCALE,
        "low_e8": min(60_000, close) * SCALE,
        "close_e8": close * SCALE,
        "volume_e8": SCALE,
        "quote_volume_e8": None,
        "taker_buy_volume_e8": None,
        "trade_count": None,
    }
    return ExchangeBar(**{**fields, **changes})


def trade_line(number: int, milliseconds: int, symbol: str = "BTCUSDT", price: str = "60000") -> bytes:
    """A capture line with a trade, received 5 ms after it happened."""
    data = {
        "e": "trade",
        "E": START_MS + milliseconds,
        "T": START_MS + milliseconds,
        "s": symbol,
        "t": number,
        "p": price,
        "q": "0.01",
        "X": "MARKET",
        "m": False,
    }
    received = START + (milliseconds + 5) * 1_000_000
    return f"{received} ".encode() + orjson.dumps({"stream": f"{symbol.lower()}@trade", "data": data}) + b"\n"


def write_capture(path: Path, lines: list[bytes]) -> Path:
    """Write lines, gzipped where the name says so."""
    body = b"".join(lines)
    path.write_bytes(gzip.compress(body) if path.suffix == ".gz" else body)
    return path


def open_recorded(path: Path, instrument: str = BTC, cursor: bytes | None = None, **settings: Any) -> RecordedSource:
    """Open recorded files as a source, unpaced."""
    source = RecordedSource(path, instrument=instrument, pacer=Pacer(0), **settings)
    source.open(cursor)
    return source


def read_resuming(path: Path, at_once: int) -> list[MarketEvent | DeadInput]:
    """Read recorded files to their end, resumed from the cursor after each few events."""
    source = open_recorded(path)
    out = list(source.read(at_once, 100))
    while not source.is_finished:
        cursor = source.cursor()
        source.close()
        source = open_recorded(path, cursor=cursor)
        out += source.read(at_once, 100)
    return out


def read_all(source: EventSource, chunk: int = 100) -> list[MarketEvent | DeadInput]:
    """Read a source to its end."""
    out: list[MarketEvent | DeadInput] = []
    while not source.is_finished:
        out.extend(source.read(chunk, 1000))
    return out
