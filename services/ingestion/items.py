"""One line, row or frame of a source, read and not yet released."""

from __future__ import annotations

from dataclasses import dataclass

from libs.domain.market import MarketEvent


@dataclass(slots=True)
class Item:
    """A market event or a error, where it was found, and the latest event time (`clock`, ns) up to and with it."""

    received_time: int
    event: MarketEvent | None = None
    error: str = ""
    payload: bytes = b""
    source: str = ""
    file: int = 0
    line: int = 0
    clock: int = 0
