"""The shell around a core: one transaction holds outputs, journal, input offsets and, now and then, a snapshot.

Start-up and crash recovery are the same path: restore the last snapshot, handle again what the journal says came
since, its outputs withheld because they are committed already, and go on at the committed offsets. Snapshots come by
count and by time, so that this takes seconds. It refuses to skip anything: an unexpected error leaves the transaction
uncommitted and stops the process, and so do inputs that were removed before they were handled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import prometheus_client
import structlog

from libs.bus.api import (
    Bus,
    BusLost,
    BusUnavailable,
    Consumer,
    NewRecord,
    Producer,
    Record,
    TopicPartition,
)
from libs.clock import Clock
from libs.domain.events import Core
from libs.runtime.control_lane import ACTING_TOPICS, ControlLane
from libs.runtime.handler import CoreHandler, Decode, Handled, Input, inputs_of
from libs.runtime.metrics import ByTopic, LagGauge, ServiceMetrics
from libs.runtime.opened import opened
from libs.runtime.outcomes import note_outcome
from libs.runtime.placement import Task
from libs.runtime.records import commit_records, read_stamps, stamped_record
from libs.runtime.recovery import CoreRecovery, find_positions
from libs.runtime.snapshots import (
    SnapshotSchedule,
    journal_record,
    optional_topics,
    snapshot_record,
    take_snapshot,
)
from libs.wire import decode_any
from libs.wire.records import InputRun
from libs.wire.topics import dead_topic, journal_topic


class CoreShell:
    """Runs one core over its inputs. `step` once per loop; `close` ends with a snapshot.

    `task` is the partition it works on, the only one by default. A snapshot is due after so many records,
    or so many seconds after the last one where anything was handled since. `check_outputs` is shown a batch's outputs
    before they are committed; what it raises leaves them uncommitted. `on_progress` is called at every record.
    Outputs to `acting_topics` are not committed once a command has come while the batch was in hand.
    """

    def __init__(
        self,
        service: str,
        core: Core,
        inputs: Sequence[Input],
        bus: Bus,
        metrics: ServiceMetrics,
        logger: structlog.stdlib.BoundLogger,
        *,
        clock: Clock,
        batch_max_records: int = 1000,
        snapshot_every_records: int = 20_000,
        snapshot_every_s: float = 3_600.0,
        task: Task | None = None,
        check_outputs: Callable[[Sequence[NewRecord]], None] | None = None,
        on_progress: Callable[[], None] = lambda: None,
        acting_topics: frozenset[str] = ACTING_TOPICS,
        decode: Decode = decode_any,
    ) -> None:
        self.service = service
        self._task = task = task or Task(service)
        self._name = task.name
        self._handler = CoreHandler(service, core, inputs, task, decode)
        self._inputs = inputs_of(core, inputs)
        self._bus = bus
        self._metrics = metrics
        self._logger = logger
        self._clock = clock
        self._batch_max_records = batch_max_records
        self._snapshots = SnapshotSchedule(clock, snapshot_every_records, snapshot_every_s)
        self._check_outputs = check_outputs
        self._on_progress = on_progress
        self._journal = TopicPartition(journal_topic(service), task.partition)
        self._begins: dict[TopicPartition, int] = {}
        self._acting_topics = acting_topics
        self._handled_positions: dict[tuple[str, int], int] = {}
        self._last_lag_at = 0.0
        self._lags = LagGauge(metrics.lag, service)
        self._transactions = metrics.transactions.labels(service)
        self._records_in = ByTopic[prometheus_client.Counter](metrics.records_in, service)
        self._records_out = ByTopic[prometheus_client.Counter](metrics.records_out, service)
        self._hop_latency = ByTopic[prometheus_client.Histogram](metrics.hop_latency, service)
        self._handle_seconds = metrics.handle_seconds.labels(service)
        self._commit_seconds = metrics.commit_seconds.labels(service)
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None
        self._lane: ControlLane | None = None
        self._recovery = CoreRecovery(bus, self._handler, task, decode, on_progress)

    def follow(self, timeout_ms: int) -> int:
        """Before `open`, keep up with the task's owner for so long, so that little is left to recover; return how many
        of its transactions that was.

        Raises `OffsetGone` where what the owner did was removed before it was followed: begin anew with another core.
        """
        return self._recovery.follow(timeout_ms)

    def open(self) -> None:
        """Fence any older owner of this task, recover the state, and go on behind what was handled."""
        # Fencing comes first: what is read after it cannot change under our feet.
        counts = self._bus.topics()
        self._producer = self._bus.producer(self._task.name, self._task.footprint(counts))
        topics = [each.topic for each in self._inputs]
        self._consumer = self._bus.consumer(topics, group=self._task.group, subscribes=False)
        self._begins = dict(self._bus.beginning_offsets(self._task.places(counts, topics)))
        recovered = self._recovery.catch_up()
        self._handled_positions = recovered.positions
        self._snapshots.add(recovered.records)
        starts = find_positions(self._bus, self._task, self._begins, recovered)
        self._note_optional(starts)
        self._consumer.assign(starts)
        self._lane = ControlLane(
            self._bus,
            (each.topic for each in self._inputs),
            self._handled_positions,
            self._clock.monotonic_s,
            self._acting_topics,
        )
        self._logger.info("ready", task=self._task.name, recovered_records=recovered.records)

    def _note_optional(self, starts: Mapping[TopicPartition, int]) -> None:
        """Commit where the task begins in its optional topics: what has no offset there counts as not reading them."""
        optional = [at for at in starts if at.topic in optional_topics(self.service)]
        unknown = [at for at, offset in self._bus.committed(self._task.group, optional).items() if offset is None]
        if unknown:
            offsets = {at: starts[at] for at in unknown}
            commit_records(opened(self._producer), (), opened(self._consumer), offsets)

    def step(self, timeout_ms: int) -> int:
        """Handle one batch, if there is one within the time; return how many records it had."""
        polled = opened(self._consumer).poll(self._batch_max_records, timeout_ms)
        records = opened(self._lane).put_first(polled) if polled else polled
        if records:
            self._process(records)
        elif self._snapshots.is_due:
            self._write_snapshot()
        self._watch_lag()
        return len(polled)

    def _process(self, records: Sequence[Record]) -> None:
        extra = [self._snapshot_record()] if self._snapshots.is_due else []
        started = self._clock.monotonic_s()
        outputs: list[NewRecord] = []
        runs: list[list[int | str]] = []
        for record in records:
            handled = self._handler.handle(record)
            self._note_run(runs, record)
            self._collect(outputs, record, handled)
            self._on_progress()
        self._observe_inputs(records)
        made = self._clock.monotonic_s()
        self._handle_seconds.observe(made - started)
        self._commit(outputs, extra, runs)
        self._commit_seconds.observe(self._clock.monotonic_s() - made)
        self._transactions.inc()
        if extra:
            self._snapshots.note_written()
        self._snapshots.add(len(records))

    def _write_snapshot(self) -> None:
        commit_records(opened(self._producer), [self._snapshot_record()])
        self._snapshots.note_written()

    def _note_run(self, runs: list[list[int | str]], record: Record) -> None:
        if runs and runs[-1][0] == record.topic and runs[-1][1] == record.partition:
            runs[-1][3] = record.offset + 1
        else:
            runs.append([record.topic, record.partition, record.offset, record.offset + 1])

    def _collect(self, outputs: list[NewRecord], record: Record, handled: Handled) -> None:
        note_outcome(record, handled, self.service, self._metrics, self._logger)
        for each in handled.outputs:
            # A dead letter lies where its source does, whatever its key says.
            partition = record.partition if each.topic == dead_topic(record.topic) else None
            outputs.append(stamped_record(each, self._name, self._clock.now_ns(), record.headers, partition))

    def _commit(self, outputs: list[NewRecord], extra: list[NewRecord], runs: list[list[int | str]]) -> None:
        written = Counter(output.topic for output in outputs)
        opened(self._lane).check(written)
        if self._check_outputs is not None:
            self._check_outputs(outputs)
        consumed = [InputRun(str(run[0]), int(run[1]), int(run[2]), int(run[3])) for run in runs]
        journal = journal_record(self._task, consumed, self._clock.now_ns())
        offsets = {TopicPartition(run.topic, run.partition): run.next_offset for run in consumed}
        commit_records(opened(self._producer), [*outputs, journal, *extra], opened(self._consumer), offsets)
        for run in consumed:
            self._handled_positions[(run.topic, run.partition)] = run.next_offset
        for topic, count in written.items():
            self._records_out[topic].inc(count)

    def _snapshot_record(self) -> NewRecord:
        snapshot = take_snapshot(self._bus, self._handler, self._task, self._begins, self._handled_positions)
        return snapshot_record(snapshot, self._task, self._clock.now_ns())

    def _observe_inputs(self, records: Sequence[Record]) -> None:
        last = {record.topic: record for record in records}
        now = self._clock.now_ns()
        for topic, count in Counter(record.topic for record in records).items():
            self._records_in[topic].inc(count)
            stamps = read_stamps(last[topic].headers)
            if stamps is not None:
                self._hop_latency[topic].observe(max(0, now - stamps.made_at) / 1e9)

    def _watch_lag(self) -> None:
        now = self._clock.monotonic_s()
        if now - self._last_lag_at < 5.0:
            return
        self._last_lag_at = now
        try:
            ends = self._bus.end_offsets(opened(self._consumer).assignment())
        except BusLost:
            raise
        except BusUnavailable:
            # Readiness says so; a metric must not end the process.
            return
        lags: Counter[str] = Counter()
        for where, end in ends.items():
            lags[where.topic] += max(0, end - self._handled_positions.get((where.topic, where.partition), 0))
        self._lags.show(lags)

    def has_waiting_control(self) -> bool:
        """Whether a command has come that the core has not handled; the bus is read anew."""
        return opened(self._lane).has_waiting()

    def close(self) -> None:
        """Write a snapshot, so that the next start has nothing to handle again, and let go."""
        self._lags.clear()
        if self._producer is not None:
            if self._consumer is not None and self._snapshots.records:
                self._write_snapshot()
            self._producer.close()
        if self._consumer is not None:
            self._consumer.close()

    def release(self) -> None:
        """Let go without writing anything, after an error."""
        self._recovery.close()
        self._lags.clear()
        if self._producer is not None:
            self._producer.close()
        if self._consumer is not None:
            self._consumer.close()
