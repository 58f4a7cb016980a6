"""Reads several instruments as one source, for one cursor and one transaction: each in its own order, roughly by time.

Order between instruments is nobody's business: each has a partition's order of its own, or shares one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from libs.domain.events import DeadInput
from libs.domain.market import MarketEvent
from libs.domain.state import StateFormat, StateMismatch
from libs.runtime.errors import BadInput
from libs.runtime.source import EventSource, FeedHealth

# Few, so that no instrument runs far ahead of the others in time.
_BATCH = 200
_LONGEST_WAIT_MS = 10


@dataclass(frozen=True, slots=True)
class MergedCursor:
    """The cursor of each instrument's source."""

    cursors: dict[str, bytes]


_CURSOR = StateFormat("merged-cursor", 1, MergedCursor)


class MergedSource:
    """An `EventSource` over the sources of several instruments, by instrument."""

    def __init__(self, sources: Mapping[str, EventSource]) -> None:
        self._sources = dict(sources)
        self._reached = dict.fromkeys(self._sources, 0)

    def open(self, cursor: bytes | None) -> None:
        """Open every source. Raises as they do, and `BadInput` for a cursor of other instruments."""
        cursors: Mapping[str, bytes] = {}
        if cursor is not None:
            try:
                cursors = _CURSOR.decode(cursor).cursors
            except StateMismatch as error:
                raise BadInput(str(error)) from error
            if cursors.keys() != self._sources.keys():
                raise BadInput(
                    f"this session was reading {', '.join(sorted(cursors))}, not {', '.join(sorted(self._sources))}; "
                    "start a new session for other instruments"
                )
        for instrument, source in self._sources.items():
            source.open(cursors.get(instrument))

    def read(self, max_events: int, timeout_ms: int) -> Sequence[MarketEvent | DeadInput]:
        """Return what is due, a little of the instrument that is furthest behind again and again.

        Where nothing is, each instrument is waited for in turn, for its share of a short time.
        """
        out: list[MarketEvent | DeadInput] = []
        while len(out) < max_events and self._read_next(out, max_events, 0):
            pass
        if not out:
            wait_ms = min(timeout_ms, max(1, _LONGEST_WAIT_MS // len(self._sources)))
            self._read_next(out, max_events, wait_ms)
        return out

    def _read_next(self, out: list[MarketEvent | DeadInput], max_events: int, wait_ms: int) -> bool:
        """Read of the first that has something, the one furthest behind first; tell whether one had."""
        waiting = (name for name, source in self._sources.items() if not source.is_finished)
        for name in sorted(waiting, key=self._reached.__getitem__):
            events = self._sources[name].read(min(max_events - len(out), _BATCH), wait_ms)
            if events:
                times = (event.received_time for event in events if not isinstance(event, DeadInput))
                self._reached[name] = max(times, default=self._reached[name])
                out += events
                return True
        return False

    def cursor(self) -> bytes:
        """Return what covers everything read of every source."""
        return _CURSOR.encode(MergedCursor({name: source.cursor() for name, source in self._sources.items()}))

    def check_venue(self) -> None:
        """Raise `DependencyUnavailable` where one of the sources does."""
        for source in self._sources.values():
            source.check_venue()

    def feed_health(self) -> Sequence[FeedHealth]:
        """Return how the feeds of all sources are."""
        return [feed for source in self._sources.values() for feed in source.feed_health()]

    @property
    def is_finished(self) -> bool:
        """Whether every source has ended."""
        return all(source.is_finished for source in self._sources.values())

    def close(self) -> None:
        """Close every source, all at once: each waits for its connections."""
        with ThreadPoolExecutor(len(self._sources)) as pool:
            for closing in [pool.submit(source.close) for source in self._sources.values()]:
                closing.result()
