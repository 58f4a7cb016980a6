"""The shell's own messages: journal, snapshots, cursors, dead letters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, NamedTuple, TypeAlias

from google.protobuf.message import Message

from libs.schemas.perpflow.runtime.v1 import runtime_pb2
from libs.wire.compiler import compile_codec, compile_decoder, demand_all_used


@dataclass(frozen=True, slots=True)
class InputRun:
    """A stretch of one partition that was consumed: offsets in [first_offset, next_offset).

    With `own_producer` it is of records that were consumed in the transaction that published them, before they had
    offsets: the next `own_records` of the partition that this producer made.
    """

    topic: str
    partition: int
    first_offset: int
    next_offset: int
    own_producer: str = ""
    own_records: int = 0


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """What one transaction consumed, in order."""

    service: str
    runs: tuple[InputRun, ...]


Place: TypeAlias = Annotated[tuple[str, int], "topic", "partition"]


@dataclass(frozen=True, slots=True)
class CoreSnapshot:
    """A core's state with the input positions it stands for and the journal offset behind which to catch up.

    `positions`, `seen` and `outputs` are keyed by (topic, partition); `seen` holds the last event ids, oldest first.
    What the service wrote after the snapshot lies at `outputs` or later; an older version's snapshot has none. What was
    consumed in the transaction that published it lies before `own_positions`.
    """

    service: str
    core: bytes
    positions: dict[Place, int]
    journal_next_offset: int
    seen: dict[Place, tuple[str, ...]]
    outputs: dict[Place, int] = field(default_factory=dict)
    own_positions: dict[Place, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SourceCursor:
    """How far a source has been published."""

    service: str
    cursor: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be decoded or handled.

    `source_offset` is a record's offset or the line of a file; -1 where a chain could not handle what it was only about
    to append.
    """

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
_CORE_SNAPSHOT = _compile(CoreSnapshot, runtime_pb2.CoreSnapshot)


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
    return _CORE_SNAPSHOT.encode(snapshot)


def decode_core_snapshot(payload: bytes) -> CoreSnapshot:
    """Read a snapshot."""
    snapshot: CoreSnapshot = _CORE_SNAPSHOT.decode(payload)
    return snapshot
