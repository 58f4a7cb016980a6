"""The one interface between services and a log of records: topics, partitions, groups, transactions.

The bus moves bytes and knows no message. Three implementations keep the same promises and share one
contract suite: `KafkaBus`, `SqliteBus`, `MemoryBus`. Every object here is used from one thread at a
time; a process that needs two threads opens the bus twice.

Errors form one tree::

    BusError                  anything the bus refuses or cannot do; the text names the error and the fix
    |- BusUnavailable         the broker or file cannot be reached or written (exit code 3)
    |  |- BusFull             no room left on the device that holds the log; nothing was committed
    |  `- BusLost             the log that was opened is gone; starting again is no use
    |- BusDenied              the broker does not take this client's credentials or certificate (exit code 2)
    |- BusInvalid             the address, or the file that it names, is no bus (exit code 2)
    |- UnknownTopic           the topic was never created
    |- OffsetGone             a reader's position lies before the oldest record kept; nothing was skipped
    |- GroupMoved             the group was shared out anew: a commit by the former shares is refused, poll for the new
    |- ProducerFenced         a newer producer took over this transactional id; stop this process
    `- TransactionState       a call that does not fit the state of the transaction
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Literal, NamedTuple, Protocol, Self


class BusError(Exception):
    """The bus refused or could not do what was asked."""


class BusUnavailable(BusError):
    """The broker or the file behind the bus cannot be reached or written."""


class BusFull(BusUnavailable):
    """The device that holds the log is full; the transaction was not committed."""


class BusLost(BusUnavailable):
    """The log that was opened was removed or replaced while in use."""


class BusDenied(BusError):
    """The broker refuses this client, or this client the broker: credentials or certificates do not match."""


class BusInvalid(BusError):
    """What is named as the bus is none: an address without meaning, or a file of something else."""


class UnknownTopic(BusError):
    """A topic was named that nobody created."""


class OffsetGone(BusError):
    """A reader stands before the oldest record kept: what it should read next was removed."""


class GroupMoved(BusError):
    """The group was shared out anew since this member polled last; nothing was committed."""


class ProducerFenced(BusError):
    """A newer producer with the same transactional id has taken over."""


class TransactionState(BusError):
    """A transaction was begun twice, or used when none was open."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic to create. It keeps every record until `delete_before` removes it: no topic is compacted or expires."""

    name: str
    partitions: int = 1


class TopicPartition(NamedTuple):
    """One totally ordered log. A tuple, because it is the key of everything that is looked up per record."""

    topic: str
    partition: int


class Footprint(NamedTuple):
    """Where the transactions of an id write: at least one of the partitions `alone`, in which nobody else does, and
    others that it may share, with the offsets of `groups`."""

    alone: tuple[TopicPartition, ...] = ()
    shared: tuple[TopicPartition, ...] = ()
    groups: tuple[str, ...] = ()


NO_FOOTPRINT = Footprint()


class Record(NamedTuple):
    """One committed record. `append_time_ms` is the wall time of its append, ms since epoch UTC.

    A tuple, because they are made by the thousand: a frozen dataclass takes four times as long.
    """

    topic: str
    partition: int
    offset: int
    key: bytes
    value: bytes
    headers: Mapping[str, bytes]
    append_time_ms: int


@dataclass(frozen=True, slots=True)
class NewRecord:
    """A record to append. The bus's partitioner chooses the partition unless it is given."""

    topic: str
    key: bytes
    value: bytes
    headers: Mapping[str, bytes] = field(default_factory=dict)
    partition: int | None = None


Start = Literal["earliest", "latest"]
# Chooses a new record's partition by topic, key and number of partitions.
Partitioner = Callable[[str, bytes, int], int]
# Entered around every call that may wait long for a broker or for another process's lock.
Waiting = Callable[[], AbstractContextManager[None]]


class Consumer(Protocol):
    """Reads committed records of its assigned partitions, in offset order within each partition.

    A group member subscribes; partitions are shared out among a group's live members and positions start at
    the group's committed offset, else at `start`. A static member (`member_id`) that dies and comes back gets
    its partitions again without a rebalance. Without a group, or with `subscribes=False`, call `assign` and `seek`.
    """

    def poll(self, max_records: int, timeout_ms: int) -> Sequence[Record]:
        """Return up to `max_records`, as soon as there is one; empty after `timeout_ms`. Positions advance.

        Raises `OffsetGone` where a position lies before the oldest record kept: nothing is ever skipped silently.
        """
        ...

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        """Read exactly these partitions from exactly these offsets (no group sharing)."""
        ...

    def seek(self, topic_partition: TopicPartition, offset: int) -> None:
        """Continue the assigned partition at `offset`."""
        ...

    def assignment(self) -> frozenset[TopicPartition]:
        """Return the partitions this consumer reads at present. On Kafka a group's share comes with the first polls."""
        ...

    @property
    def has_share(self) -> bool:
        """Whether `assignment` is this member's share by the group's latest rebalance; False while one is under way.

        A member that the group expelled has its share at once: nothing.
        """
        ...

    def position(self, topic_partition: TopicPartition) -> int:
        """Return the offset of the next record `poll` would return. It may run past the last record's: Kafka's
        transactions end in markers with offsets of their own, so count records, never offsets."""
        ...

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store the group's next offsets, outside any transaction."""
        ...

    def close(self) -> None:
        """Leave the group (a static member only lets go) and free what was opened."""
        ...


