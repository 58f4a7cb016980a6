"""Server-sent events to as many pages as there is room for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from fastapi.responses import StreamingResponse
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

STREAM_LIMIT = 32


class StreamSlots:
    """Counts the streams that are open. Used from the event loop alone."""

    def __init__(self, limit: int, report: Callable[[int], None]) -> None:
        self._limit = limit
        self._report = report
        self._taken = 0

    @property
    def limit(self) -> int:
        """How many streams may be open at once."""
        return self._limit

    def take(self) -> bool:
        """take a slot if there is one; it must be given back."""
        if self._taken >= self._limit:
            return False
        self._taken += 1
        self._report(self._taken)
        return True

    def give_back(self) -> None:
        """Free a slot."""
        self._taken -= 1
        self._report(self._taken)


class EventStream(Response):
    """A stream that takes its slot when it begins and gives it back however it ends; `refusal` where none is free."""

    def __init__(self, slots: StreamSlots, events: Callable[[], AsyncIterator[bytes]], refusal: Response) -> None:
        super().__init__()
        self._slots = slots
        self._events = events
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream to one client."""
        if not self._slots.take():
            await self._refusal(scope, receive, send)
            return
        try:
            headers = {name: value for name, value in self.headers.items() if name != "content-length"}
            stream = StreamingResponse(self._events(), media_type="text/event-stream", headers=headers)
            await stream(scope, receive, send)
        finally:
            self._slots.give_back()
