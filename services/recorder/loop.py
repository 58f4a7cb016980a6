"""Reads all topics, gathers rows, writes them, and only then commits offsets.

A crash between writing and committing repeats records, which the tables' keys make harmless; so nothing is lost and
nothing counts twice. While ClickHouse is down rows are held, up to a bound, and reading goes on where it stopped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Generic, Protocol, TypeVar

import structlog
from prometheus_client import Counter, Gauge, Histogram

from libs.bus.api import Consumer, GroupMoved, Record, TopicPartition, Waiting
from libs.clock import SYSTEM_CLOCK, Clock
from libs.runtime.errors import BadInput
from libs.runtime.metrics import ByTopic, ServiceMetrics
from libs.runtime.opened import opened
from libs.runtime.records import read_stamps
from libs.store import AccessRefused, MigrationMismatch, StoreUnavailable
from services.recorder.settings import RecorderSettings

NAME = "recorder"


class Rows(Protocol):
    """Records of one topic, ready to be written."""

    @property
    def row_count(self) -> int:
        """How many records."""
        ...

    @property
    def undecodable(self) -> Sequence[tuple[int, int, str]]:
        """Partition and offset of those that could not be decoded, and the reason."""
        ...


RowsT = TypeVar("RowsT", bound=Rows)
RowsT_contra = TypeVar("RowsT_contra", bound=Rows, contravariant=True)


class RecordStore(Protocol[RowsT_contra]):
    """What the recorder needs of a store."""

    def migrate(self) -> Sequence[int]:
        """Bring the tables to this version."""
        ...

    def insert_batch(self, batch: RowsT_contra) -> int:
        """Write records of one topic and return how many; repeating them changes nothing."""
        ...


class RecorderLoop(Generic[RowsT]):
    """Takes a consumer of every topic, a store, and what makes the store's rows of a topic's records."""

    def __init__(
        self,
        open_consumer: Callable[[], Consumer],
        store: RecordStore[RowsT],
        build: Callable[[str, Sequence[Record]], RowsT],
        settings: RecorderSettings,
        metrics: ServiceMetrics,
        logger: structlog.stdlib.BoundLogger,
        *,
        clock: Clock = SYSTEM_CLOCK,
        waiting: Waiting = nullcontext,
    ) -> None:
        self._open_consumer = open_consumer
        self._consumer: Consumer | None = None
        self._store = store
        self._build = build
        self._settings = settings
        self._metrics = metrics
        self._records_in = ByTopic[Counter](metrics.records_in, NAME)
        self._hop_latency = ByTopic[Histogram](metrics.hop_latency, NAME)
        self._transactions = metrics.transactions.labels(NAME)
        self._handle_seconds = metrics.handle_seconds.labels(NAME)
        self._commit_seconds = metrics.commit_seconds.labels(NAME)
        self._logger = logger
        self._clock = clock
        self._waiting = waiting
        self._records: dict[str, list[Record]] = {}
        self._unwritten: deque[RowsT] = deque()
        self._buffered = 0
        self._oldest_at = 0.0
        self._offsets: dict[TopicPartition, int] = {}
        self._is_migrated = False
        self._store_error = ""
        self._retry_at = 0.0
        self._retry_ms = settings.retry_min_ms
        self._reachable = Gauge(
            "perpflow_store_up", "Whether ClickHouse took the last write", ("service",), registry=metrics.registry
        ).labels(NAME)
        self._held = Gauge(
            "perpflow_buffered_rows", "Rows read but not yet written", ("service",), registry=metrics.registry
        ).labels(NAME)
        self._reachable.set(1)

    @property
    def is_finished(self) -> bool:
        """Never: topics have no end."""
        return False

    def check_store(self) -> None:
        """Raise `StoreUnavailable` while ClickHouse does not take rows; may be called from any thread."""
        if self._store_error:
            raise StoreUnavailable(f"{self._store_error}; {self._buffered} rows are held")

    def open(self) -> None:
        """Subscribe. ClickHouse may still be down."""
        self._consumer = self._open_consumer()

    def step(self, timeout_ms: int) -> int:
        """Read for at most the time given, write what is due; return how many records were read."""
        consumer = opened(self._consumer)
        now = self._clock.monotonic_s()
        if self._buffered >= self._settings.max_buffered_rows:
            self._clock.sleep(min(timeout_ms / 1000, max(0.0, self._retry_at - now)))
            self._flush_if_due()
            return 0
        wait_ms = timeout_ms
        if self._buffered:
            due_at = max(self._oldest_at + self._settings.flush_interval_ms / 1000, self._retry_at)
            wait_ms = max(0, min(timeout_ms, int((due_at - now) * 1000)))
        records = consumer.poll(self._settings.poll_max_records, wait_ms)
        if records:
            self._take(records)
        self._flush_if_due()
        return len(records)

    def flush(self) -> bool:
        """Write everything held and commit its offsets; false where ClickHouse is down and all is still held."""
        consumer = opened(self._consumer)
        started = self._clock.monotonic_s()
        try:
            with self._waiting():
                self._migrate_once()
            while self._unwritten or self._records:
                if not self._unwritten:
                    self._build_rows()
                with self._waiting():
                    self._buffered -= self._store.insert_batch(self._unwritten[0])
                self._unwritten.popleft()
        except (AccessRefused, MigrationMismatch) as error:
            raise BadInput(str(error)) from error
        except StoreUnavailable as error:
            self._note_down(error)
            return False
        self._note_up()
        self._commit_offsets(consumer)
        self._held.set(0)
        self._commit_seconds.observe(self._clock.monotonic_s() - started)
        return True

    def _commit_offsets(self, consumer: Consumer) -> None:
        # What was read of a partition that another replica has now is in the tables, and that one writes it again.
        held = consumer.assignment()
        self._offsets = {at: offset for at, offset in self._offsets.items() if at in held}
        if not self._offsets:
            return
        try:
            consumer.commit(self._offsets)
        except GroupMoved:
            # The next poll tells what is still held; its offsets are committed with the next flush.
            self._logger.info("the replicas share the topics out anew")
            return
        self._offsets = {}
        self._transactions.inc()

    def close(self) -> None:
        """Write what is held and leave. What cannot be written stays uncommitted and is read again next time."""
        if self._consumer is not None:
            if not self.flush():
                self._logger.warning("left unwritten, to be read again", rows=self._buffered)
            self._consumer.close()

    def release(self) -> None:
        """Leave without writing."""
        if self._consumer is not None:
            self._consumer.close()

    def _take(self, records: Sequence[Record]) -> None:
        if not self._buffered:
            self._oldest_at = self._clock.monotonic_s()
        by_topic: dict[str, list[Record]] = {}
        last: dict[tuple[str, int], Record] = {}
        for record in records:
            topic = record.topic
            rows = by_topic.get(topic)
            if rows is None:
                rows = by_topic[topic] = []
            rows.append(record)
            last[topic, record.partition] = record
        self._offsets |= {TopicPartition(*place): record.offset + 1 for place, record in last.items()}
        latest = {record.topic: record for record in last.values()}
        now_ns = self._clock.now_ns()
        for topic, rows in by_topic.items():
            self._records.setdefault(topic, []).extend(rows)
            self._records_in[topic].inc(len(rows))
            stamps = read_stamps(latest[topic].headers)
            if stamps is not None:
                self._hop_latency[topic].observe(max(0, now_ns - stamps.made_at) / 1e9)
        self._buffered += len(records)
        self._held.set(self._buffered)

    def _flush_if_due(self) -> None:
        if self._clock.monotonic_s() < self._retry_at or not (self._buffered or self._offsets or not self._is_migrated):
            return
        age_ms = (self._clock.monotonic_s() - self._oldest_at) * 1000
        is_due = self._buffered >= self._settings.batch_rows or age_ms >= self._settings.flush_interval_ms
        if is_due or not self._is_migrated:
            self.flush()

    def _migrate_once(self) -> None:
        if not self._is_migrated:
            applied = self._store.migrate()
            self._is_migrated = True
            if applied:
                self._logger.info("tables made", migrations=list(applied))

    def _build_rows(self) -> None:
        started = self._clock.monotonic_s()
        for topic, records in self._records.items():
            # The first time it may have to be compiled.
            with self._waiting():
                batch = self._build(topic, records)
            for partition, offset, reason in batch.undecodable:
                self._metrics.dead_letters.labels(NAME, topic).inc()
                self._logger.error("undecodable", topic=topic, partition=partition, offset=offset, reason=reason)
            self._unwritten.append(batch)
        self._records.clear()
        self._handle_seconds.observe(self._clock.monotonic_s() - started)

    def _note_down(self, error: StoreUnavailable) -> None:
        if not self._store_error:
            self._logger.error("store is down, rows are held", reason=str(error), rows=self._buffered)
        self._store_error = str(error)
        self._reachable.set(0)
        self._retry_at = self._clock.monotonic_s() + self._retry_ms / 1000
        self._retry_ms = min(self._retry_ms * 2, self._settings.retry_max_ms)

    def _note_up(self) -> None:
        if self._store_error:
            self._logger.info("store is back")
        self._store_error = ""
        self._reachable.set(1)
        self._retry_at = 0.0
        self._retry_ms = self._settings.retry_min_ms
