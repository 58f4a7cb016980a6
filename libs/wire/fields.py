"""What the readers and writers of messages share: one way to write, read and refuse."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from enum import IntEnum
from typing import Any, TypeVar

from google.protobuf.message import DecodeError as ProtobufError
from google.protobuf.message import Message

from libs.domain.numbers import from_e8, to_e8
from libs.wire.errors import DecodeError, EncodeError

MessageT = TypeVar("MessageT", bound=Message)
EnumT = TypeVar("EnumT", bound=IntEnum)


def write_message(event: Any, make: Callable[[], Message]) -> bytes:
    """Write an event's message. Raises `EncodeError` where a number does not fit its field."""
    try:
        # Deterministic, because maps have no order of their own and payloads are compared byte for byte.
        return make().SerializeToString(deterministic=True)
    except (ValueError, TypeError) as error:
        raise EncodeError(f"{type(event).__name__} {event.event_id}: {error}") from error


def read_message(kind: type[MessageT], payload: bytes) -> MessageT:
    """Parse a message and demand what all events have: an id, a time, an instrument or account where it has one."""
    message = kind()
    try:
        message.ParseFromString(payload)
    except ProtobufError as error:
        raise DecodeError(f"not a {kind.__name__}: {error}") from error
    fields: Any = message
    if not fields.event_id:
        raise DecodeError(f"{kind.__name__} without event_id")
    if fields.event_time <= 0:
        raise DecodeError(f"{kind.__name__} {fields.event_id}: event_time must be above 0")
    for name in ("instrument", "account"):
        if name in kind.DESCRIPTOR.fields_by_name and not getattr(fields, name):
            raise DecodeError(f"{kind.__name__} {fields.event_id} without {name}")
    return message


def read_enum(kind: type[EnumT], number: int, event_id: str) -> EnumT:
    """Read an enum; zero is unspecified and refused."""
    try:
        return kind(number)
    except ValueError:
        raise DecodeError(f"{event_id}: {kind.__name__} {number} is unspecified or unknown") from None


def optional_e8(value: Decimal | None) -> int | None:
    """Scale a Decimal that may be None."""
    return None if value is None else to_e8(value)


def optional_decimal(message: Any, name: str) -> Decimal | None:
    """Return an optional field of 1e-8 as a Decimal, None where it is absent."""
    return from_e8(getattr(message, name)) if message.HasField(name) else None


def demand_probability(value: float, name: str, event_id: str) -> float:
    """Refuse a number outside [0, 1]."""
    if not 0.0 <= value <= 1.0:
        raise DecodeError(f"{event_id}: {name} {value} is not in [0, 1]")
    return value
