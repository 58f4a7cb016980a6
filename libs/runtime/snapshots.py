"""What a service reads and writes by the registry, and where each of its snapshots stands among those topics.

A snapshot is of use while everything that follows it survives: retention keeps it that long, replay starts there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from libs.bus.api import Bus, NewRecord, Record, TopicPartition
from libs.clock import Clock
from libs.runtime.handler import CoreHandler
from libs.runtime.placement import Task
from libs.runtime.records import read_range, stamped_record
from libs.wire import Encoded
from libs.wire.records import (
    CoreSnapshot,
    InputRun,
    JournalEntry,
    decode_core_snapshot,
    encode_core_snapshot,
    encode_journal_entry,
)
from libs.wire.topics import RECORDED_TOPICS, TOPICS, dead_topic, journal_topic, state_topic

_OWN_TOPICS = ("journal.", "state.", "dead.")
JOURNALLED_SERVICES = tuple(topic.producers[0] for name, topic in TOPICS.items() if name.startswith("journal."))
"""The services with a core behind the shell, by the registry: each has a group, a journal and snapshots."""


@cache
def group_topics(group: str) -> Sequence[str]:
    """Return what a group reads, by the registry (a service's own journal is not read as input)."""
    if group == "recorder":
        return RECORDED_TOPICS
    return tuple(
        name for name, topic in TOPICS.items() if group in topic.consumers and not name.startswith(_OWN_TOPICS)
    )


def optional_topics(service: str) -> Sequence[str]:
    """Return what a service reads, by the registry, only where its core asks for it."""
    return tuple(topic for topic in group_topics(service) if service in TOPICS[topic].optional)


def input_places(bus: Bus, task: Task) -> list[TopicPartition]:
    """Return the partitions that a task reads: of its optional topics those in which its group stands anywhere."""
    counts = bus.topics()
    places = task.places(counts, group_topics(task.service))
    optional = task.places(counts, optional_topics(task.service))
    unread = {at for at, offset in bus.committed(task.group, optional).items() if offset is None} if optional else set()
    return [at for at in places if at not in unread]


@cache
def output_topics(service: str) -> Sequence[str]:
    """Return every topic that a service's core may write, by the registry, and where its dead letters go."""
    data = (name for name, topic in TOPICS.items() if service in topic.producers and not name.startswith(_OWN_TOPICS))
    return (*data, *(dead_topic(topic) for topic in group_topics(service)))


def partitions_of(bus: Bus, topics: Sequence[str]) -> list[TopicPartition]:
    """Return the partitions of those topics that exist."""
    counts = bus.topics()
    return [TopicPartition(topic, number) for topic in topics for number in range(counts.get(topic, 0))]


@dataclass(frozen=True, slots=True)
class SnapshotPlace:
    """Where a snapshot stands: its own offset, the next offsets of its service's inputs and journal, and the offsets
    at or behind which its later outputs lie; None where an older version did not note them."""

    offset: int
    append_time_ms: int
    inputs: Mapping[TopicPartition, int]
    outputs: Mapping[TopicPartition, int] | None
    journal: int

    def survives(
        self,
        inputs: Sequence[TopicPartition],
        outputs: Sequence[TopicPartition],
        begins: Mapping[TopicPartition, int],
    ) -> bool:
        """Whether all that its service read and wrote after it lies at or behind the first offsets `begins`."""
        if self.outputs is None:
            return False
        return all(self.inputs.get(at, 0) >= begins[at] for at in inputs) and all(
            self.outputs.get(at, 0) >= begins[at] for at in outputs
        )


def place_of(record: Record, snapshot: CoreSnapshot) -> SnapshotPlace:
    """Return where a snapshot stands."""
    return SnapshotPlace(
        record.offset,
        record.append_time_ms,
        {TopicPartition(*at): offset for at, offset in snapshot.positions.items()},
        {TopicPartition(*at): offset for at, offset in snapshot.outputs.items()} or None,
        snapshot.journal_next_offset,
    )


class SnapshotSchedule:
    """Says when a snapshot is due: after so many records, or so many seconds after the last one if there were any."""

    def __init__(self, clock: Clock, every_records: int, every_s: float) -> None:
        self._clock = clock
        self._every_records = every_records
        self._every_s = every_s
        self._records = 0
        self._written_at = clock.monotonic_s()

    @property
    def records(self) -> int:
        """How many records came since the last snapshot."""
        return self._records

    @property
    def is_due(self) -> bool:
        """Whether a snapshot is due now."""
        if self._records >= self._every_records:
            return True
        return self._records > 0 and self._clock.monotonic_s() - self._written_at >= self._every_s

    def add(self, records: int) -> None:
        """Count records that a snapshot does not cover yet."""
        self._records += records

    def note_written(self) -> None:
        """Begin anew: a snapshot covers everything so far."""
        self._records = 0
        self._written_at = self._clock.monotonic_s()


def take_snapshot(
    bus: Bus,
    handler: CoreHandler,
    task: Task,
    begins: Mapping[TopicPartition, int],
    handled: Mapping[tuple[str, int], int],
) -> CoreSnapshot:
    """Return the snapshot of a handler that has `handled` its inputs up to these offsets and committed what came of it.

    `begins` are the first offsets of its inputs, which stand for those that it has read nothing of yet.
    """
    outputs = task.places(bus.topics(), output_topics(task.service))
    journal = TopicPartition(journal_topic(task.service), task.partition)
    # What was committed lies before these ends, whatever other producers have open.
    ends = bus.end_offsets([journal, *outputs], with_uncommitted=True)
    return CoreSnapshot(
        task.service,
        handler.core.snapshot(),
        {**{(at.topic, at.partition): begin for at, begin in begins.items()}, **handled},
        ends[journal],
        handler.seen(),
        {(at.topic, at.partition): ends[at] for at in outputs},
    )


def journal_record(task: Task, runs: Sequence[InputRun], made_at: int) -> NewRecord:
    """Return the journal's record of what a transaction of a task consumed, made at a wall time, in ns."""
    entry = encode_journal_entry(JournalEntry(task.service, tuple(runs)))
    encoded = Encoded(journal_topic(task.service), state_key(task.partition), entry, "journal_entry")
    return stamped_record(encoded, task.name, made_at, partition=task.partition)


def snapshot_record(snapshot: CoreSnapshot, task: Task, made_at: int) -> NewRecord:
    """Return the record of a task's snapshot made at a wall time, in ns."""
    topic = state_topic(task.service)
    encoded = Encoded(topic, state_key(task.partition), encode_core_snapshot(snapshot), "core_snapshot")
    return stamped_record(encoded, task.name, made_at, partition=task.partition)


def state_key(partition: int) -> bytes:
    """Return the key of a service's journal entries and snapshots of a partition."""
    return b"%d" % partition


def read_snapshots(
    bus: Bus, service: str, partition: int, first: int, end: int
) -> Iterator[tuple[SnapshotPlace, CoreSnapshot]]:
    """Yield a service's snapshots with offsets in [first, end), oldest first."""
    for record in read_range(bus, state_topic(service), partition, first, end):
        snapshot = decode_core_snapshot(record.value)
        yield place_of(record, snapshot), snapshot
