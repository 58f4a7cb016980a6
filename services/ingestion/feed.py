"""Releases a source's items through the stream, paced by their received times, and knows how to go on after a stop.

Pacing decides when something is released, never what or in which order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from libs.clock import SYSTEM_CLOCK
from libs.domain.events import DeadInput
from libs.domain.market import ExchangeBar, MarketEvent
from libs.domain.state import StateFormat, StateMismatch
from libs.runtime.errors import BadInput, DependencyUnavailable
from libs.runtime.opened import opened
from libs.runtime.source import FeedHealth
from services.ingestion.core.order import OrderState, TradeOrder, add_order
from services.ingestion.core.stream import Stream, StreamState, add_known, add_trade_times, rename_fields
from services.ingestion.items import Item, release, release_rest


class Pacer:
    """Maps received times onto the wall clock from an anchor on, which by itself is the first.

    `speed` 60 is a market minute a second, 0 unpaced.
    """

    def __init__(
        self,
        speed: float,
        *,
        monotonic: Callable[[], float] = SYSTEM_CLOCK.monotonic_s,
        sleep: Callable[[float], None] = SYSTEM_CLOCK.sleep,
    ) -> None:
        self._speed = speed
        self._monotonic = monotonic
        self._sleep = sleep
        self._anchor: tuple[int, float] | None = None

    def anchor(self, received_time: int) -> None:
        """Let what was received then be due now; what came before it is overdue."""
        self._anchor = (received_time, self._monotonic())

    def remaining_s(self, received_time: int) -> float:
        """Return for how long what was received then must wait; 0 or less when it is due."""
        if not self._speed:
            return 0.0
        now = self._monotonic()
        if self._anchor is None:
            self._anchor = (received_time, now)
        start_ns, start_s = self._anchor
        return start_s + (received_time - start_ns) / 1e9 / self._speed - now

    def wait_until_due(self, received_time: int, timeout_s: float) -> bool:
        """Sleep until it is due, at most `timeout_s`; the answer is whether it is due."""
        remaining = self.remaining_s(received_time)
        if remaining > timeout_s:
            self._sleep(max(timeout_s, 0.0))
            return False
        if remaining > 0:
            self._sleep(remaining)
        return True


@dataclass(frozen=True, slots=True)
class FeedCursor:
    """How far a source was read: the history bars sent, the last item's file, line and clock, what waits for its turn,
    the stream's state.
    """

    origin: str
    history: int
    file: int
    line: int
    clock: int
    order: OrderState
    stream: StreamState


_CURSOR = StateFormat(
    "feed-cursor",
    5,
    FeedCursor,
    migrations={1: add_trade_times, 2: add_known, 3: rename_fields, 4: add_order},
)


class Feed:
    """History first, then the items of a source through its stream.

    `items` yields None when nothing is to be had for the moment. `read` and `cursor` are what a source needs for
    its own `read` and `cursor`.
    """

    def __init__(
        self, stream: Stream, history: Sequence[ExchangeBar], items: Generator[Item | None], pacer: Pacer
    ) -> None:
        self._stream = stream
        self._order = TradeOrder(stream.instrument)
        self._history = history
        self._items = items
        self._pacer = pacer
        self._history_sent = 0
        self._file = 0
        self._line = 0
        self._clock = 0
        self._next: Item | None = None
        self._is_exhausted = False

    def resume(self, cursor: FeedCursor) -> None:
        """Continue behind what a cursor covers; `items` must begin there too."""
        self._history_sent = cursor.history
        self._file, self._line, self._clock = cursor.file, cursor.line, cursor.clock
        self._order.state = cursor.order
        self._stream.restore(cursor.stream)

    def cursor(self, origin: str) -> FeedCursor:
        """Return what has been read."""
        order, stream = self._order.state, self._stream.state()
        return FeedCursor(origin, self._history_sent, self._file, self._line, self._clock, order, stream)

    def close(self) -> None:
        """Let go of what the items are read from."""
        self._items.close()

    @property
    def is_finished(self) -> bool:
        """Whether all history and items were released, or the span is over."""
        is_read = self._is_exhausted and not self._order.state.held
        return self._stream.is_over or (is_read and self._history_sent >= len(self._history))

    def read(self, max_events: int, timeout_ms: int) -> list[MarketEvent | DeadInput]:
        """Return what is due, waiting at most the timeout for the first of it; a line's events stay together."""
        if self._history_sent < len(self._history):
            chunk = self._history[self._history_sent : self._history_sent + max_events]
            self._history_sent += len(chunk)
            return [event for bar in chunk for event in self._stream.accept(bar)]
        out: list[MarketEvent | DeadInput] = []
        while len(out) < max_events and not self._stream.is_over:
            item = self._peek()
            if item is None:
                if self._is_exhausted:
                    out.extend(release_rest(self._stream, self._order))
                break
            if not item.error and not self._pacer.wait_until_due(item.received_time, 0.0 if out else timeout_ms / 1000):
                break
            self._release(item, out)
        return out

    def _peek(self) -> Item | None:
        if self._next is None and not self._is_exhausted:
            try:
                self._next = next(self._items)
            except StopIteration:
                self._is_exhausted = True
        return self._next

    def _release(self, item: Item, out: list[MarketEvent | DeadInput]) -> None:
        self._next = None
        self._file, self._line, self._clock = item.file, item.line, item.clock
        out.extend(release(self._stream, self._order, item))


class FeedSource:
    """What sources over a `Feed` share: a subclass opens the feed and names the origin that cursors belong to."""

    def __init__(self, origin: str = "") -> None:
        self._origin = origin
        self._venue_error = ""
        self._feed: Feed | None = None

    def read(self, max_events: int, timeout_ms: int) -> Sequence[MarketEvent | DeadInput]:
        """Return what is due now."""
        return opened(self._feed).read(max_events, timeout_ms)

    def check_venue(self) -> None:
        """Raise `DependencyUnavailable` while what it reads from does not answer; a file always does."""
        if self._venue_error:
            raise DependencyUnavailable(self._venue_error)

    def feed_health(self) -> Sequence[FeedHealth]:
        """Return none: nothing is connected to that could fail."""
        return ()

    def cursor(self) -> bytes:
        """Return the position behind everything read so far."""
        return _CURSOR.encode(opened(self._feed).cursor(self._origin))

    @property
    def is_finished(self) -> bool:
        """Whether the items or the span have ended."""
        return opened(self._feed).is_finished

    def close(self) -> None:
        """Close what the feed reads."""
        if self._feed is not None:
            self._feed.close()


def decode_cursor(cursor: bytes) -> FeedCursor:
    """Read a cursor. Raises `BadInput` for one of another build or source."""
    try:
        return _CURSOR.decode(cursor)
    except StateMismatch as error:
        raise BadInput(str(error)) from error
