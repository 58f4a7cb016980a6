"""The shell around a source of market events: events and the source's cursor commit together, or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from libs.bus.api import Bus, Footprint, NewRecord, Producer, TopicPartition
from libs.clock import Clock
from libs.domain.events import DeadInput
from libs.domain.market import Gap, MarketEvent
from libs.runtime.handler import encode_dead
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.opened import opened
from libs.runtime.records import commit_records, read_last, stamped_record
from libs.runtime.snapshots import state_key
from libs.wire import Encoded, encode
from libs.wire.records import DeadLetter, SourceCursor, decode_source_cursor, encode_source_cursor
from libs.wire.topics import MARKET_EVENTS, state_topic


@dataclass(frozen=True, slots=True)
class FeedHealth:
    """How the feed of one instrument is: what metrics and alerts tell of it.

    Ages in s are by kind of event, counts of further connections by stream; `book_levels` are of bids and asks. What is
    not known yet is None.
    """

    instrument: str
    message_ages_s: Mapping[str, float]
    reconnects: Mapping[str, int]
    clock_offset_s: float | None
    book_levels: tuple[int, int] | None


class EventSource(Protocol):
    """Yields market events and can be resumed exactly behind what it has yielded."""

    def open(self, cursor: bytes | None) -> None:
        """Begin, or resume behind what `cursor` covers. Raises `BadInput` or `DependencyUnavailable`."""
        ...

    def read(self, max_events: int, timeout_ms: int) -> Sequence[MarketEvent | DeadInput]:
        """Return what is due, at most `max_events`; empty after `timeout_ms`."""
        ...

    def cursor(self) -> bytes:
        """Return what covers everything `read` has returned."""
        ...

    def check_venue(self) -> None:
        """Raise `DependencyUnavailable` while what it reads from does not answer; may be called from any thread."""
        ...

    def feed_health(self) -> Sequence[FeedHealth]:
        """Return how the feeds are; none where there are no live ones."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether there will be nothing more."""
        ...

    def close(self) -> None:
        """Free what was opened."""
        ...


_LOOK_EVERY_S = 1.0


class SourceShell:
    """Publishes a source."""

    def __init__(
        self,
        service: str,
        source: EventSource,
        bus: Bus,
        metrics: ServiceMetrics,
        logger: structlog.stdlib.BoundLogger,
        *,
        clock: Clock,
        batch_max_records: int = 1000,
    ) -> None:
        self.service = service
        self._source = source
        self._bus = bus
        self._metrics = metrics
        self._logger = logger
        self._clock = clock
        self._batch_max_records = batch_max_records
        self._producer: Producer | None = None
        self._looked_s = 0.0
        self._reconnects: dict[tuple[str, str], int] = {}

    def open(self) -> None:
        """Fence any older process of this service and resume behind its last transaction."""
        counts = self._bus.topics()
        cursors = TopicPartition(state_topic(self.service), 0)
        events = (TopicPartition(MARKET_EVENTS, number) for number in range(counts.get(MARKET_EVENTS, 0)))
        self._producer = self._bus.producer(self.service, Footprint((cursors,), tuple(events)))
        last = read_last(self._bus, state_topic(self.service))
        cursor = None if last is None else decode_source_cursor(last.value).cursor
        self._source.open(cursor)
        self._logger.info("ready", resumed=cursor is not None)

    def step(self, timeout_ms: int) -> int:
        """Publish what is due; return how many events that was."""
        producer = opened(self._producer)
        self._note_feeds()
        events = self._source.read(self._batch_max_records, timeout_ms)
        if not events:
            return 0
        records = [self._record_of(event) for event in events]
        cursor = encode_source_cursor(SourceCursor(self.service, self._source.cursor()))
        encoded = Encoded(state_topic(self.service), state_key(0), cursor, "source_cursor")
        records.append(stamped_record(encoded, self.service, self._clock.now_ns(), partition=0))
        commit_records(producer, records)
        self._metrics.transactions.labels(self.service).inc()
        self._metrics.records_out.labels(self.service, MARKET_EVENTS).inc(len(events))
        return len(events)

    def _note_feeds(self) -> None:
        now = self._clock.monotonic_s()
        if now - self._looked_s < _LOOK_EVERY_S:
            return
        self._looked_s = now
        for feed in self._source.feed_health():
            names = (self.service, feed.instrument)
            for kind, age_s in feed.message_ages_s.items():
                self._metrics.message_age.labels(*names, kind).set(age_s)
            for stream, count in feed.reconnects.items():
                known = self._reconnects.get((feed.instrument, stream), 0)
                self._metrics.reconnects.labels(*names, stream).inc(count - known)
                self._reconnects[feed.instrument, stream] = count
            if feed.clock_offset_s is not None:
                self._metrics.clock_offset.labels(*names).set(feed.clock_offset_s)
            if feed.book_levels is not None:
                for side, levels in zip(("bids", "asks"), feed.book_levels, strict=True):
                    self._metrics.book_levels.labels(*names, side).set(levels)

    def _record_of(self, event: MarketEvent | DeadInput) -> NewRecord:
        if isinstance(event, DeadInput):
            self._metrics.dead_letters.labels(self.service, MARKET_EVENTS).inc()
            self._logger.error("dead letter", source=event.source, line=event.position, reason=event.reason)
            letter = DeadLetter(
                self.service, event.reason, MARKET_EVENTS, 0, event.position, event.source.encode(), event.payload
            )
            encoded = encode_dead(letter)
        else:
            if isinstance(event, Gap):
                self._metrics.gaps.labels(self.service, event.kind.name.lower(), event.state.name.lower()).inc()
            encoded = encode(event)
        return stamped_record(encoded, self.service, self._clock.now_ns())

    @property
    def is_finished(self) -> bool:
        """Whether the source has ended and everything is published."""
        return self._source.is_finished

    def close(self) -> None:
        """Let go; the cursor is committed already."""
        self._source.close()
        if self._producer is not None:
            self._producer.close()

    def release(self) -> None:
        """Let go after an error."""
        self.close()
