"""Reads the bus into the dashboard and the alert rules. Low-volume topics whole, market data by its newest records.

The reader belongs to no group and commits nothing: whatever it misses, nobody else does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from threading import Lock

import structlog

from libs.bus.api import Bus, Consumer, Producer, Record, TopicPartition
from libs.clock import SYSTEM_CLOCK, Clock
from libs.domain.control import Alert, ControlState
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.records import KIND, commit_records, stamped_record
from libs.wire import DecodeError, decode, encode
from libs.wire.records import decode_dead_letter
from libs.wire.topics import ALERTS, CONTROL_STATES, MARKET_EVENTS, TOPICS
from services.monitoring.core import SERVICE, AlertRules
from services.monitoring.dashboard import DEAD_LETTER_LIMIT, Dashboard
from services.monitoring.rows import Row
from services.monitoring.settings import MonitoringSettings

READ_TOPICS: tuple[str, ...] = tuple(
    name for name, topic in TOPICS.items() if SERVICE in topic.consumers and name != MARKET_EVENTS
)
_DEAD_TOPICS = frozenset(name for name in READ_TOPICS if name.startswith("dead."))
_COUNTED_TOPICS: tuple[str, ...] = tuple(name for name in TOPICS if not name.startswith(("journal.", "state.")))
# Only the newest of these says anything; every trade matters to the forming bar's high and low.
_NEWEST_ONLY = frozenset({"best_quote", "mark_price", "open_interest", "clock_tick"})
_EVERY_ONE = frozenset({"trade"})
_RATE_WINDOW = 6
_CATCH_UP_WITHIN_S = 5.0


class BusFeed:
    """One connection's reader. `step` does what is due; everything it finds goes to the dashboard under `lock`.

    It goes on at `positions`, the offsets behind what the dashboard has seen, and keeps them up to date: the reader of
    the next connection gets them.
    """

    def __init__(
        self,
        bus: Bus,
        dashboard: Dashboard,
        alerts: AlertRules,
        lock: Lock,
        settings: MonitoringSettings,
        metrics: ServiceMetrics,
        logger: structlog.stdlib.BoundLogger,
        *,
        clock: Clock = SYSTEM_CLOCK,
        watch_every_s: float = 1.0,
        positions: dict[TopicPartition, int] | None = None,
    ) -> None:
        self._bus = bus
        self._positions: dict[TopicPartition, int] = {} if positions is None else positions
        self._dashboard = dashboard
        self._alerts = alerts
        self._lock = lock
        self._settings = settings
        self._metrics = metrics
        self._logger = logger
        self._clock = clock
        self._watch_every_s = watch_every_s
        self._consumer: Consumer = bus.consumer(())
        self._market: Consumer = bus.consumer(())
        self._producer: Producer | None = None
        self._begins: dict[TopicPartition, int] = {}
        self._targets: dict[TopicPartition, int] = {}
        self._ends: deque[tuple[float, dict[str, int]]] = deque(maxlen=_RATE_WINDOW)
        self._refused_topics: set[str] = set()
        self._discovered_at = float("-inf")
        self._watched_at = float("-inf")
        self._sampled_at = float("-inf")

    @property
    def has_topics(self) -> bool:
        """Whether any of the topics exists yet."""
        return bool(self._targets)

    @property
    def is_caught_up(self) -> bool:
        """Whether everything that was in the log at the start has been read, or had the time to be.

        A partition that ends in a transaction's marker has an end that no reader reaches, hence the time.
        """
        if not self.has_topics:
            return False
        if self._clock.monotonic_s() - self._discovered_at >= _CATCH_UP_WITHIN_S:
            return True
        return all(self._consumer.position(at) >= end for at, end in self._targets.items())

    def step(self, timeout_ms: int) -> int:
        """Read what is new, waiting for it up to the time; return the number of records."""
        now_s = self._clock.monotonic_s()
        if now_s - self._watched_at >= self._watch_every_s:
            self._watched_at = now_s
            self._discover()
            self._count(now_s)
            self._publish_alerts()
        records = self._consumer.poll(2000, timeout_ms) if self._targets else ()
        if records:
            self._take(records)
            self._note_read(records)
        if now_s - self._sampled_at >= self._settings.push_interval_ms / 1000:
            self._sampled_at = now_s
            self._sample_market()
        return len(records)

    def close(self) -> None:
        """Free what was opened."""
        self._consumer.close()
        self._market.close()
        if self._producer is not None:
            self._producer.close()

    def _discover(self) -> None:
        """Take up topics that came into being since the last look."""
        partitions = self._bus.topics()
        found = [
            TopicPartition(name, number)
            for name in (*READ_TOPICS, MARKET_EVENTS)
            for number in range(partitions.get(name, 0))
        ]
        fresh = [at for at in found if at not in self._begins]
        if not fresh:
            return
        self._discovered_at = self._clock.monotonic_s()
        begins = self._bus.beginning_offsets(fresh)
        ends = self._bus.end_offsets(fresh)
        self._begins.update(begins)
        reading = {at: self._consumer.position(at) for at in self._consumer.assignment()}
        sampling = {at: self._market.position(at) for at in self._market.assignment()}
        for at in fresh:
            start = self._positions.get(at, ends[at] - self._history_of(at.topic))
            start = min(max(begins[at], start), ends[at])
            if at.topic == MARKET_EVENTS:
                sampling[at] = start
            else:
                reading[at] = start
                self._targets[at] = ends[at]
        if reading:
            self._consumer.assign(reading)
        if sampling:
            self._market.assign(sampling)

    def _history_of(self, topic: str) -> int:
        if topic == MARKET_EVENTS:
            return self._settings.market_sample_records
        if topic in _DEAD_TOPICS:
            return DEAD_LETTER_LIMIT
        # The state in force may be the oldest record there is; both topics are small.
        return 10**12 if topic in (CONTROL_STATES, ALERTS) else self._settings.history_records

    def _take(self, records: Iterable[Record]) -> None:
        with self._lock:
            for record in records:
                self._metrics.records_in.labels(SERVICE, record.topic).inc()
                if record.topic in _DEAD_TOPICS:
                    self._take_dead_letter(record)
                else:
                    self._take_event(record)

    def _take_event(self, record: Record) -> None:
        try:
            event = decode(record.topic, record.value)
        except DecodeError as error:
            self._put_aside(record, str(error))
            return
        self._dashboard.handle(event)
        if isinstance(event, Alert):
            self._alerts.adopt(event)
        elif isinstance(event, ControlState):
            self._alerts.handle(event)

    def _take_dead_letter(self, record: Record) -> None:
        row: Row = {"topic": record.topic, "offset": record.offset, "time_ms": record.append_time_ms}
        try:
            letter = decode_dead_letter(record.value)
            row.update(service=letter.service, reason=letter.reason, source_offset=letter.source_offset)
        except DecodeError as error:
            row.update(service="", reason=f"the dead letter itself cannot be read: {error}", source_offset=None)
        self._dashboard.add_dead_letter(row)

    def _put_aside(self, record: Record, reason: str) -> None:
        # Every consumer of the topic meets the same bytes and writes the dead letter; the page only counts.
        self._metrics.dead_letters.labels(SERVICE, record.topic).inc()
        if record.topic not in self._refused_topics:
            self._refused_topics.add(record.topic)
            self._logger.error("cannot be read", topic=record.topic, offset=record.offset, reason=reason)

    def _sample_market(self) -> None:
        places = self._market.assignment()
        if not places:
            return
        limit = self._settings.market_sample_records
        for at, end in self._bus.end_offsets(places).items():
            if end - self._market.position(at) > limit:
                self._market.seek(at, end - limit)
        chosen: list[Record] = []
        newest: dict[tuple[bytes, str], Record] = {}
        records = self._market.poll(limit * len(places), 0)
        for record in records:
            kind = record.headers.get(KIND, b"").decode(errors="replace")
            if kind in _EVERY_ONE:
                chosen.append(record)
            elif kind in _NEWEST_ONLY:
                newest[record.key, kind] = record
        if chosen or newest:
            self._take((*chosen, *newest.values()))
        self._note_read(records)

    def _note_read(self, records: Iterable[Record]) -> None:
        for record in records:
            self._positions[TopicPartition(record.topic, record.partition)] = record.offset + 1

    def _count(self, now_s: float) -> None:
        """Note how long every topic's log is and how fast it grows."""
        partitions = self._bus.topics()
        places = [TopicPartition(name, number) for name in _COUNTED_TOPICS for number in range(partitions.get(name, 0))]
        if not places:
            return
        ends = self._bus.end_offsets(places)
        # Retention moves them on.
        self._begins.update(self._bus.beginning_offsets(places))
        totals: dict[str, int] = {}
        counts: dict[str, int] = {}
        for at in places:
            totals[at.topic] = totals.get(at.topic, 0) + ends[at]
            counts[at.topic] = counts.get(at.topic, 0) + ends[at] - self._begins[at]
        has_grown = bool(self._ends) and totals.get(MARKET_EVENTS, 0) > self._ends[-1][1].get(MARKET_EVENTS, 0)
        self._ends.append((now_s, totals))
        older_s, older = self._ends[0]
        elapsed_s = now_s - older_s
        topics = {
            name: {
                "count": count,
                "rate": round((totals[name] - older.get(name, 0)) / elapsed_s, 2) if elapsed_s > 0 else None,
            }
            for name, count in counts.items()
        }
        now_ns = self._clock.now_ns()
        with self._lock:
            self._dashboard.set_topics(topics)
            if has_grown:
                self._alerts.saw_market(now_ns)
            dead = {name: count for name, count in counts.items() if name in _DEAD_TOPICS}
            self._alerts.saw_dead_letters(dead, now_ns)

    def _publish_alerts(self) -> None:
        """Raise and clear, once what was raised before this start is known."""
        if not self.is_caught_up or not any(at.topic == ALERTS for at in self._targets):
            return
        now_ns = self._clock.now_ns()
        with self._lock:
            changes = self._alerts.evaluate(now_ns)
            unrecorded = self._alerts.unrecorded
        log_alerts(self._logger, changes)
        if not unrecorded:
            return
        if self._producer is None:
            self._producer = self._bus.producer("monitoring-alerts")
        commit_records(self._producer, [stamped_record(encode(change), SERVICE, now_ns) for change in unrecorded])
        self._metrics.records_out.labels(SERVICE, ALERTS).inc(len(unrecorded))
        with self._lock:
            self._alerts.note_recorded(unrecorded)


def log_alerts(logger: structlog.stdlib.BoundLogger, changes: Iterable[Alert]) -> None:
    """Log what was raised and cleared."""
    for change in changes:
        logger.warning("alert", name=change.name, is_raised=change.is_raised, message=change.message)
