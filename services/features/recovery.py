"""The core of features where Faust drives it: recovered from its last snapshot and the bars behind it.

Faust keeps a group's offset and nothing else, and reads again what it had not committed. The snapshot says up to which
bar the core has come and every output is out, so a bar before that is not taken twice.
"""

from __future__ import annotations

from collections.abc import Callable

from libs.bus.api import Bus, NewRecord, Record, TopicPartition
from libs.bus.errors import offset_gone
from libs.clock import Clock
from libs.runtime.handler import REPEAT, CoreHandler, Handled
from libs.runtime.placement import Task
from libs.runtime.records import read_last, read_range
from libs.runtime.snapshots import SnapshotSchedule, snapshot_record, take_snapshot
from libs.wire.records import decode_core_snapshot
from libs.wire.topics import BARS_CLOSED, state_topic


class RecoveredCore:
    """A handler of one input partition with its place in it. `recover` first, then `take` every record in order."""

    def __init__(
        self,
        handler: CoreHandler,
        task: Task,
        bus: Bus,
        clock: Clock,
        *,
        snapshot_every_records: int,
        snapshot_every_s: float,
    ) -> None:
        self._handler = handler
        self._task = task
        self._where = TopicPartition(BARS_CLOSED, task.partition)
        self._bus = bus
        self._clock = clock
        self._snapshots = SnapshotSchedule(clock, snapshot_every_records, snapshot_every_s)
        self._begin = 0
        self._next = 0

    @property
    def task(self) -> Task:
        """The task whose core it is."""
        return self._task

    def recover(self, on_progress: Callable[[], None] = lambda: None) -> int:
        """Bring the core to where it stood; return the offset of the next record that is new to it.

        Raises `OffsetGone` where records were removed that are needed for that.
        """
        service = self._handler.service
        self._begin = self._bus.beginning_offsets([self._where])[self._where]
        committed = self._bus.committed(service, [self._where])[self._where]
        if committed is not None and committed < self._begin:
            raise offset_gone(self._where, committed, self._begin)
        last = read_last(self._bus, state_topic(service), self._where.partition)
        at = 0 if committed is not None else self._begin
        if last is not None:
            snapshot = decode_core_snapshot(last.value)
            self._handler.restore(snapshot.core, snapshot.seen)
            at = snapshot.positions[self._where.topic, self._where.partition]
        # A snapshot may be ahead of what was committed: its outputs are out, and `take` drops what is read again.
        target = at if committed is None else max(at, committed)
        if at < self._begin:
            raise offset_gone(self._where, at, self._begin)
        for record in read_range(self._bus, self._where.topic, self._where.partition, at, target):
            self._handler.handle(record)
            self._snapshots.add(1)
            on_progress()
        self._next = target
        return target

    def take(self, record: Record) -> Handled:
        """Handle a record; one from before the recovered place is a repeat."""
        if record.offset < self._next:
            return REPEAT
        handled = self._handler.handle(record)
        self._next = record.offset + 1
        self._snapshots.add(1)
        return handled

    @property
    def is_snapshot_due(self) -> bool:
        """Whether a snapshot should be published now."""
        return self._snapshots.is_due

    def make_snapshot(self) -> NewRecord:
        """Return a snapshot to publish. Everything that came of what `take` was given must be out by then."""
        handled = {(self._where.topic, self._where.partition): self._next}
        snapshot = take_snapshot(self._bus, self._handler, self._task, {self._where: self._begin}, handled)
        self._snapshots.note_written()
        return snapshot_record(snapshot, self._task, self._clock.now_ns())


class PartitionCores:
    """A recovered core for each partition that is being read, made when its first record comes.

    While replicas share the partitions, a rebalance drops every core: a partition may come back after another replica
    has gone on with it.
    """

    def __init__(self, make_core: Callable[[int], RecoveredCore], *, is_shared: bool) -> None:
        self._make_core = make_core
        self._is_shared = is_shared
        self._cores: dict[int, RecoveredCore] = {}

    def get(self, partition: int) -> RecoveredCore | None:
        """Return the core of a partition where it is there already."""
        return self._cores.get(partition)

    def recover(self, partition: int, on_progress: Callable[[], None] = lambda: None) -> RecoveredCore:
        """Make and recover the core of a partition. Raises as `RecoveredCore.recover`."""
        core = self._make_core(partition)
        core.recover(on_progress)
        self._cores[partition] = core
        return core

    def note_rebalance(self) -> None:
        """Give up what another replica may own from now on."""
        if self._is_shared:
            self._cores = {}
