"""Reads many payloads of a topic at once into columns, without a domain object, for whoever keeps columns anyway.

Compiled from the same declarations as the codec. A payload that is not of the plain form, or that a check does not
pass, is left for `decode`, which alone says what is wrong with it; so is a type with fields or a check that no column
has. Columns therefore hold what `decode` would have given, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, get_args, get_origin

import numpy as np
import numpy.typing as npt
from google.protobuf.descriptor import FieldDescriptor

from libs.wire.checks import Rule, check_book
from libs.wire.codec import required_of
from libs.wire.compiler import Check, Placed, arm_of, is_enum, place_fields
from libs.wire.topics import Carried, TopicDeclaration
from libs.wire.walk import INTEGER, INTEGERS, PART, TEXT, gather_texts, read_fields, unpack_integers

Ints: TypeAlias = npt.NDArray[np.int64]
Offsets: TypeAlias = npt.NDArray[np.int32]
Flags: TypeAlias = npt.NDArray[np.bool_]

# Integers of 64 bits, and what is kept in them: others lose bits that `decode` loses too, in its own way.
_INTEGER_TYPES = (FieldDescriptor.TYPE_INT64, FieldDescriptor.TYPE_BOOL, FieldDescriptor.TYPE_ENUM)


class Integers(NamedTuple):
    """Integers, booleans or enums by number; `known` is None where every row has one."""

    values: Ints
    known: Flags | None


class Texts(NamedTuple):
    """ASCII texts, one behind the other: row n is bytes [offsets[n], offsets[n + 1])."""

    offsets: Offsets
    data: npt.NDArray[np.uint8]


class IntegerLists(NamedTuple):
    """Lists of integers, one behind the other, and the least of each list."""

    offsets: Offsets
    values: Ints
    least: Ints


FieldColumn: TypeAlias = Integers | Texts | IntegerLists


class KindColumns(NamedTuple):
    """The payloads of one type: their rows, ascending, and a column of each of the type's fields by its name."""

    kind: type
    rows: Ints
    fields: Mapping[str, FieldColumn]


class _Field(NamedTuple):
    name: str
    shape: int
    target: int
    is_optional: bool
    members: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Kind:
    kind: type
    fields: tuple[_Field, ...]
    required: tuple[str, ...]
    holds: Callable[[Any], Any] | None


class ColumnReader:
    """Reads payloads of a topic into columns: of those types that are wanted and have them, which `kinds` names."""

    def __init__(self, topic: TopicDeclaration, wanted: Collection[type]) -> None:
        descriptor = topic.schema.DESCRIPTOR
        declared = {
            level: each
            for level, each in enumerate(topic.carries, 1)
            if each.type in wanted and _has_columns(each, descriptor)
        }
        placed = {level: _placed(each, descriptor) for level, each in declared.items()}
        parts = {level: _arm_number(each, descriptor) for level, each in declared.items()}
        every = [each for fields in placed.values() for each in fields]
        last = max((*(each.field.number for each in every), *parts.values()), default=0)
        # What types share has one column for all of them; behind these come a type's own.
        shared = sorted({each.field.number for each in every if not each.is_in_arm})
        self._shapes = np.zeros((len(topic.carries) + 1, last + 1), np.int64)
        self._targets = np.zeros_like(self._shapes)
        self._width = 0
        self._kinds: dict[int, _Kind] = {}
        for level, carried in declared.items():
            self._shapes[0, parts[level]], self._targets[0, parts[level]] = PART, level
            own = [each.field.number for each in placed[level] if each.is_in_arm]
            fields = []
            for each in placed[level]:
                at, number = (level if each.is_in_arm else 0), each.field.number
                target = len(shared) + own.index(number) if each.is_in_arm else shared.index(number)
                self._shapes[at, number], self._targets[at, number] = _shape_of(each), target
                members = tuple(map(int, each.hint)) if is_enum(each.hint) else ()
                fields.append(_Field(each.name, _shape_of(each), target, each.is_optional, members))
            self._width = max(self._width, len(shared) + len(own))
            self._kinds[level] = _Kind(carried.type, tuple(fields), required_of(carried), _column_check(carried.check))

    @property
    def kinds(self) -> tuple[type, ...]:
        """The types that are read into columns."""
        return tuple(each.kind for each in self._kinds.values())

    def read(self, payloads: Sequence[bytes]) -> tuple[list[KindColumns], Ints]:
        """Return the columns of each type that was there, and the rows that `decode` has to read."""
        count = len(payloads)
        ends = np.zeros(count + 1, np.int64)
        np.cumsum(np.fromiter(map(len, payloads), np.int64, count), out=ends[1:])
        data = np.frombuffer(b"".join((*payloads, b"\0")), np.uint8)
        values, sizes = np.zeros((count, self._width), np.int64), np.zeros((count, self._width), np.int64)
        levels = np.empty(count, np.int64)
        read_fields(data, ends, self._shapes, self._targets, values, sizes, levels)
        found, left = [], [np.flatnonzero(levels <= 0)]
        for level, kind in self._kinds.items():
            rows = np.flatnonzero(levels == level)
            if not len(rows):
                continue
            fields, passed = _columns_of(kind, data, values[rows], sizes[rows])
            if not passed.all():
                left.append(rows[~passed])
                rows = rows[passed]
                fields, _ = _columns_of(kind, data, values[rows], sizes[rows])
            if len(rows):
                found.append(KindColumns(kind.kind, rows, fields))
        return found, np.sort(np.concatenate(left))


