"""Bytes from events and back, for every topic of the registry."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from typing import Any, NamedTuple

from libs.domain.events import Event
from libs.wire.compiler import compile_codec, compile_decoder, demand_all_used
from libs.wire.errors import DecodeError, EncodeError
from libs.wire.records import decode_core_snapshot, decode_dead_letter, decode_journal_entry, decode_source_cursor
from libs.wire.topics import DATA_TOPICS, TOPICS, Carried, TopicDeclaration, state_topic

# What no event may lack that has it at all.
_REQUIRED = ("event_id", "instrument", "account", "service", "event_time", "received_time")


class Encoded(NamedTuple):
    """An event ready for the bus."""

    topic: str
    key: bytes
    payload: bytes
    kind: str


class Writer(NamedTuple):
    """How a type gets onto the bus."""

    topic: str
    kind: str
    key_of: Callable[[Any], str]
    encode: Callable[[Any], bytes]


class TopicCodec(NamedTuple):
    """The writers of the types that a topic carries, and its reader."""

    writers: dict[type, Writer]
    decode: Callable[[bytes], Any]


def required_of(carried: Carried) -> tuple[str, ...]:
    """Return the fields of a type that must not be empty (texts) or must be above 0 (times)."""
    names = {field.name for field in dataclasses.fields(carried.type)}
    return (*(name for name in _REQUIRED if name in names), *carried.required)


def compile_topic(topic: TopicDeclaration) -> TopicCodec:
    """Compile what a topic declares. Raises `DeclarationError` where types and message do not fit each other."""
    writers, codecs = {}, []
    for each in topic.carries:
        codec = compile_codec(each.type, topic.schema, required=required_of(each), fixed=each.fixed, check=each.check)
        codecs.append(codec)
        writers[each.type] = Writer(topic.name, each.kind, attrgetter(topic.key), codec.encode)
    demand_all_used(topic.schema, codecs, [name for each in topic.carries for name in each.fixed])
    return TopicCodec(writers, compile_decoder(topic.schema, codecs))


_CODECS = {name: compile_topic(TOPICS[name]) for name in DATA_TOPICS}
_WRITERS: dict[type, Writer] = {kind: writer for codec in _CODECS.values() for kind, writer in codec.writers.items()}
_READERS: dict[str, Callable[[bytes], Event]] = {name: codec.decode for name, codec in _CODECS.items()}
EVENT_TYPES: tuple[type, ...] = tuple(_WRITERS)
"""Every type that some data topic carries."""


def encode(event: Event) -> Encoded:
    """Write an event for its topic. Raises `EncodeError` for an unknown type or a number that does not fit."""
    writer = _WRITERS.get(type(event))
    if writer is None:
        raise EncodeError(f"no topic carries {type(event).__name__}")
    topic, kind, key_of, write = writer
    return Encoded(topic, key_of(event).encode(), write(event), kind)


def topic_of(kind: type) -> str:
    """Return the topic that carries a type of event."""
    return _WRITERS[kind].topic


def kind_of(kind: type) -> str:
    """Return the record kind of a type of event."""
    return _WRITERS[kind][1]


def decode(topic: str, payload: bytes) -> Event:
    """Read a payload of a data topic. Raises `DecodeError`."""
    reader = _READERS.get(topic)
    if reader is None:
        raise DecodeError(f"topic {topic!r} carries no event; known: {', '.join(sorted(_READERS))}")
    return reader(payload)


def decode_any(topic: str, payload: bytes) -> Any:
    """Read a payload of any topic of the registry, the shell's own messages included. Raises `DecodeError`."""
    if topic in _READERS:
        return _READERS[topic](payload)
    if topic.startswith("dead."):
        return decode_dead_letter(payload)
    if topic.startswith("journal."):
        return decode_journal_entry(payload)
    if topic == state_topic("ingestion"):
        return decode_source_cursor(payload)
    if topic.startswith("state."):
        return decode_core_snapshot(payload)
    raise DecodeError(f"topic {topic!r} is not in the registry")
