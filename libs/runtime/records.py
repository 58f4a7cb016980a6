"""Records: their headers, publishing them in a transaction, and reading what was committed, by stretch or as a whole.

Latency lives in headers, never in payloads, so payloads stay reproducible.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from libs.bus.api import Bus, BusError, Consumer, NewRecord, Producer, Record, TopicPartition
from libs.wire import Encoded
from libs.wire.records import InputRun

KIND = "k"
PRODUCER = "p"
MADE_AT = "t"
CAUSE_MADE_AT = "c"
ORIGIN_MADE_AT = "o"

# Short, because the end of a partition may be a marker that no poll returns; five seconds in all for a slow broker.
_POLL_MS = 20
_PATIENCE_POLLS = 250


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
    producer.begin()
    try:
        producer.send(records)
        if consumer is not None and offsets:
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
    if first >= end:
        return
    at = TopicPartition(topic, partition)
    consumer = bus.consumer([topic])
    try:
        consumer.assign({at: first})
        idle = 0
        while consumer.position(at) < end:
            records = consumer.poll(4096, _POLL_MS)
            idle = 0 if records else idle + 1
            for record in records:
                if record.offset >= end:
                    return
                yield record
            if idle >= _PATIENCE_POLLS:
                # Nothing but holes is left below the end (transaction markers at the tail of a Kafka partition).
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
    """Reads the stretches that a journal names, each partition forward only."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._consumers: dict[TopicPartition, Consumer] = {}
        self._buffers: dict[TopicPartition, deque[Record]] = {}

    def take(self, run: InputRun) -> Iterator[Record]:
        """Yield the records of a stretch. Raises `OffsetGone` where its first were removed, `BusError` where its last
        were."""
        at = TopicPartition(run.topic, run.partition)
        consumer = self._consumers.get(at)
        if consumer is None:
            consumer = self._consumers[at] = self._bus.consumer([run.topic])
            consumer.assign({at: run.first_offset})
            self._buffers[at] = deque()
        buffer = self._buffers[at]
        reached = run.first_offset
        idle = 0
        while reached < run.next_offset:
            if not buffer:
                buffer.extend(consumer.poll(2048, _POLL_MS))
                idle = 0 if buffer else idle + 1
                if idle >= _PATIENCE_POLLS:
                    raise BusError(
                        f"{run.topic}/{run.partition} does not hold offsets {reached} to {run.next_offset - 1}, "
                        "which the journal names; restore the topic"
                    )
                continue
            if buffer[0].offset >= run.next_offset:
                raise BusError(
                    f"{run.topic}/{run.partition} lost offset {run.next_offset - 1}, which the journal names"
                )
            record = buffer.popleft()
            reached = record.offset + 1
            if record.offset >= run.first_offset:
                yield record

    def close(self) -> None:
        """Free the consumers."""
        for consumer in self._consumers.values():
            consumer.close()
