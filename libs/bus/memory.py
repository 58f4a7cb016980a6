"""The bus inside one process, for tests and the backtest: the promises of the others, without a file or a broker.

Threads may share a `MemoryBus` object or open the same name; every log lives as long as a bus that has it open.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self
from weakref import WeakValueDictionary

from libs.bus.api import (
    NO_FOOTPRINT,
    BusError,
    Consumer,
    Footprint,
    GroupMoved,
    NewRecord,
    Partitioner,
    ProducerFenced,
    Record,
    Start,
    TopicPartition,
    TopicSpec,
    hash_partition,
)
from libs.bus.checks import TransactionGuard, check_assigned, check_group, check_member, check_open, foreign_consumer
from libs.bus.clients import OpenClients
from libs.bus.memory_log import MemoryLog, MemoryPartition
from libs.bus.names import Names
from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Deadline, Entropy

_logs: WeakValueDictionary[str, MemoryLog] = WeakValueDictionary()
_logs_lock = threading.Lock()
_GROUP_CHECK_S = 1.0


class MemoryBus:
    """A bus in memory. Buses opened with the same `name` in a process are one log; without a name each is its own."""

    def __init__(
        self,
        name: str = "",
        *,
        prefix: str = "",
        clock: Clock = SYSTEM_CLOCK,
        entropy: Entropy = SYSTEM_ENTROPY,
        partitioner: Partitioner = hash_partition,
    ) -> None:
        self._names = Names(prefix)
        self._partitioner = partitioner
        if not name:
            self._log = MemoryLog(clock, entropy)
        else:
            with _logs_lock:
                self._log = _logs.setdefault(name, MemoryLog(clock, entropy))
        self._open = OpenClients()
        self._counts: tuple[int, dict[str, int]] = (-1, {})

    def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        with self._log.lock:
            for spec in specs:
                self._log.create(TopicSpec(self._names.stored(spec.name), spec.partitions))

    def delete_topics(self, names: Iterable[str]) -> None:
        with self._log.lock:
            for name in names:
                self._log.delete(self._names.stored(name))

    def topics(self) -> Mapping[str, int]:
        with self._log.lock:
            version, counts = self._counts
            if version != self._log.version:
                counts = {
                    self._names.plain(name): len(topic.partitions)
                    for name, topic in sorted(self._log.topics.items())
                    if self._names.has(name)
                }
                self._counts = self._log.version, counts
            return dict(counts)

    def consumer(
        self,
        topics: Sequence[str],
        *,
        group: str | None = None,
        member_id: str | None = None,
        start: Start = "earliest",
        subscribes: bool = True,
    ) -> MemoryConsumer:
        opened = MemoryConsumer(
            self._log, self._names, topics, group=group, member_id=member_id, start=start, subscribes=subscribes
        )
        return self._open.add(opened)

    def producer(self, transactional_id: str, _footprint: Footprint = NO_FOOTPRINT, /) -> MemoryProducer:
        opened = MemoryProducer(self._log, self._names, transactional_id, self._partitioner)
        return self._open.add(opened)

    def beginning_offsets(self, topic_partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        with self._log.lock:
            return {each: self._log.partition(self._names.stored_place(each)).head() for each in topic_partitions}

    def end_offsets(
        self,
        topic_partitions: Iterable[TopicPartition],
        *,
        with_uncommitted: bool = False,  # noqa: ARG002
    ) -> Mapping[TopicPartition, int]:
        # An open transaction is not in the log: both ends are the same.
        with self._log.lock:
            return {each: self._log.partition(self._names.stored_place(each)).next_offset for each in topic_partitions}

    def offsets_for_times(self, times_ms: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        with self._log.lock:
            return {
                each: self._log.partition(self._names.stored_place(each)).first_since(at)
                for each, at in times_ms.items()
            }

    def committed(self, group: str, topic_partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int | None]:
        with self._log.lock:
            known = self._log.groups.get(self._names.stored(group))
            found: dict[TopicPartition, int | None] = {}
            for each in topic_partitions:
                self._log.partition(self._names.stored_place(each))
                found[each] = None if known is None else known.offsets.get(self._names.stored_place(each))
            return found

    def ping(self) -> None:
        """Do nothing: the log lives in this process."""

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        with self._log.lock:
            for place, offset in offsets.items():
                self._log.delete_before(self._names.stored_place(place), offset)

    def close(self) -> None:
        self._open.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class MemoryProducer:
    """Collects a transaction and appends it at `commit`. A commit that raises leaves it open: commit again or abort."""

    def __init__(self, log: MemoryLog, names: Names, transactional_id: str, partitioner: Partitioner) -> None:
        self._log = log
        self._names = names
        self._partitioner = partitioner
        self._name = transactional_id
        self._stored_name = names.stored(transactional_id)
        self._transaction = TransactionGuard(transactional_id)
        self._rows: list[tuple[TopicPartition, NewRecord]] = []
        self._offsets: list[tuple[MemoryConsumer, dict[TopicPartition, int]]] = []
        with log.lock:
            self._epoch = log.epochs[self._stored_name] = log.epochs.get(self._stored_name, 0) + 1

    @property
    def is_closed(self) -> bool:
        return self._transaction.is_closed

    def begin(self) -> None:
        self._transaction.begin()

    def send(self, records: Iterable[NewRecord]) -> None:
        self._transaction.require("send")
        names, log = self._names, self._log
        with log.lock:
            for record in records:
                stored = record
                if not names.are_stored_as_they_are:
                    stored = replace(record, topic=names.stored(record.topic))
                partition = record.partition
                if partition is None:
                    count = len(log.topic(stored.topic).partitions)
                    partition = self._partitioner(record.topic, record.key, count)
                place = TopicPartition(stored.topic, partition)
                log.partition(place)
                self._rows.append((place, stored))

    def send_offsets(self, consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        self._transaction.require("send_offsets")
        if not isinstance(consumer, MemoryConsumer):
            raise foreign_consumer(self._name)
        self._offsets.append((consumer, consumer.stored_offsets(offsets)))

    def commit(self) -> None:
        self._transaction.require("commit")
        log = self._log
        with log.lock:
            if log.epochs[self._stored_name] != self._epoch:
                raise ProducerFenced(
                    f"producer {self._name} was taken over by a newer one with the same id: stop this process"
                )
            for consumer, _ in self._offsets:
                consumer.require_current()
            log.append(self._rows)
            for consumer, offsets in self._offsets:
                consumer.write_offsets(offsets)
            log.changed.notify_all()
        self._clear()

    def abort(self) -> None:
        self._transaction.require("abort")
        self._clear()

    def close(self) -> None:
        self._transaction.is_closed = True
        self._clear()

    def _clear(self) -> None:
        self._transaction.end()
        self._rows = []
        self._offsets = []


class MemoryConsumer:
    """A reader of a memory bus."""

    def __init__(
        self,
        log: MemoryLog,
        names: Names,
        topics: Sequence[str],
        *,
        group: str | None,
        member_id: str | None,
        start: Start,
        subscribes: bool,
    ) -> None:
        check_member(group, member_id)
        self._log = log
        self._names = names
        self._topics = frozenset(map(names.stored, topics))
        self._group = names.stored(group) if group is not None else None
        self._is_static = member_id is not None
        if member_id is None:
            member_id = "" if group is None else f"dynamic-{log.entropy.token_hex(8)}"
        self._member = member_id
        self._start: Start = start
        self._positions: dict[TopicPartition, int] = {}
        self._order: list[TopicPartition] = []
        # The logs of its partitions, looked up anew where topics came or went.
        self._logs: dict[TopicPartition, MemoryPartition] = {}
        self._logs_version = -1
        self._turn = 0
        self._generation = -1
        self._token = 0
        self._shares = group is not None and subscribes
        self.is_closed = False
        with log.lock:
            for topic in self._topics:
                log.topic(topic)
            if self._group is not None:
                log.join(self._group)
            if self._group is not None and self._shares:
                self._token = log.enter(self._group, self._member, self._topics, is_static=self._is_static)
                self._follow_group(self._group)

    def poll(self, max_records: int, timeout_ms: int) -> Sequence[Record]:
        self._require_open()
        deadline = Deadline(timeout_ms / 1000, self._log.clock)
        with self._log.lock:
            while True:
                if self._shares and self._group is not None:
                    self._follow_group(self._group)
                records = self._read(max_records)
                if records or deadline.is_over:
                    return records
                self._log.changed.wait(min(deadline.left_s, _GROUP_CHECK_S))

    def _read(self, max_records: int) -> list[Record]:
        records: list[Record] = []
        order = self._order
        if len(order) > 1:
            # Another partition goes first each time, so that none waits for ever behind a busy one.
            turn = self._turn % len(order)
            order = order[turn:] + order[:turn]
        self._turn += 1
        if self._logs_version != self._log.version:
            self._logs = {place: self._log.partition(place) for place in self._positions}
            self._logs_version = self._log.version
        positions, logs = self._positions, self._logs
        for place in order:
            at, log = positions[place], logs[place]
            if at >= log.next_offset:
                continue
            room = max_records - len(records)
            if room <= 0:
                break
            found = log.read(place, at, room)
            positions[place] = found[-1].offset + 1
            records += found
        names = self._names
        if names.are_stored_as_they_are:
            return records
        return [each._replace(topic=names.plain(each.topic)) for each in records]

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        with self._log.lock:
            stored = self._stored(positions)
            if self._shares and self._group is not None:
                self._log.leave(self._group, self._member, self._token)
                self._shares = False
            self._read_from(stored)

    def seek(self, topic_partition: TopicPartition, offset: int) -> None:
        self._positions[self._assigned(topic_partition)] = offset

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(map(self._names.plain_place, self._positions))

    @property
    def has_share(self) -> bool:
        return self._shares

    def position(self, topic_partition: TopicPartition) -> int:
        return self._positions[self._assigned(topic_partition)]

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        stored = self.stored_offsets(offsets)
        with self._log.lock:
            self.require_current()
            self.write_offsets(stored)

    def stored_offsets(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        """Translate offsets to the names of the log, for a producer of the same bus."""
        check_group(self._group)
        with self._log.lock:
            return self._stored(offsets)

    def require_current(self) -> None:
        """Raise `GroupMoved` when the group went on without this member. The caller holds the log."""
        self._require_open()
        if not self._shares or self._group is None:
            return
        group = self._log.groups[self._group]
        known = group.members.get(self._member)
        if known is None or known.token != self._token or group.generation != self._generation:
            raise GroupMoved(
                f"group {self._group} went on without member {self._member}: nothing was committed; "
                "abort, then poll for the new assignment or stop this process"
            )

    def write_offsets(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the group's offsets. The caller holds the log."""
        self._log.groups[check_group(self._group)].offsets.update(offsets)

    def close(self) -> None:
        with self._log.lock:
            if self._shares and self._group is not None:
                self._log.leave(self._group, self._member, self._token)
                self._shares = False
            self.is_closed = True

    def _require_open(self) -> None:
        check_open(self._group, is_closed=self.is_closed)

    def _stored(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, int]:
        stored = {self._names.stored_place(at): offset for at, offset in offsets.items()}
        for place in stored:
            self._log.partition(place)
        return stored

    def _assigned(self, place: TopicPartition) -> TopicPartition:
        stored = self._names.stored_place(place)
        check_assigned(place, {place} if stored in self._positions else ())
        return stored

    def _follow_group(self, group_name: str) -> None:
        log = self._log
        log.expel_gone(group_name)
        group = log.groups[group_name]
        known = group.members.get(self._member)
        if known is None:
            self._token = log.enter(group_name, self._member, self._topics, is_static=self._is_static)
        elif known.token != self._token:
            raise BusError(f"another consumer took over as member {self._member} of group {group_name}: stop this one")
        if group.generation == self._generation:
            return
        self._generation = group.generation
        mine = log.share(group_name, self._member)
        self._read_from(
            {
                place: self._positions[place]
                if place in self._positions
                else self._first_position(group.offsets, place)
                for place in mine
            }
        )

    def _read_from(self, positions: dict[TopicPartition, int]) -> None:
        self._positions = positions
        self._order = sorted(positions)
        self._logs_version = -1

    def _first_position(self, offsets: Mapping[TopicPartition, int], place: TopicPartition) -> int:
        committed = offsets.get(place)
        if committed is not None:
            return committed
        log = self._log.partition(place)
        return log.head() if self._start == "earliest" else log.next_offset
