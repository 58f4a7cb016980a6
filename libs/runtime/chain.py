"""Several cores as one: what a core returns goes to those who read its topic at once, before the next record is polled.

One transaction publishes every topic as the services would, with a journal entry for each core, the offsets of each
core's group and now and then a snapshot of each, so that a session may run so or in a process per service. What a core
makes is handed on in one queue, each event to the cores in the order of `CASCADE_ORDER`: a market leads to the same
records, in the same order, as in a backtest. It refuses to start where the cores do not stand at one place, as they
do once a session has been drained.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import prometheus_client
import structlog

from libs.bus.api import (
    Bus,
    BusLost,
    BusUnavailable,
    Consumer,
    Footprint,
    NewRecord,
    Partitioner,
    Producer,
    Record,
    TopicPartition,
)
from libs.clock import Clock
from libs.domain.events import Core, Event
from libs.runtime.control_lane import ControlLane
from libs.runtime.errors import BadInput
from libs.runtime.handler import CoreHandler, Decode, Handled, Input, inputs_of
from libs.runtime.metrics import ByTopic, LagGauge, ServiceMetrics
from libs.runtime.opened import opened
from libs.runtime.outcomes import note_outcome
from libs.runtime.placement import Task, has_outside_producers
from libs.runtime.records import (
    NO_OFFSET_YET,
    PRODUCER,
    commit_groups,
    producer_of,
    read_range,
    read_stamps,
    stamped_record,
)
from libs.runtime.recovery import Recovered, find_positions, recover_core
from libs.runtime.snapshots import SnapshotSchedule, journal_record, snapshot_record, take_snapshot
from libs.wire import decode_any
from libs.wire.records import CoreSnapshot, InputRun
from libs.wire.topics import CASCADE_ORDER, dead_topic

# How long the group offsets of what only the chain itself writes may be behind: nobody but a person looks at them.
_SETTLE_EVERY_S = 1.0
_LAG_EVERY_S = 5.0
_CASCADE_LIMIT = 100_000

CheckOutputs = Callable[[Sequence[NewRecord]], None]


@dataclass(frozen=True, slots=True)
class ChainedCore:
    """A core of a chain: the task that it is, and what it reads."""

    task: Task
    core: Core
    inputs: Sequence[Input]


class EndlessCascade(RuntimeError):
    """One record led to more records than can be right: a core answers itself without end."""


class ChainShell:
    """Runs a chain of cores. `step` once per loop; `close` ends with snapshots.

    `name` is its transactional id. `choose` is the bus's partitioner. `checks` are shown the outputs of the account
    whose key they stand under before anything is committed; what one raises leaves all uncommitted.
    """

    def __init__(
        self,
        name: str,
        cores: Iterable[ChainedCore],
        bus: Bus,
        metrics: ServiceMetrics,
        logger: structlog.stdlib.BoundLogger,
        *,
        clock: Clock,
        choose: Partitioner,
        batch_max_records: int = 1000,
        snapshot_every_records: int = 20_000,
        snapshot_every_s: float = 3_600.0,
        checks: Mapping[bytes, CheckOutputs] | None = None,
        on_progress: Callable[[], None] = lambda: None,
        decode: Decode = decode_any,
    ) -> None:
        self._name = name
        self._decode_anew = decode
        self._bus = bus
        self._metrics = metrics
        self._logger = logger
        self._clock = clock
        self._choose = choose
        self._batch_max_records = batch_max_records
        self._snapshots = SnapshotSchedule(clock, snapshot_every_records, snapshot_every_s)
        self._checks = checks or {}
        self._on_progress = on_progress
        self._last_value: bytes = b""
        self._last_event: Event | None = None
        ordered = sorted(cores, key=lambda each: (CASCADE_ORDER.index(each.task.service), each.task.partition))
        self._members = [_Member(each, self._decode, metrics) for each in ordered]
        self._own_names = frozenset(each.task.name.encode() for each in self._members)
        self._routes: dict[tuple[str, int], tuple[_Member, ...]] = {}
        self._counts: Mapping[str, int] = {}
        self._inner: list[TopicPartition] = []
        self._inner_topics: frozenset[str] = frozenset()
        self._is_unsettled = False
        self._settled_at = 0.0
        self._last_lag_at = 0.0
        self._producer: Producer | None = None
        self._consumer: Consumer | None = None
        self._lane: ControlLane | None = None
        self._transactions = metrics.transactions.labels(name)
        self._handle_seconds = metrics.handle_seconds.labels(name)
        self._commit_seconds = metrics.commit_seconds.labels(name)

    @property
    def is_finished(self) -> bool:
        """There is always more to do."""
        return False

    def _decode(self, topic: str, value: bytes) -> Event:
        # Every member that reads a record asks for it, one after the other.
        if value is not self._last_value or self._last_event is None:
            self._last_event = None
            self._last_event = self._decode_anew(topic, value)
            self._last_value = value
        return self._last_event

    def open(self) -> None:
        """Fence older owners of these tasks, recover every core, and go on behind what was handled.

        Raises `BadInput` where the cores do not stand at one place.
        """
        # Fencing comes first: what is read after it cannot change under our feet. A service that runs by itself has
        # the ids of its tasks.
        self._counts = self._bus.topics()
        footprints = [each.task.footprint(self._counts) for each in self._members]
        alone = (at for each in footprints for at in each.alone)
        shared = dict.fromkeys(at for each in footprints for at in each.shared)
        self._producer = self._bus.producer(self._name, Footprint(tuple(alone), tuple(shared), (self._name,)))
        for each, footprint in zip(self._members, footprints, strict=True):
            self._bus.producer(each.task.name, footprint).close()
        recovered = 0
        for each in self._members:
            recovered += each.open(self._bus, self._counts, self._on_progress)
        self._publish_unjournalled()
        self._snapshots.add(recovered)
        places = sorted({at for each in self._members for at in each.starts})
        self._inner = [at for at in places if not has_outside_producers(at.topic)]
        self._inner_topics = frozenset(at.topic for at in self._inner)
        self._demand_drained()
        self._routes = {at: tuple(each for each in self._members if at in each.starts) for at in places}
        polled = {at: self._routes[at][0].starts[at] for at in places if has_outside_producers(at.topic)}
        self._consumer = self._bus.consumer(sorted({at.topic for at in polled}), group=self._name, subscribes=False)
        self._consumer.assign(polled)
        self._lane = ControlLane(
            self._bus,
            {at.topic for at in polled},
            {(at.topic, at.partition): offset for at, offset in polled.items()},
            self._clock.monotonic_s,
            own_producers=self._own_names,
        )
        self._is_unsettled = True
        tasks = [each.task.name for each in self._members]
        self._logger.info("ready", task=self._name, tasks=tasks, recovered_records=recovered)

    def _publish_unjournalled(self) -> None:
        """Put on record what was handled where no journal was kept (by Faust), so that it is handled again alike."""
        entries = [each.take_journal(self._clock.now_ns()) for each in self._members if each.runs]
        if entries:
            commit_groups(opened(self._producer), entries, ())

    def _demand_drained(self) -> None:
        ends = self._bus.end_offsets({at for each in self._members for at in each.starts})
        for each in self._members:
            for at, start in each.starts.items():
                if has_outside_producers(at.topic):
                    other = next(one for one in self._members if at in one.starts)
                    self._demand_same_place(at, other, each)
                elif start < ends[at] and any(read_range(self._bus, at.topic, at.partition, start, ends[at])):
                    raise BadInput(
                        f"{each.task.name} has not handled {at.topic}/{at.partition} from offset {start} on: drain the "
                        "session in the layout that it ran in, then change it"
                    )

    def _demand_same_place(self, at: TopicPartition, one: _Member, other: _Member) -> None:
        low, high = sorted((one.starts[at], other.starts[at]))
        if low < high and any(read_range(self._bus, at.topic, at.partition, low, high)):
            raise BadInput(
                f"{one.task.name} stands at {one.starts[at]} in {at.topic}/{at.partition}, {other.task.name} at "
                f"{other.starts[at]}: drain the session in the layout that it ran in, then change it"
            )

    def step(self, timeout_ms: int) -> int:
        """Handle one batch, if there is one within the time; return how many records it had."""
        polled = opened(self._consumer).poll(self._batch_max_records, timeout_ms)
        if polled:
            ordered = opened(self._lane).put_first(polled)
            records = [each for each in ordered if each.headers.get(PRODUCER) not in self._own_names]
            if records:
                self._process(records)
            self._pass_own(polled)
        elif self._snapshots.is_due or self._is_unsettled:
            self._settle(with_snapshots=self._snapshots.is_due)
        self._watch_lag()
        return len(polled)

    def _pass_own(self, polled: Sequence[Record]) -> None:
        """Move behind what a core of this chain made: it was handled in the transaction that published it."""
        for record in polled:
            if record.headers.get(PRODUCER) in self._own_names:
                self._is_unsettled = True
                for member in self._routes[record.topic, record.partition]:
                    member.pass_by(TopicPartition(record.topic, record.partition), record.offset + 1)

    def _process(self, records: Sequence[Record]) -> None:
        extra = self._take_snapshots() if self._snapshots.is_due else []
        if self._is_unsettled and self._clock.monotonic_s() - self._settled_at >= _SETTLE_EVERY_S:
            self._pass_inner()
        started = self._clock.monotonic_s()
        outputs: list[NewRecord] = []
        for record in records:
            self._cascade(record, outputs)
            self._on_progress()
        made = self._clock.monotonic_s()
        self._handle_seconds.observe(made - started)
        self._check(outputs)
        now = self._clock.now_ns()
        self._commit([*outputs, *(each.take_journal(now) for each in self._members if each.runs), *extra])
        self._commit_seconds.observe(self._clock.monotonic_s() - made)
        self._transactions.inc()
        self._observe(records, outputs)
        if extra:
            self._snapshots.note_written()
        self._snapshots.add(len(records))

    def _cascade(self, polled: Record, outputs: list[NewRecord]) -> None:
        queue = deque((polled,))
        for _ in range(_CASCADE_LIMIT):
            if not queue:
                return
            record = queue.popleft()
            for member in self._routes.get((record.topic, record.partition), ()):
                handled = member.handle(record)
                for each in self._collect(member, record, handled):
                    outputs.append(each)
                    assert each.partition is not None
                    queue.append(
                        Record(each.topic, each.partition, NO_OFFSET_YET, each.key, each.value, each.headers, 0)
                    )
        raise EndlessCascade(f"more than {_CASCADE_LIMIT} records came of one, of which {queue[0]!r:.200} is the next")

    def _collect(self, member: _Member, record: Record, handled: Handled) -> Iterable[NewRecord]:
        note_outcome(record, handled, member.task.service, self._metrics, self._logger)
        for each in handled.outputs:
            # A dead letter lies where its source does, whatever its key says.
            is_dead = each.topic == dead_topic(record.topic)
            place = record.partition if is_dead else self._choose(each.topic, each.key, self._counts[each.topic])
            yield stamped_record(each, member.name, self._clock.now_ns(), record.headers, place)

    def _check(self, outputs: Sequence[NewRecord]) -> None:
        opened(self._lane).check({each.topic for each in outputs})
        for key, check in self._checks.items():
            check([each for each in outputs if each.key == key])

    def _commit(self, records: Sequence[NewRecord]) -> None:
        groups = [(opened(each.consumer), each.to_commit) for each in self._members if each.to_commit]
        commit_groups(opened(self._producer), records, groups)
        for each in self._members:
            each.to_commit.clear()
        self._is_unsettled = self._is_unsettled or any(each.topic in self._inner_topics for each in records)

    def _settle(self, *, with_snapshots: bool) -> None:
        """Commit the groups' offsets behind what the chain itself wrote, and snapshots where asked to."""
        extra = self._take_snapshots() if with_snapshots else []
        self._pass_inner()
        if extra or any(each.to_commit for each in self._members):
            self._commit(extra)
        self._is_unsettled = False
        if extra:
            self._snapshots.note_written()

    def _pass_inner(self) -> None:
        # What is there was written by this chain, and handled before it was.
        for at, end in self._bus.end_offsets(self._inner, with_uncommitted=True).items():
            for member in self._routes[at]:
                member.pass_by(at, end)
        self._is_unsettled = False
        self._settled_at = self._clock.monotonic_s()

    def _take_snapshots(self) -> list[NewRecord]:
        self._pass_inner()
        shared = [at for at in self._routes if TopicPartition(*at) not in self._inner]
        ends = self._bus.end_offsets([TopicPartition(*at) for at in shared], with_uncommitted=True)
        now = self._clock.now_ns()
        return [snapshot_record(each.take_snapshot(self._bus, ends), each.task, now) for each in self._members]

    def _observe(self, records: Sequence[Record], outputs: Sequence[NewRecord]) -> None:
        last = {record.topic: record for record in records}
        now = self._clock.now_ns()
        for topic, count in Counter(record.topic for record in records).items():
            stamps = read_stamps(last[topic].headers)
            for member in self._members:
                if topic in member.topics:
                    member.records_in[topic].inc(count)
                    if stamps is not None:
                        member.hop_latency[topic].observe(max(0, now - stamps.made_at) / 1e9)
        made = Counter((producer_of(each.headers), each.topic) for each in outputs)
        for member in self._members:
            for (producer, topic), count in made.items():
                if producer == member.task.name:
                    member.records_out[topic].inc(count)

    def _watch_lag(self) -> None:
        now = self._clock.monotonic_s()
        if now - self._last_lag_at < _LAG_EVERY_S:
            return
        self._last_lag_at = now
        try:
            ends = self._bus.end_offsets(opened(self._consumer).assignment())
        except BusLost:
            raise
        except BusUnavailable:
            # Readiness says so; a metric must not end the process.
            return
        for member in self._members:
            lags: Counter[str] = Counter()
            for at in member.starts.keys() & ends.keys():
                lags[at.topic] += max(0, ends[at] - member.starts[at])
            member.lags.show(lags)

    def close(self) -> None:
        """Write snapshots, so that the next start has nothing to handle again, and let go."""
        if self._consumer is not None:
            self._settle(with_snapshots=bool(self._snapshots.records))
        self.release()

    def release(self) -> None:
        """Let go without writing anything, after an error."""
        if self._producer is not None:
            self._producer.close()
        if self._consumer is not None:
            self._consumer.close()
        for each in self._members:
            each.close()


