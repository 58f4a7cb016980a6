"""The shell's own messages: journal, snapshots, cursors, dead letters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message

from libs.schemas.perpflow.runtime.v1 import runtime_pb2
from libs.wire.errors import DecodeError

MessageT = TypeVar("MessageT", bound=Message)


@dataclass(frozen=True, slots=True)
class InputRun:
    """A stretch of one partition that was consumed: offsets in [first_offset, next_offset)."""

    topic: str
    partition: int
    first_offset: int
    next_offset: int


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What one transaction consumed, in order."""

    service: str
    runs: tuple[InputRun, ...]


@dataclass(frozen=True, slots=True)
class CoreSnapshot:
    """A core's state with the input positions it stands for and the journal offset behind which to catch up.

    `positions` and `seen` are keyed by (topic, partition); `seen` holds the last event ids, oldest first.
    """

    service: str
    core: bytes
    positions: dict[tuple[str, int], int]
    journal_next_offset: int
    seen: dict[tuple[str, int], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class SourceCursor:
    """How far a source has been published."""

    service: str
    cursor: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be decoded or handled; `source_offset` is a record's offset or the line of a file."""

    service: str
    reason: str
    source_topic: str
    source_partition: int
    source_offset: int
    key: bytes
    payload: bytes


def _parse(kind: type[MessageT], payload: bytes) -> MessageT:
    message = kind()
    try:
        message.ParseFromString(payload)
    except ProtobufError as error:
        raise DecodeError(f"not a {kind.__name__}: {error}") from error
    return message


def encode_journal_entry(entry: JournalEntry) -> bytes:
    """Write a journal entry."""
    return runtime_pb2.JournalEntry(
        service=entry.service,
        runs=[
            runtime_pb2.InputRun(
                topic=run.topic, partition=run.partition, first_offset=run.first_offset, next_offset=run.next_offset
            )
            for run in entry.runs
        ],
    ).SerializeToString()


def decode_journal_entry(payload: bytes) -> JournalEntry:
    """Read a journal entry."""
    message = _parse(runtime_pb2.JournalEntry, payload)
    return JournalEntry(
        message.service,
        tuple(InputRun(run.topic, run.partition, run.first_offset, run.next_offset) for run in message.runs),
    )


def encode_core_snapshot(snapshot: CoreSnapshot) -> bytes:
    """Write a snapshot."""
    return runtime_pb2.CoreSnapshot(
        service=snapshot.service,
        core=snapshot.core,
        positions=[
            runtime_pb2.InputPosition(topic=topic, partition=partition, next_offset=offset)
            for (topic, partition), offset in sorted(snapshot.positions.items())
        ],
        journal_next_offset=snapshot.journal_next_offset,
        seen=[
            runtime_pb2.SeenIds(topic=topic, partition=partition, event_ids=ids)
            for (topic, partition), ids in sorted(snapshot.seen.items())
        ],
    ).SerializeToString()


def decode_core_snapshot(payload: bytes) -> CoreSnapshot:
    """Read a snapshot."""
    message = _parse(runtime_pb2.CoreSnapshot, payload)
    return CoreSnapshot(
        message.service,
        message.core,
        {(at.topic, at.partition): at.next_offset for at in message.positions},
        message.journal_next_offset,
        {(seen.topic, seen.partition): tuple(seen.event_ids) for seen in message.seen},
    )


def encode_source_cursor(cursor: SourceCursor) -> bytes:
    """Write a source's cursor."""
    return runtime_pb2.SourceCursor(service=cursor.service, cursor=cursor.cursor).SerializeToString()


def decode_source_cursor(payload: bytes) -> SourceCursor:
    """Read a source's cursor."""
    message = _parse(runtime_pb2.SourceCursor, payload)
    return SourceCursor(message.service, message.cursor)


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """Write a dead letter."""
    return runtime_pb2.DeadLetter(
        service=letter.service,
        reason=letter.reason,
        source_topic=letter.source_topic,
        source_partition=letter.source_partition,
        source_offset=letter.source_offset,
        key=letter.key,
        payload=letter.payload,
    ).SerializeToString()


def decode_dead_letter(payload: bytes) -> DeadLetter:
    """Read a dead letter."""
    message = _parse(runtime_pb2.DeadLetter, payload)
    return DeadLetter(
        message.service,
        message.reason,
        message.source_topic,
        message.source_partition,
        message.source_offset,
        message.key,
        message.payload,
    )
