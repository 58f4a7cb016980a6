"""Polls sources outside the market for their readings, each at its own pace, beside the reading of the market.

A source that is absent is logged once and asked again; it delays nothing and nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import structlog

from libs.alternative_data.api import Collection, ReadingSource, collect_readings
from libs.clock import SYSTEM_CLOCK, Clock
from libs.domain.events import DeadInput
from libs.domain.market import ExchangeBar, MarketEvent, OutsideReading
from libs.domain.numbers import NANOSECONDS
from libs.domain.readings import READING_SERIES, SERIES_OF_METRIC
from libs.runtime.source import EventSource, FeedHealth

# Readings of these are given out once a day or more rarely, the others by the minute or five of them.
_SLOW_S: Final = 600.0
_EVERY_S: Final = {"glassnode": 3600.0, "fear_greed": _SLOW_S, "headlines": 120.0, "peer": 20.0, "spot": 20.0}
_OTHERS_EVERY_S: Final = 60.0
_OVERLAP: Final = 2
"""A source is asked for twice as far back as its readings count, so that a late one is not missed."""


def pace_of(source: str) -> float:
    """Return the seconds between two requests to a source."""
    return _EVERY_S.get(source, _OTHERS_EVERY_S)


@dataclass(slots=True)
class _Polled:
    source: ReadingSource
    reach_ns: int
    due_s: float
    future: Future[Collection] | None = None
    is_absent: bool = False


class ReadingPoller:
    """Asks sources in a thread of its own; `take` hands over what is new, as events of an instrument's market.

    No source is asked more often than its pace, and one request runs at a time.
    """

    def __init__(
        self,
        instrument: str,
        sources: Sequence[ReadingSource],
        logger: structlog.stdlib.BoundLogger,
        *,
        clock: Clock = SYSTEM_CLOCK,
        close_sources: Callable[[], None] = lambda: None,
    ) -> None:
        self._instrument = instrument
        self._clock = clock
        self._logger = logger
        self._close_sources = close_sources
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="readings")
        self._polled = [_Polled(source, _reach_of(source.name), clock.monotonic_s()) for source in sources]
        self._given: dict[tuple[str, int], float] = {}

    def take(self, event_time: int) -> list[OutsideReading]:
        """Return the readings that have come and were not given before, by publication; ask the sources that are due.

        `event_time` is the market's time, ns.
        """
        now_s, now_ns = self._clock.monotonic_s(), self._clock.now_ns()
        events: list[OutsideReading] = []
        for each in self._polled:
            if each.future is not None and each.future.done():
                events += self._take_collection(each, each.future.result(), event_time, now_ns)
                each.future = None
            if each.future is None and each.due_s <= now_s:
                each.due_s = now_s + pace_of(each.source.name)
                each.future = self._pool.submit(
                    collect_readings, (each.source,), now_ns - each.reach_ns, now_ns + NANOSECONDS
                )
        return events

    @property
    def is_idle(self) -> bool:
        """Whether nothing that was asked for is still to be taken."""
        return all(each.future is None for each in self._polled)

    def close(self) -> None:
        """Ask nothing more; a request that is under way is waited for."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._close_sources()

    def _take_collection(
        self, polled: _Polled, collection: Collection, event_time: int, now_ns: int
    ) -> list[OutsideReading]:
        for absence in collection.absences:
            if not polled.is_absent:
                self._logger.warning("outside source is absent", source=absence.source, reason=absence.reason)
        polled.is_absent = bool(collection.absences)
        events = []
        for reading in collection.readings:
            series = SERIES_OF_METRIC.get((reading.source, reading.metric))
            if series is None:
                continue
            key = series.name, reading.published_time
            if self._given.get(key) == reading.value:
                continue
            self._given[key] = reading.value
            event_id = f"{self._instrument}/reading/{series.name}/{reading.published_time}/{reading.value!r}"
            events.append(
                OutsideReading(
                    self._instrument,
                    event_id,
                    event_time,
                    now_ns,
                    series.name,
                    reading.published_time,
                    reading.value,
                )
            )
        self._forget(polled, now_ns)
        return events

    def _forget(self, polled: _Polled, now_ns: int) -> None:
        names = {one.name for one in READING_SERIES.values() if one.source == polled.source.name}
        oldest = now_ns - polled.reach_ns
        self._given = {key: value for key, value in self._given.items() if key[0] not in names or key[1] >= oldest}


def _reach_of(source: str) -> int:
    return max(
        (_OVERLAP * (one.lag_ns + one.max_age_ns) for one in READING_SERIES.values() if one.source == source),
        default=3600 * NANOSECONDS,
    )


class SourceWithReadings:
    """An `EventSource` of one instrument with the readings that its poller brings, at the time the market is at.

    Before the market's first event there is no such time, and readings wait.
    """

    def __init__(self, source: EventSource, poller: ReadingPoller) -> None:
        self._source = source
        self._poller = poller
        self._market_time = 0

    def open(self, cursor: bytes | None) -> None:
        """Open the market's source. Raises as that does."""
        self._source.open(cursor)

    def read(self, max_events: int, timeout_ms: int) -> Sequence[MarketEvent | DeadInput]:
        """Return what came of the market and, behind it, what came from outside."""
        events = self._source.read(max_events, timeout_ms)
        for event in events:
            if not isinstance(event, DeadInput | ExchangeBar):
                self._market_time = max(self._market_time, event.event_time)
        if not self._market_time or self._source.is_finished:
            return events
        return [*events, *self._poller.take(self._market_time)]

    def cursor(self) -> bytes:
        """Return the position of the market's source; a reading that is given again changes nothing."""
        return self._source.cursor()

    def check_venue(self) -> None:
        """Raise `DependencyUnavailable` where the market's source does; an outside source is never needed."""
        self._source.check_venue()

    def feed_health(self) -> Sequence[FeedHealth]:
        """Return how the market's feed is."""
        return self._source.feed_health()

    @property
    def is_finished(self) -> bool:
        """Whether the market has ended."""
        return self._source.is_finished

    def close(self) -> None:
        """Close both."""
        self._poller.close()
        self._source.close()
