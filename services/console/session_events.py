"""A session's events by topic and type, each topic read once."""

from __future__ import annotations

from typing import Any, TypeVar

from libs.bus.api import Bus
from libs.runtime.records import read_topic
from libs.wire import DecodeError, decode

EventT = TypeVar("EventT")


class SessionEvents:
    """What the topics of a session hold, in order; records that cannot be decoded are left out."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._read: dict[str, list[Any]] = {}

    def of(self, topic: str, kind: type[EventT]) -> list[EventT]:
        """Return the events of a type in a topic."""
        if topic not in self._read:
            self._read[topic] = list(self._decode(topic))
        return [event for event in self._read[topic] if isinstance(event, kind)]

    def _decode(self, topic: str) -> Any:
        for record in read_topic(self._bus, topic):
            try:
                yield decode(topic, record.value)
            except DecodeError:
                continue