def _as_read(new: NewRecord) -> Record:
    assert new.partition is not None, "the chain chooses it"
    return Record(new.topic, new.partition, NO_OFFSET_YET, new.key, new.value, new.headers, 0)


@dataclass(slots=True)
class _Run:
    topic: str
    partition: int
    first_offset: int
    next_offset: int
    own_producer: str
    own_records: int


class _Member:
    """A core with its place in every partition that it reads. `starts` are the next offsets to handle, `to_commit`
    those that its group has not heard of, `runs` what it consumed in the transaction in hand."""

    def __init__(self, chained: ChainedCore, decode: Decode, metrics: ServiceMetrics) -> None:
        self.task = chained.task
        self.name = chained.task.name
        self.topics = [each.topic for each in inputs_of(chained.core, chained.inputs)]
        self.handler = CoreHandler(self.task.service, chained.core, chained.inputs, self.task, decode)
        self.starts: dict[TopicPartition, int] = {}
        self.to_commit: dict[TopicPartition, int] = {}
        self.runs: list[_Run] = []
        self.consumer: Consumer | None = None
        service = self.task.service
        self.records_in = ByTopic[prometheus_client.Counter](metrics.records_in, service)
        self.records_out = ByTopic[prometheus_client.Counter](metrics.records_out, service)
        self.hop_latency = ByTopic[prometheus_client.Histogram](metrics.hop_latency, service)
        self.lags = LagGauge(metrics.lag, service)
        self._decode = decode
        self._begins: dict[TopicPartition, int] = {}

    def open(self, bus: Bus, counts: Mapping[str, int], on_progress: Callable[[], None]) -> int:
        """Recover the core; return how many records it handled again."""
        # Without topics it reads nothing: its offsets are the group's.
        self.consumer = bus.consumer((), group=self.task.group, subscribes=False)
        self._begins = dict(bus.beginning_offsets(self.task.places(counts, self.topics)))
        recovered = recover_core(bus, self.handler, self.task, self._decode, on_progress)
        self.starts = find_positions(bus, self.task, self._begins, recovered)
        # The group may not have heard of what the journal says.
        self.to_commit = dict(self.starts)
        return recovered.records + self._handle_unjournalled(bus, recovered, on_progress)

    def _handle_unjournalled(self, bus: Bus, recovered: Recovered, on_progress: Callable[[], None]) -> int:
        if len(self._begins) != 1:
            return 0
        (at,) = self._begins
        known = max(recovered.positions.get(at, self._begins[at]), recovered.own_positions.get(at, 0))
        count = 0
        for record in read_range(bus, at.topic, at.partition, known, self.starts[at]):
            self.handle(record)
            on_progress()
            count += 1
        return count

    def handle(self, record: Record) -> Handled:
        """Take one record, and note that it was consumed."""
        at = TopicPartition(record.topic, record.partition)
        is_own = record.offset == NO_OFFSET_YET
        producer = producer_of(record.headers) if is_own else ""
        last = self.runs[-1] if self.runs else None
        if last is None or (last.topic, last.partition, last.own_producer) != (*at, producer):
            last = _Run(*at, 0 if is_own else record.offset, 0, producer, 0)
            self.runs.append(last)
        if is_own:
            last.own_records += 1
        else:
            last.next_offset = record.offset + 1
            self.pass_by(at, last.next_offset)
        return self.handler.handle(record)

    def pass_by(self, at: TopicPartition, offset: int) -> None:
        """Go on at an offset."""
        if offset > self.starts.get(at, -1):
            self.starts[at] = self.to_commit[at] = offset

    def take_journal(self, made_at: int) -> NewRecord:
        """Return the journal's record of what was consumed, and begin anew."""
        runs = (
            InputRun(
                each.topic,
                each.partition,
                each.first_offset,
                each.next_offset,
                each.own_producer,
                each.own_records,
            )
            for each in self.runs
        )
        consumed = list(runs)
        self.runs = []
        return journal_record(self.task, consumed, made_at)

    def take_snapshot(self, bus: Bus, ends: Mapping[TopicPartition, int]) -> CoreSnapshot:
        """Return the snapshot; `ends` are behind all that the chain has written to what others write as well."""
        positions = {(at.topic, at.partition): offset for at, offset in self.starts.items()}
        own = {(at.topic, at.partition): ends.get(at, offset) for at, offset in self.starts.items()}
        taken = take_snapshot(bus, self.handler, self.task, self._begins, positions)
        return replace(taken, own_positions=own)

    def close(self) -> None:
        self.lags.clear()
        if self.consumer is not None:
            self.consumer.close()
