"""Decodes each payload once in a session, though every service, the recorder, replay and the invariants read it.

Events are frozen values, so that one may serve them all; that a payload decodes alike every time is for the tests of
`libs.wire` to show.
"""

from __future__ import annotations

from typing import Any

from libs.wire import decode_any


class DecodedOnce:
    """Called with a topic and a payload, as `libs.wire.decode_any` is. Raises `DecodeError` each time.

    What `known` has decoded is taken from there.
    """

    def __init__(self, known: DecodedOnce | None = None) -> None:
        self._events: dict[tuple[str, bytes], Any] = {} if known is None else dict(known._events)

    def __call__(self, topic: str, payload: bytes) -> Any:
        place = (topic, payload)
        event = self._events.get(place)
        if event is None:
            event = self._events[place] = decode_any(topic, payload)
        return event