class Producer(Protocol):
    """Appends records in transactions: everything between `begin` and `commit` becomes visible at once or never."""

    def begin(self) -> None:
        """Open a transaction."""
        ...

    def send(self, records: Iterable[NewRecord]) -> None:
        """Append within the open transaction; nothing is visible to readers before `commit`."""
        ...

    def send_offsets(self, consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit the next offsets of `consumer`'s group with this transaction."""
        ...

    def commit(self) -> None:
        """Make the transaction visible and durable against the death of this process. Raises `BusFull`.

        A commit that raises has committed nothing and leaves the transaction open: abort it.
        """
        ...

    def abort(self) -> None:
        """Drop the open transaction."""
        ...

    def close(self) -> None:
        """Abort what is open and free what was opened."""
        ...


class Bus(Protocol):
    """A connection to a log of records."""

    def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        """Create the topics that do not exist yet. An existing one with another number of partitions is a `BusError`;
        one whose broker would compact or expire it is set to keep everything, or is a `BusError`."""
        ...

    def delete_topics(self, names: Iterable[str]) -> None:
        """Delete topics with their records; unknown names are ignored."""
        ...

    def topics(self) -> Mapping[str, int]:
        """Return every topic with its number of partitions."""
        ...

    def consumer(
        self,
        topics: Sequence[str],
        *,
        group: str | None = None,
        member_id: str | None = None,
        start: Start = "earliest",
        subscribes: bool = True,
    ) -> Consumer:
        """Open a consumer. With a group it subscribes at once; without one it reads nothing until `assign`.

        With a group and `subscribes=False` it is no member: it reads what `assign` names, and its offsets are the
        group's. Only a transactional id keeps two such consumers apart.
        """
        ...

    def producer(self, transactional_id: str, footprint: Footprint = NO_FOOTPRINT, /) -> Producer:
        """Open a producer; any older one with the same id is fenced and its open transaction aborted.

        With a footprint, so is what a restart of the bus left open of an older one's transaction there.
        """
        ...

    def beginning_offsets(self, topic_partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        """Return the oldest offset kept in each partition."""
        ...

    def end_offsets(
        self, topic_partitions: Iterable[TopicPartition], *, with_uncommitted: bool = False
    ) -> Mapping[TopicPartition, int]:
        """Return the offset behind the last committed record of each partition (the last stable offset).

        A consumer whose polls found nothing more stands at it. `with_uncommitted` returns the offset behind every
        record instead (Kafka's high watermark): another producer's open transaction, or the marker of one just
        committed, does not hold it back.
        """
        ...

    def offsets_for_times(self, times_ms: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        """Return for each partition the first offset appended at or after the time; the end offset if none was."""
        ...

    def committed(self, group: str, topic_partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int | None]:
        """Return the group's next offset in each partition, None where it has committed none."""
        ...

    def ping(self) -> None:
        """Ask whether the log still answers; may be called from any thread and takes two seconds at most.

        Raises `BusUnavailable` where it does not, `BusLost` where the log that was opened is gone.
        """
        ...

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Remove the records before an offset of each partition, for good. An offset past the end is a `BusError`."""
        ...

    def close(self) -> None:
        """Free what was opened."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def hash_partition(_topic: str, key: bytes, partitions: int) -> int:
    """Choose a partition by the key alone, as `partition_of`: the partitioner of a bus that is given no other."""
    return partition_of(key, partitions)


def partition_of(key: bytes, partitions: int) -> int:
    """Map a key to a partition: murmur2 with Kafka's seed, so that a key lands in the same partition on every bus
    and in every Kafka client (Apache Kafka, `Utils.murmur2`, Apache License 2.0)."""
    if partitions == 1:
        return 0
    return (_murmur2(key) & 0x7FFFFFFF) % partitions


def _murmur2(data: bytes) -> int:
    mask = 0xFFFFFFFF
    multiplier = 0x5BD1E995
    length = len(data)
    h = (0x9747B28C ^ length) & mask
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little")
        k = (k * multiplier) & mask
        k ^= k >> 24
        k = (k * multiplier) & mask
        h = ((h * multiplier) & mask) ^ k
    rest = length - whole
    if rest == 3:
        h ^= data[whole + 2] << 16
    if rest >= 2:
        h ^= data[whole + 1] << 8
    if rest >= 1:
        h ^= data[whole]
        h = (h * multiplier) & mask
    h ^= h >> 13
    h = (h * multiplier) & mask
    h ^= h >> 15
    return h
