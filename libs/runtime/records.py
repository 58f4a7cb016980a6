"""Records: their headers, publishing them in a transaction, and reading what was committed, by stretch or as a whole.

Latency lives in headers, never in payloads, so payloads stay reproducible.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from libs.bus.api import Bus, BusError, Consumer, NewRecord, Producer, Record, TopicPartition
from libs.wire import Encoded
from libs.wire.records import InputRun

KIND = "k"
PRODUCER = "p"
MADE_AT = "t"
CAUSE_MADE_AT = "c"
ORIGIN_MADE_AT = "o"

# Stands for the offset of a record that is consumed in the transaction that publishes it.
NO_OFFSET_YET = -1

# Short, because the end of a partition may be a marker that no poll returns; five seconds in all for a slow broker.
POLL_MS = 20
PATIENCE_POLLS = 250


@dataclass(frozen=True, slots=True)
class Stamps:
    """Wall times in ns from a record's headers: when it was made, when its cause was, when the market event was."""

    made_at: int
    cause_made_at: int
    origin_made_at: int


def stamp_headers(kind: str, producer: str, made_at: int, cause: Mapping[str, bytes] | None) -> dict[str, bytes]:
    """Make a record's headers. A record without a cause is its own origin."""
    own = b"%d" % made_at
    cause_made_at = own if cause is None else cause.get(MADE_AT, own)
    origin = own if cause is None else cause.get(ORIGIN_MADE_AT, cause_made_at)
    return {
        KIND: kind.encode(),
        PRODUCER: producer.encode(),
        MADE_AT: own,
        CAUSE_MADE_AT: cause_made_at,
        ORIGIN_MADE_AT: origin,
    }


def stamped_record(
    encoded: Encoded,
    producer: str,
    made_at: int,
    cause: Mapping[str, bytes] | None = None,
    partition: int | None = None,
) -> NewRecord:
    """Make the record of an encoded event, with its headers."""
    headers = stamp_headers(encoded.kind, producer, made_at, cause)
    return NewRecord(encoded.topic, encoded.key, encoded.payload, headers, partition)


def commit_records(
    producer: Producer,
    records: Sequence[NewRecord],
    consumer: Consumer | None = None,
    offsets: Mapping[TopicPartition, int] | None = None,
) -> None:
    """Publish records, and a consumer's offsets with them, in one transaction; abort it where anything fails."""
    commit_groups(producer, records, [(consumer, offsets)] if consumer is not None and offsets else ())


def commit_groups(
    producer: Producer,
    records: Sequence[NewRecord],
    groups: Iterable[tuple[Consumer, Mapping[TopicPartition, int]]],
) -> None:
    """Publish records and the offsets of several groups in one transaction; abort it where anything fails."""
    producer.begin()
    try:
        producer.send(records)
        for consumer, offsets in groups:
            producer.send_offsets(consumer, offsets)
        producer.commit()
    except BaseException:
        # The process that made the records is ahead of the log now and must end; the next one continues from the log.
        producer.abort()
        raise


def read_stamps(headers: Mapping[str, bytes]) -> Stamps | None:
    """Return the wall times of a record, None where a stranger made it without them."""
    try:
        return Stamps(int(headers[MADE_AT]), int(headers[CAUSE_MADE_AT]), int(headers[ORIGIN_MADE_AT]))
    except (KeyError, ValueError):
        return None


def producer_of(headers: Mapping[str, bytes]) -> str:
    """Return the service that made a record."""
    return headers.get(PRODUCER, b"").decode(errors="replace")


def read_last(bus: Bus, topic: str, partition: int = 0) -> Record | None:
    """Return the last committed record of a partition."""
    at = TopicPartition(topic, partition)
    end = bus.end_offsets([at])[at]
    begin = bus.beginning_offsets([at])[at]
    # Offsets may have holes (Kafka's transaction markers), so step back until something is found.
    for distance in (8, 1024, end - begin):
        first = max(begin, end - distance)
        last: Record | None = None
        for record in read_range(bus, topic, partition, first, end):
            last = record
        if last is not None or first == begin:
            return last
    return None


def read_range(bus: Bus, topic: str, partition: int, first: int, end: int) -> Iterator[Record]:
    """Yield the committed records of a partition with offsets in [first, end)."""
    return read_ranges(bus, {TopicPartition(topic, partition): (first, end)})


