"""One line, row or frame of a source, read and not yet released; and how it is released."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.domain.events import DeadInput
from libs.domain.market import MarketEvent
from services.ingestion.core.stream import Stream


@dataclass(slots=True)
class Item:
    """A market event or an error, where it was found, and the latest event time (`clock`, ns) up to and with it."""

    received_time: int
    event: MarketEvent | None = None
    error: str = ""
    payload: bytes = b""
    source: str = ""
    file: int = 0
    line: int = 0
    clock: int = 0


def release(stream: Stream, item: Item) -> Sequence[MarketEvent | DeadInput]:
    """Pass an item through the stream; what could not be read goes beside it."""
    if item.event is not None:
        return stream.accept(item.event)
    return [DeadInput(reason=item.error, source=item.source, position=item.line, payload=item.payload)]
