"""Brings a core to where its task stood: its last snapshot, then again what its journal says came since.

Outputs are withheld, because they are committed already; that is exact because cores are deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from libs.bus.api import Bus, BusError, Consumer, Record, TopicPartition
from libs.bus.errors import offset_gone
from libs.runtime.errors import BadInput
from libs.runtime.handler import CoreHandler, Decode
from libs.runtime.opened import opened
from libs.runtime.placement import Task, has_outside_producers
from libs.runtime.records import PATIENCE_POLLS, POLL_MS, RunReader, read_last
from libs.runtime.snapshots import optional_topics
from libs.wire.records import CoreSnapshot, decode_core_snapshot
from libs.wire.topics import journal_topic, state_topic

# How many of a journal's entries are taken at once.
_ENTRIES = 1_000


@dataclass(slots=True)
class Recovered:
    """Where a task stands: how many records were handled again, the next offsets of what it polls, and the offsets
    behind what it consumed in the transaction that published it."""

    records: int = 0
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    own_positions: Mapping[TopicPartition, int] = field(default_factory=dict)


class CoreRecovery:
    """Restores a handler from the task's last snapshot and feeds it what the journal names since.

    `catch_up` once recovers a core whose owner is gone. `follow` over and over keeps a core where an owner that goes on
    has brought its own, so that `catch_up` has little left to do.
    """

    def __init__(
        self, bus: Bus, handler: CoreHandler, task: Task, decode: Decode, on_progress: Callable[[], None] = lambda: None
    ) -> None:
        self._bus = bus
        self._handler = handler
        self._task = task
        self._decode = decode
        self._on_progress = on_progress
        self._journal = TopicPartition(journal_topic(task.service), task.partition)
        self._entries: Consumer | None = None
        self._reader: RunReader | None = None
        self._recovered = Recovered()

    def catch_up(self) -> Recovered:
        """Handle what the journal holds by now, and let go of it.

        Raises `OffsetGone` where the journal no longer reaches back to the snapshot.
        """
        end = self._bus.end_offsets([self._journal])[self._journal]
        if self._entries is None:
            self._begin()
        try:
            idle = 0
            # Behind the last entry there may be nothing but a transaction's marker.
            while opened(self._entries).position(self._journal) < end and idle < PATIENCE_POLLS:
                idle = 0 if self._take(POLL_MS, end) else idle + 1
            self._recovered.own_positions = opened(self._reader).own_positions()
        finally:
            self.close()
        return self._recovered

    def follow(self, timeout_ms: int) -> int:
        """Handle what the task's owner has added within the time; return how many transactions that was.

        Raises `OffsetGone` where something was removed before it was followed: begin anew, with a core that has seen
        nothing, at a later snapshot.
        """
        if self._entries is None:
            self._begin()
        return self._take(timeout_ms, None)

    def close(self) -> None:
        """Let go of what was opened."""
        if self._entries is not None:
            self._entries.close()
        if self._reader is not None:
            self._reader.close()
        self._entries = self._reader = None

    def _begin(self) -> None:
        bus, journal = self._bus, self._journal
        journal_from = bus.beginning_offsets([journal])[journal]
        self._recovered = Recovered()
        last = read_last(bus, state_topic(self._task.service), self._task.partition)
        snapshot = None if last is None else decode_core_snapshot(last.value)
        if snapshot is not None:
            self._handler.restore(snapshot.core, snapshot.seen)
            self._recovered.positions = dict(snapshot.positions)
            if snapshot.journal_next_offset < journal_from:
                raise offset_gone(journal, snapshot.journal_next_offset, journal_from)
            journal_from = snapshot.journal_next_offset
        elif journal_from > 0:
            raise offset_gone(journal, 0, journal_from)
        self._reader = RunReader(bus, own_starts(snapshot))
        self._entries = bus.consumer([journal.topic])
        self._entries.assign({journal: journal_from})

    def _take(self, timeout_ms: int, end: int | None) -> int:
        entries = opened(self._entries).poll(_ENTRIES, timeout_ms)
        for entry in entries:
            if end is None or entry.offset < end:
                self._handle(entry)
        return len(entries)

    def _handle(self, entry: Record) -> None:
        recovered = self._recovered
        for run in self._decode(entry.topic, entry.value).runs:
            if not run.own_producer:
                if run.next_offset <= recovered.positions.get((run.topic, run.partition), 0):
                    # An older version took a stale end of the journal for the snapshot's place in it.
                    continue
                recovered.positions[(run.topic, run.partition)] = run.next_offset
            for record in opened(self._reader).take(run):
                self._handler.handle(record, withholds=True)
                self._on_progress()
                recovered.records += 1


def recover_core(
    bus: Bus, handler: CoreHandler, task: Task, decode: Decode, on_progress: Callable[[], None] = lambda: None
) -> Recovered:
    """Bring a handler to where its task stands. Raises as `CoreRecovery.catch_up`."""
    return CoreRecovery(bus, handler, task, decode, on_progress).catch_up()


def own_starts(snapshot: CoreSnapshot | None) -> dict[TopicPartition, int]:
    """Return from where on a partition may hold what the task consumed in the transaction that published it."""
    if snapshot is None:
        return {}
    return {TopicPartition(*at): offset for at, offset in {**snapshot.positions, **snapshot.own_positions}.items()}


def find_positions(
    bus: Bus, task: Task, begins: Mapping[TopicPartition, int], recovered: Recovered
) -> dict[TopicPartition, int]:
    """Return the offsets from which a recovered task goes on in the partitions whose first offsets are given.

    Raises `OffsetGone` where inputs were removed before they were handled, `BusError` where the group's offsets do not
    fit the journal, `BadInput` where the task reads other topics than it did before.
    """
    # The journal and the offsets commit together; where they disagree, someone reset one of them, and going on would
    # skip or repeat inputs.
    positions = {TopicPartition(topic, number): at for (topic, number), at in recovered.positions.items()}
    committed = bus.committed(task.group, begins.keys() | positions.keys())
    _demand_same_topics(bus, task, begins, recovered)
    starts: dict[TopicPartition, int] = {}
    for where, offset in committed.items():
        begin = begins.get(where, 0)
        start = begin if offset is None else offset
        if start < begin:
            raise offset_gone(where, start, begin)
        at = positions.get(where, start)
        if start < at:
            raise BusError(
                f"group {task.group} stands at {offset} in {where.topic}/{where.partition}, but its journal "
                f"has handled up to {at}; restore the group's offsets or start a new session"
            )
        if where in begins:
            starts[where] = start
    for where, at in recovered.own_positions.items():
        # The offsets of what nobody else writes follow with the next transaction.
        if where in starts and not has_outside_producers(where.topic):
            starts[where] = max(starts[where], at)
    return starts


def _demand_same_topics(bus: Bus, task: Task, begins: Mapping[TopicPartition, int], recovered: Recovered) -> None:
    """Refuse a core that reads an optional topic which its task did not read so far, or no longer does."""
    optional = task.places(bus.topics(), optional_topics(task.service))
    for at, offset in bus.committed(task.group, optional).items() if optional else ():
        if at in begins and offset is None and recovered.positions:
            did, does = "did not read", "do now"
        elif at not in begins and offset is not None:
            did, does = "read", "do not any more"
        else:
            continue
        raise BadInput(
            f"the settings of {task.name} {did} {at.topic} so far and {does}: start a new session, or set them as they "
            "were"
        )