def _columns_of(
    kind: _Kind, data: npt.NDArray[np.uint8], values: Ints, sizes: Ints
) -> tuple[dict[str, FieldColumn], Flags]:
    """Build a type's columns; also say which rows fulfil all that is asked of the type."""
    passed = np.ones(len(values), np.bool_)
    columns: dict[str, FieldColumn] = {}
    for name, shape, target, is_optional, members in kind.fields:
        at, size = np.ascontiguousarray(values[:, target]), np.ascontiguousarray(sizes[:, target])
        if shape == TEXT:
            columns[name] = Texts(*gather_texts(data, at, size))
            if name in kind.required:
                passed &= size > 0
        elif shape == INTEGERS:
            offsets, integers, least, is_whole = unpack_integers(data, at, size)
            columns[name] = IntegerLists(offsets, integers, least)
            passed &= is_whole
        else:
            known = None
            if members:
                known = at != 0 if is_optional else None
                passed &= np.isin(at, members) | (is_optional & (at == 0))
            elif is_optional:
                known = size > 0
            columns[name] = Integers(at, known)
            if name in kind.required:
                passed &= at > 0
    if kind.holds is not None:
        passed &= kind.holds(_Values(columns))
    return columns, passed


class _Values:
    """What a check sees of a type's columns: an integer's values, or all of a list."""

    def __init__(self, columns: Mapping[str, FieldColumn]) -> None:
        self._columns = columns

    def __getattr__(self, name: str) -> Any:
        column = self._columns[name]
        return column.values if isinstance(column, Integers) else column


def _books_hold(book: Any) -> Flags:
    """The column form of `check_book`."""
    held = np.ones(len(book.bid_prices_e8.least), np.bool_)
    for prices, quantities in (
        (book.bid_prices_e8, book.bid_quantities_e8),
        (book.ask_prices_e8, book.ask_quantities_e8),
    ):
        held &= np.diff(prices.offsets) == np.diff(quantities.offsets)
        held &= (prices.least > 0) & (quantities.least >= 0)
    return held


_COLUMN_CHECKS: Mapping[Check, Callable[[Any], Any]] = {check_book: _books_hold}


def _column_check(check: Check | None) -> Callable[[Any], Any] | None:
    return check.holds if isinstance(check, Rule) else _COLUMN_CHECKS.get(check) if check is not None else None


def _has_columns(carried: Carried, descriptor: Any) -> bool:
    is_checked = carried.check is None or _column_check(carried.check) is not None
    if not _arm_number(carried, descriptor) or carried.fixed or not is_checked:
        return False
    return all(each.wrapper is None and _shape_of(each) for each in _placed(carried, descriptor))


def _arm_number(carried: Carried, descriptor: Any) -> int:
    """Return the number of the sub-message that a type has, 0 where it has none."""
    arm = arm_of(carried.type, descriptor)
    return 0 if arm is None else int(arm.number)


def _placed(carried: Carried, descriptor: Any) -> list[Placed]:
    return place_fields(carried.type, descriptor, arm_of(carried.type, descriptor))


def _shape_of(each: Placed) -> int:
    """Return what the walk makes of a field, 0 for what no column holds."""
    kind, is_list = each.field.type, get_origin(each.hint) is tuple
    if is_list:
        is_packed = get_args(each.hint)[0] is int and kind == FieldDescriptor.TYPE_INT64
        return INTEGERS if is_packed and not each.is_optional else 0
    if each.hint is str:
        return TEXT if kind == FieldDescriptor.TYPE_STRING and not each.is_optional else 0
    is_whole = each.hint in (int, bool) or is_enum(each.hint)
    return INTEGER if is_whole and kind in _INTEGER_TYPES else 0