def read_ranges(bus: Bus, ranges: Mapping[TopicPartition, tuple[int, int]]) -> Iterator[Record]:
    """Yield the committed records with offsets in [first, end) of each partition, by one reader.

    The records of a partition come in order.
    """
    ends = {at: end for at, (first, end) in ranges.items() if first < end}
    if not ends:
        return
    consumer = bus.consumer(sorted({at.topic for at in ends}))
    try:
        consumer.assign({at: ranges[at][0] for at in ends})
        idle = 0
        while any(consumer.position(at) < end for at, end in ends.items()):
            records = consumer.poll(4096, POLL_MS)
            idle = 0 if records else idle + 1
            for record in records:
                if record.offset < ends[TopicPartition(record.topic, record.partition)]:
                    yield record
            if idle >= PATIENCE_POLLS:
                # Nothing but holes is left below the ends (transaction markers at the tail of a Kafka partition).
                return
    finally:
        consumer.close()


def read_topic(bus: Bus, topic: str) -> Iterator[Record]:
    """Yield everything committed to a topic so far, partition by partition."""
    partitions = bus.topics().get(topic, 0)
    ends = bus.end_offsets([TopicPartition(topic, number) for number in range(partitions)])
    begins = bus.beginning_offsets(ends)
    for at, end in sorted(ends.items(), key=lambda item: item[0].partition):
        yield from read_range(bus, topic, at.partition, begins[at], end)


class RunReader:
    """Reads the stretches that a journal names, each partition forward only.

    What was consumed in the transaction that published it is found by its producer, behind `own_from` and behind all
    that was taken of the partition otherwise.
    """

    def __init__(self, bus: Bus, own_from: Mapping[TopicPartition, int] = MappingProxyType({})) -> None:
        self._bus = bus
        self._own_from = own_from
        self._stretches: dict[TopicPartition, _Forward] = {}
        self._own: dict[tuple[TopicPartition, str], _Forward] = {}
        self._passed: dict[TopicPartition, int] = {}

    def take(self, run: InputRun) -> Iterator[Record]:
        """Yield the records of a stretch. Raises `OffsetGone` where its first were removed, `BusError` where its last
        were."""
        at = TopicPartition(run.topic, run.partition)
        if run.own_producer:
            yield from self._take_own(at, run.own_producer, run.own_records)
            return
        source = self._stretches.get(at)
        if source is None:
            source = self._stretches[at] = _Forward(self._bus, at, run.first_offset)
        self._passed[at] = run.next_offset
        while source.reached < run.next_offset:
            record = source.next("up to {}", run.next_offset - 1)
            if record.offset >= run.next_offset:
                raise BusError(
                    f"{run.topic}/{run.partition} lost offset {run.next_offset - 1}, which the journal names"
                )
            if record.offset >= run.first_offset:
                yield record

    def _take_own(self, at: TopicPartition, producer: str, count: int) -> Iterator[Record]:
        source = self._own.get((at, producer))
        if source is None:
            first = max(self._own_from.get(at, 0), self._passed.get(at, 0), self._bus.beginning_offsets([at])[at])
            source = self._own[at, producer] = _Forward(self._bus, at, first)
        name, passed = producer.encode(), self._passed.get(at, 0)
        while count:
            record = source.next("on, of which {} more by " + producer + " are wanted", count)
            if record.offset >= passed and record.headers.get(PRODUCER) == name:
                count -= 1
                yield Record(
                    at.topic,
                    at.partition,
                    NO_OFFSET_YET,
                    record.key,
                    record.value,
                    record.headers,
                    record.append_time_ms,
                )

    def own_positions(self) -> dict[TopicPartition, int]:
        """Return the offsets behind what was taken as a producer's own."""
        reached: dict[TopicPartition, int] = {}
        for (at, _), source in self._own.items():
            reached[at] = max(reached.get(at, 0), source.reached)
        return reached

    def positions(self) -> dict[TopicPartition, int]:
        """Return the offsets behind all that was taken."""
        own = self.own_positions()
        return {at: max(own.get(at, 0), self._passed.get(at, 0)) for at in own.keys() | self._passed.keys()}

    def close(self) -> None:
        """Free the consumers."""
        for source in (*self._stretches.values(), *self._own.values()):
            source.close()


class _Forward:
    """One partition read forward; `reached` is the offset behind the last record that was given."""

    def __init__(self, bus: Bus, at: TopicPartition, first: int) -> None:
        self._at = at
        self._consumer = bus.consumer([at.topic])
        self._consumer.assign({at: first})
        self._buffer: deque[Record] = deque()
        self.reached = first

    def next(self, wanted: str, number: int) -> Record:
        """Return the next record. Raises `BusError` where none comes; `wanted`, with the number, says what of it."""
        idle = 0
        while not self._buffer:
            self._buffer.extend(self._consumer.poll(2048, POLL_MS))
            idle += 1
            if not self._buffer and idle >= PATIENCE_POLLS:
                raise BusError(
                    f"{self._at.topic}/{self._at.partition} does not hold offsets {self.reached} "
                    f"{wanted.format(number)}, which the journal names; restore the topic"
                )
        record = self._buffer.popleft()
        self.reached = record.offset + 1
        return record

    def close(self) -> None:
        self._consumer.close()
