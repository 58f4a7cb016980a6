"""The state behind `MemoryBus`: topics, offsets, epochs and groups of one process, under one lock."""

from __future__ import annotations

import threading
from bisect import bisect_left
from dataclasses import dataclass, field

from libs.bus.api import NewRecord, Record, TopicPartition, TopicSpec, UnknownTopic
from libs.bus.checks import check_partition, check_same_partitions, check_spec
from libs.bus.errors import offset_gone, past_the_end
from libs.bus.groups import STATIC_MEMBER_GRACE_MS, share_partitions
from libs.clock import Clock, Entropy


@dataclass(slots=True)
class MemoryPartition:
    """One log. `records` is in offset order without gaps, from `head()` on."""

    records: list[Record] = field(default_factory=list)
    next_offset: int = 0

    def head(self) -> int:
        """Return the oldest offset kept, the next offset where none is."""
        return self.next_offset - len(self.records)

    def first_since(self, time_ms: int) -> int:
        """Return the first offset appended at or after a time, the next offset where none was."""
        at = bisect_left(self.records, time_ms, key=lambda record: record.append_time_ms)
        return self.records[at].offset if at < len(self.records) else self.next_offset

    def read(self, place: TopicPartition, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from an offset on; `place` is named in errors. Raises `OffsetGone`."""
        head = self.head()
        if offset < head:
            raise offset_gone(place, offset, head)
        return self.records[offset - head : offset - head + limit]


@dataclass(slots=True)
class MemoryTopic:
    """A topic with its logs."""

    spec: TopicSpec
    partitions: list[MemoryPartition]


@dataclass(slots=True)
class MemoryMember:
    """A member of a group. `token` tells its incarnations apart; `gone_since` is monotonic seconds, None while open."""

    token: int
    topics: frozenset[str]
    is_static: bool
    gone_since: float | None = None


@dataclass(slots=True)
class MemoryGroup:
    """A group: its generation rises with every change of its members."""

    generation: int = 0
    members: dict[str, MemoryMember] = field(default_factory=dict)
    offsets: dict[TopicPartition, int] = field(default_factory=dict)


class MemoryLog:
    """What every `MemoryBus` of one name shares. Callers hold `lock`, that of `changed`, around every method and field.

    `version` rises with every topic that comes or goes.
    """

    def __init__(self, clock: Clock, entropy: Entropy) -> None:
        self.clock = clock
        self.entropy = entropy
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.version = 0
        self.topics: dict[str, MemoryTopic] = {}
        self.groups: dict[str, MemoryGroup] = {}
        self.epochs: dict[str, int] = {}
        self._tokens = 0

    def topic(self, name: str) -> MemoryTopic:
        """Return a topic. Raises `UnknownTopic`."""
        found = self.topics.get(name)
        if found is None:
            raise UnknownTopic(f"topic {name} does not exist on the memory bus: create it first")
        return found

    def partition(self, place: TopicPartition) -> MemoryPartition:
        """Return a log. Raises `UnknownTopic`, or `BusError` for a number out of range."""
        logs = self.topic(place.topic).partitions
        check_partition(place, len(logs))
        return logs[place.partition]

    def create(self, spec: TopicSpec) -> None:
        """Create a topic, or check that it exists alike. Raises `BusError`."""
        check_spec(spec)
        known = self.topics.get(spec.name)
        if known is None:
            self.topics[spec.name] = MemoryTopic(spec, [MemoryPartition() for _ in range(spec.partitions)])
            self.version += 1
        else:
            check_same_partitions(spec, len(known.partitions))

    def delete(self, name: str) -> None:
        """Delete a topic with its committed offsets, where it exists."""
        if self.topics.pop(name, None) is None:
            return
        self.version += 1
        for group in self.groups.values():
            group.offsets = {place: offset for place, offset in group.offsets.items() if place.topic != name}

    def append(self, rows: list[tuple[TopicPartition, NewRecord]]) -> None:
        """Append records at once. Raises `UnknownTopic` before anything is appended."""
        logs = {place: self.partition(place) for place, _ in rows}
        now_ms = self.clock.now_ns() // 1_000_000
        for place, record in rows:
            log = logs[place]
            last_ms = log.records[-1].append_time_ms if log.records else 0
            log.records.append(
                Record(
                    place.topic,
                    place.partition,
                    log.next_offset,
                    record.key,
                    record.value,
                    dict(record.headers),
                    max(now_ms, last_ms),
                )
            )
            log.next_offset += 1

    def delete_before(self, place: TopicPartition, offset: int) -> None:
        """Remove the records before an offset. Raises `BusError` for one past the end."""
        log = self.partition(place)
        if offset > log.next_offset:
            raise past_the_end(place, offset, log.next_offset)
        del log.records[: max(0, offset - log.head())]

    def join(self, group_name: str) -> MemoryGroup:
        """Return a group, made where it is new."""
        return self.groups.setdefault(group_name, MemoryGroup())

    def enter(self, group_name: str, member: str, topics: frozenset[str], *, is_static: bool) -> int:
        """Let a member in, or take over from its last incarnation; return its token."""
        group = self.join(group_name)
        self._tokens += 1
        known = group.members.get(member)
        group.members[member] = MemoryMember(self._tokens, topics, is_static)
        if known is None or known.topics != topics:
            group.generation += 1
        self.changed.notify_all()
        return self._tokens

    def leave(self, group_name: str, member: str, token: int) -> None:
        """Let a dynamic member go for good, a static one for a while."""
        group = self.groups[group_name]
        known = group.members.get(member)
        if known is None or known.token != token:
            return
        if known.is_static:
            known.gone_since = self.clock.monotonic_s()
        else:
            del group.members[member]
            group.generation += 1
        self.changed.notify_all()

    def expel_gone(self, group_name: str) -> None:
        """Drop static members that stayed away past their grace period."""
        group = self.groups[group_name]
        limit = self.clock.monotonic_s() - STATIC_MEMBER_GRACE_MS / 1000
        gone = [name for name, each in group.members.items() if each.gone_since is not None and each.gone_since < limit]
        for name in gone:
            del group.members[name]
            group.generation += 1

    def share(self, group_name: str, member: str) -> frozenset[TopicPartition]:
        """Return the partitions that are a member's at present."""
        members = {name: each.topics for name, each in self.groups[group_name].members.items()}
        counts = {name: len(topic.partitions) for name, topic in self.topics.items()}
        return share_partitions(members, counts).get(member, frozenset())
