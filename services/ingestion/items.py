"""One line, row or frame of a source, read and not yet released; and how it is released."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.domain.events import DeadInput
from libs.domain.market import MarketEvent
from services.ingestion.core.order import TradeOrder
from services.ingestion.core.stream import Stream


@dataclass(slots=True)
class Item:
    """Its market events or an error, where it was found, and the latest event time (`clock`, ns) up to and with it."""

    received_time: int
    events: Sequence[MarketEvent] = ()
    error: str = ""
    payload: bytes = b""
    source: str = ""
    file: int = 0
    line: int = 0
    clock: int = 0


def release(stream: Stream, order: TradeOrder, item: Item) -> Sequence[MarketEvent | DeadInput]:
    """Pass an item in order through the stream; what could not be read, or cannot be true, goes beside it."""
    if item.error:
        return [DeadInput(reason=item.error, source=item.source, position=item.line, payload=item.payload)]
    out: list[MarketEvent | DeadInput] = []
    for event in item.events:
        reason = stream.judge(event)
        if reason:
            text = f"{event.event_id}: {reason}"
            out.append(DeadInput(reason=text, source=item.source, position=item.line, payload=item.payload))
        else:
            for ordered in order.take(event):
                out.extend(stream.accept(ordered))
    return out


def release_rest(stream: Stream, order: TradeOrder) -> Sequence[MarketEvent]:
    """Return what waits when there are no more items."""
    return [accepted for event in order.flush() for accepted in stream.accept(event)]
