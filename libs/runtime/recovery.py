"""Brings a core to where its task stood: its last snapshot, then again what its journal says came since.

Outputs are withheld, because they are committed already; that is exact because cores are deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from libs.bus.api import Bus, BusError, TopicPartition
from libs.bus.errors import offset_gone
from libs.runtime.handler import CoreHandler, Decode
from libs.runtime.placement import Task, has_outside_producers
from libs.runtime.records import RunReader, read_last, read_range
from libs.wire.records import CoreSnapshot, decode_core_snapshot
from libs.wire.topics import journal_topic, state_topic


@dataclass(slots=True)
class Recovered:
    """Where a task stands: how many records were handled again, the next offsets of what it polls, and the offsets
    behind what it consumed in the transaction that published it."""

    records: int = 0
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    own_positions: Mapping[TopicPartition, int] = field(default_factory=dict)


def recover_core(
    bus: Bus, handler: CoreHandler, task: Task, decode: Decode, on_progress: Callable[[], None] = lambda: None
) -> Recovered:
    """Restore a handler from the task's last snapshot and feed it what the journal names since.

    Raises `OffsetGone` where the journal no longer reaches back to the snapshot.
    """
    journal = TopicPartition(journal_topic(task.service), task.partition)
    end = bus.end_offsets([journal])[journal]
    journal_from = bus.beginning_offsets([journal])[journal]
    recovered = Recovered()
    last = read_last(bus, state_topic(task.service), task.partition)
    snapshot = None if last is None else decode_core_snapshot(last.value)
    if snapshot is not None:
        handler.restore(snapshot.core, snapshot.seen)
        recovered.positions = dict(snapshot.positions)
        if snapshot.journal_next_offset < journal_from:
            raise offset_gone(journal, snapshot.journal_next_offset, journal_from)
        journal_from = snapshot.journal_next_offset
    elif journal_from > 0:
        raise offset_gone(journal, 0, journal_from)
    reader = RunReader(bus, own_starts(snapshot))
    try:
        for entry in read_range(bus, journal.topic, journal.partition, journal_from, end):
            for run in decode(entry.topic, entry.value).runs:
                if not run.own_producer:
                    if run.next_offset <= recovered.positions.get((run.topic, run.partition), 0):
                        # An older version took a stale end of the journal for the snapshot's place in it.
                        continue
                    recovered.positions[(run.topic, run.partition)] = run.next_offset
                for record in reader.take(run):
                    handler.handle(record, withholds=True)
                    on_progress()
                    recovered.records += 1
        recovered.own_positions = reader.own_positions()
    finally:
        reader.close()
    return recovered


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
    fit the journal.
    """
    # The journal and the offsets commit together; where they disagree, someone reset one of them, and going on would
    # skip or repeat inputs.
    positions = {TopicPartition(topic, number): at for (topic, number), at in recovered.positions.items()}
    committed = bus.committed(task.group, begins.keys() | positions.keys())
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
