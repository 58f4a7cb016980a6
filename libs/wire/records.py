"""The shell's own messages: journal, snapshots, cursors, dead letters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message

from libs.schemas.perpflow.runtime.v1 import runtime_pb2
from libs.wire.compiler import compile_codec, compile_decoder, demand_all_used
from libs.wire.errors import DecodeError


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

    `positions`, `seen` and `outputs` are keyed by (topic, partition); `seen` holds the last event ids, oldest first.
    What the service wrote after the snapshot lies at `outputs` or later; an older version's snapshot has none.
    """

    service: str
    core: bytes
    positions: dict[tuple[str, int], int]
    journal_next_offset: int
    seen: dict[tuple[str, int], tuple[str, ...]]
    outputs: dict[tuple[str, int], int] = field(default_factory=dict)


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


class _Shell(NamedTuple):
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def _compile(kind: type, schema: type[Message]) -> _Shell:
    codec = compile_codec(kind, schema)
    demand_all_used(schema, [codec], ())
    return _Shell(codec.encode, compile_decoder(schema, [codec]))


_JOURNAL_ENTRY = _compile(JournalEntry, runtime_pb2.JournalEntry)
_SOURCE_CURSOR = _compile(SourceCursor, runtime_pb2.SourceCursor)
_DEAD_LETTER = _compile(DeadLetter, runtime_pb2.DeadLetter)


def encode_journal_entry(entry: JournalEntry) -> bytes:
    """Write a journal entry."""
    return _JOURNAL_ENTRY.encode(entry)


def decode_journal_entry(payload: bytes) -> JournalEntry:
    """Read a journal entry."""
    entry: JournalEntry = _JOURNAL_ENTRY.decode(payload)
    return entry


def encode_source_cursor(cursor: SourceCursor) -> bytes:
    """Write a source's cursor."""
    return _SOURCE_CURSOR.encode(cursor)


def decode_source_cursor(payload: bytes) -> SourceCursor:
    """Read a source's cursor."""
    cursor: SourceCursor = _SOURCE_CURSOR.decode(payload)
    return cursor


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """Write a dead letter."""
    return _DEAD_LETTER.encode(letter)


def decode_dead_letter(payload: bytes) -> DeadLetter:
    """Read a dead letter."""
    letter: DeadLetter = _DEAD_LETTER.decode(payload)
    return letter


def encode_core_snapshot(snapshot: CoreSnapshot) -> bytes:
    """Write a snapshot."""
    return runtime_pb2.CoreSnapshot(
        service=snapshot.service,
        core=snapshot.core,
        positions=_encode_positions(snapshot.positions),
        journal_next_offset=snapshot.journal_next_offset,
        seen=[
            runtime_pb2.SeenIds(topic=topic, partition=partition, event_ids=ids)
            for (topic, partition), ids in sorted(snapshot.seen.items())
        ],
        outputs=_encode_positions(snapshot.outputs),
    ).SerializeToString()


def _encode_positions(positions: dict[tuple[str, int], int]) -> list[runtime_pb2.InputPosition]:
    return [
        runtime_pb2.InputPosition(topic=topic, partition=partition, next_offset=offset)
        for (topic, partition), offset in sorted(positions.items())
    ]


def decode_core_snapshot(payload: bytes) -> CoreSnapshot:
    """Read a snapshot."""
    try:
        message = runtime_pb2.CoreSnapshot.FromString(payload)
    except ProtobufError as error:
        raise DecodeError(f"not a CoreSnapshot: {error}") from error
    return CoreSnapshot(
        message.service,
        message.core,
        {(at.topic, at.partition): at.next_offset for at in message.positions},
        message.journal_next_offset,
        {(seen.topic, seen.partition): tuple(seen.event_ids) for seen in message.seen},
        {(at.topic, at.partition): at.next_offset for at in message.outputs},
    )
