"""What is declared is what is compiled: a new message needs a dataclass, a proto message and a line of the registry."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import Annotated, Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

from libs.schemas.perpflow.runtime.v1 import runtime_pb2
from libs.wire import DecodeError, EncodeError
from libs.wire.codec import compile_topic
from libs.wire.compiler import compile_codec
from libs.wire.errors import DeclarationError
from libs.wire.topics import DAY_MS, Carried, TopicDeclaration

FIELD = descriptor_pb2.FieldDescriptorProto
_pool_names = iter(range(1000))


class Mood(IntEnum):
    CALM = 1
    WILD = 2


@dataclass(frozen=True, slots=True)
class GapFound:
    """Something that the venue left out."""

    event_id: str
    event_time: int
    instrument: str
    mood: Mood
    size: Decimal
    bound: Decimal | None = None
    notes: tuple[str, ...] = ()


def a_schema(
    *fields: tuple[str, int], optional: tuple[str, ...] = (), repeated: tuple[str, ...] = (), name: str = "GapFound"
) -> type[Message]:
    """Make a proto message as protoc would; an int field named mood is the enum."""
    number = next(_pool_names)
    file = descriptor_pb2.FileDescriptorProto(
        name=f"scratch{number}.proto", package=f"scratch{number}", syntax="proto3"
    )
    moods = file.enum_type.add(name="Mood")
    for at, value in enumerate(("MOOD_UNSPECIFIED", "MOOD_CALM", "MOOD_WILD")):
        moods.value.add(name=value, number=at)
    message = file.message_type.add(name=name)
    for at, (field_name, kind) in enumerate(fields, start=1):
        label = FIELD.LABEL_REPEATED if field_name in repeated else FIELD.LABEL_OPTIONAL
        field = message.field.add(name=field_name, number=at, type=kind, label=label)
        if kind == FIELD.TYPE_ENUM:
            field.type_name = f".scratch{number}.Mood"
        if field_name in optional:
            field.proto3_optional = True
            field.oneof_index = len(message.oneof_decl)
            message.oneof_decl.add(name=f"_{field_name}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"scratch{number}.{name}"))


FIELDS = (
    ("event_id", FIELD.TYPE_STRING),
    ("event_time", FIELD.TYPE_INT64),
    ("instrument", FIELD.TYPE_STRING),
    ("mood", FIELD.TYPE_ENUM),
    ("size_e8", FIELD.TYPE_INT64),
    ("bound_e8", FIELD.TYPE_INT64),
    ("notes", FIELD.TYPE_STRING),
)


def a_topic(schema: type[Message] | None = None, **changes: Any) -> TopicDeclaration:
    schema = schema or a_schema(*FIELDS, optional=("bound_e8",), repeated=("notes",))
    return TopicDeclaration(
        "market.gaps.v1", schema, (Carried(GapFound, **changes),), "instrument", ("a",), ("b",), DAY_MS
    )


def a_gap(**changes: Any) -> GapFound:
    values: dict[str, Any] = {"event_id": "g/1", "event_time": 5, "instrument": "BTC", "mood": Mood.WILD}
    return GapFound(**values | {"size": Decimal("1.50000000")} | changes)


def test_a_declared_message_can_be_written_and_read() -> None:
    topic = a_topic()
    codec = compile_topic(topic)
    writer = codec.writers[GapFound]
    gap = a_gap(bound=Decimal("0E-8"), notes=("a", "b"))
    assert (writer.topic, writer.kind, writer.key_of(gap)) == ("market.gaps.v1", "gap_found", "BTC")
    assert codec.decode(writer.encode(gap)) == gap
    assert codec.decode(writer.encode(a_gap())) == a_gap()
    assert topic.kinds == ("gap_found",)


def test_its_check_and_its_required_fields_are_demanded_by_name() -> None:
    codec = compile_topic(a_topic(check=lambda gap: None if gap.size > 0 else "size must be above 0"))
    write = codec.writers[GapFound].encode
    for gap, reason in (
        (a_gap(size=Decimal(0)), "GapFound g/1: size must be above 0"),
        (a_gap(event_id=""), "GapFound: event_id is empty"),
        (a_gap(instrument=""), "GapFound g/1: instrument is empty"),
        (a_gap(event_time=0), "GapFound g/1: event_time is 0; it must be above 0"),
    ):
        with pytest.raises(DecodeError, match=reason):
            codec.decode(write(gap))
    with pytest.raises(EncodeError, match=r"GapFound g/1: .* more than eight decimals"):
        write(a_gap(size=Decimal("1E-9")))


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        (a_schema(*FIELDS[:-1], optional=("bound_e8",)), "GapFound.notes has no field notes in scratch"),
        (a_schema(*FIELDS, repeated=("notes",)), "GapFound.bound may be None, so scratch.*bound_e8 must be optional"),
        (a_schema(*FIELDS, optional=("bound_e8",)), "must both repeat or neither"),
        (
            a_schema(*FIELDS, ("more", FIELD.TYPE_STRING), optional=("bound_e8",), repeated=("notes",)),
            "has more, which GapFound lacks",
        ),
        (a_schema(*FIELDS, name="Other"), "is not named GapFound and has no sub-message of that name"),
        (
            a_schema(
                *((name, FIELD.TYPE_INT64 if name == "mood" else kind) for name, kind in FIELDS),
                optional=("bound_e8",),
                repeated=("notes",),
            ),
            "GapFound.mood is an enum, .* is not",
        ),
    ],
)
def test_a_dataclass_and_a_message_that_do_not_fit_are_refused_at_import(schema: type[Message], reason: str) -> None:
    with pytest.raises(DeclarationError, match=reason):
        compile_topic(a_topic(schema))


def test_a_field_that_the_type_implies_must_exist() -> None:
    with pytest.raises(DeclarationError, match="has no field kind, which GapFound fixes"):
        compile_topic(a_topic(fixed={"kind": 3}))


def test_entries_of_a_dict_must_have_its_key_and_one_value() -> None:
    @dataclass(frozen=True, slots=True)
    class CoreSnapshot:
        positions: dict[Annotated[tuple[str, int], "topic", "slot"], int]

    with pytest.raises(DeclarationError, match=r"positions needs entries of topic, slot and a value in .*positions"):
        compile_codec(CoreSnapshot, runtime_pb2.CoreSnapshot)
