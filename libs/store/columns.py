"""Derives a table's columns from the dataclasses it keeps: name, ClickHouse type, and how Arrow is built from events.

A field's type decides: integers of 1e-8 (`_e8`) and Decimals become exact decimals, never floats; `_time` is a time in
ns; an enum is its name in lower case; a list of values becomes one array a field. A value inside an event gives its
fields as columns, unless the event itself has a field of that name. Columns are built for many events at once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from functools import partial
from operator import attrgetter
from types import UnionType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa

from libs.store.errors import StoreError

if TYPE_CHECKING:
    # It compiles; whoever only asks the store needs none of it.
    from libs.wire.columns import IntegerLists, Integers, Texts

Builder: TypeAlias = Callable[[Sequence[Any]], Any]
"""Takes events, returns a pyarrow array of the same length."""

# 18 digits with eight decimals is ClickHouse's Decimal64(8); its bytes hold every signed 64-bit integer of 1e-8.
_NARROW = pa.decimal128(18, 8)
_WIDE = pa.decimal128(38, 8)
_TIME = pa.timestamp("ns", "UTC")
_WORD_MAP = pa.map_(pa.string(), pa.string())

# Texts with few values.
_LOW_CARDINALITY = frozenset(
    {
        *("account", "action", "feature_set", "instrument", "issued_by", "model_name", "model_sha256", "model_version"),
        *("name", "role", "schema_hash", "service", "source_topic", "strategy", "target", "timeframe"),
        "topic",
    }
)
# Integers that were unsigned from the first.
_UNSIGNED = {
    "trade_count": "UInt64",
    "sequence": "UInt64 CODEC(Delta, ZSTD(1))",
    "source_offset": "UInt64",
    "known_count": "UInt32",
    "open_order_count": "UInt32",
    "source_partition": "UInt32",
    "partition": "UInt32",
    "first_offset": "UInt64",
    "next_offset": "UInt64",
}
# Columns whose names are not their fields'.
_NAMES = {
    "check_name": "check_names",
    "check_has_passed": "check_passed",
    "check_value": "check_values",
    "check_limit": "check_limits",
    "packed": "feature_values",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, its type with its codec, and how to fill it from events.

    Where `convert` is there, it makes the same of a column that was read off payloads, the one of the field `source`.
    """

    name: str
    type: str
    build: Builder
    source: str = ""
    convert: Callable[[Any], Any] | None = None


class _Plan(NamedTuple):
    """How values of one type are kept; `absent` stands for a value that some event does not have.

    `convert` makes of a column of integers, texts or lists what `to_arrow` makes of its values one by one.
    """

    type: str
    codec: str
    to_arrow: Callable[[list[Any]], Any]
    absent: Any
    is_nullable: bool = True
    convert: Callable[[Any], Any] | None = None

    def declare(self, is_optional: bool) -> str:
        if is_optional and self.is_nullable:
            return f"Nullable({self.type}) CODEC(ZSTD(1))"
        return f"{self.type} CODEC({self.codec})" if self.codec else self.type


class _Field(NamedTuple):
    """A field of one of the types that share a table, possibly inside another."""

    get: Callable[[Any], Any]
    plan: _Plan
    is_optional: bool
    source: str = ""


def derive_columns(kinds: Sequence[type], names: Mapping[str, str] | None = None) -> tuple[Column, ...]:
    """Return the columns for events of some types; what one of them lacks is empty, false or NULL.

    `names` are columns not named like their fields. Raises `StoreError` for a field that no column can keep.
    """
    found: dict[str, dict[type, _Field]] = {}
    for kind in kinds:
        for name, each in _fields_of(kind):
            found.setdefault((names or {}).get(name, name), {}).setdefault(kind, each)
    return tuple(_column(name, by_kind, kinds) for name, by_kind in found.items())


def _column(name: str, by_kind: Mapping[type, _Field], kinds: Sequence[type]) -> Column:
    plan = next(iter(by_kind.values())).plan
    is_optional = len(by_kind) < len(kinds) or any(each.is_optional for each in by_kind.values())
    to_arrow = plan.to_arrow
    if len(kinds) == 1:
        get = by_kind[kinds[0]].get
        build: Builder = lambda events: to_arrow([get(event) for event in events])  # noqa: E731
        source = by_kind[kinds[0]].source
        if source and plan.convert is not None:
            return Column(name, plan.declare(is_optional), build, source, plan.convert)
    else:
        absent = None if plan.is_nullable else plan.absent
        getters = {kind: each.get for kind, each in by_kind.items()}

        def build(events: Sequence[Any]) -> Any:
            return to_arrow([getters[type(event)](event) if type(event) in getters else absent for event in events])

    return Column(name, plan.declare(is_optional), build)


def _fields_of(kind: type) -> Iterator[tuple[str, _Field]]:
    own = {field.name for field in dataclasses.fields(kind)}
    for name, hint, is_optional in _hints_of(kind):
        get = attrgetter(name)
        if not _is_value(hint):
            yield from _field_columns(name, hint, get, is_optional, source=name)
            continue
        for inner, inner_hint, inner_optional in _hints_of(hint):
            if inner not in own:
                inside = _inside(name, inner) if is_optional else attrgetter(f"{name}.{inner}")
                yield from _field_columns(inner, inner_hint, inside, is_optional or inner_optional)


def _field_columns(
    name: str, hint: Any, get: Callable[[Any], Any], is_optional: bool, source: str = ""
) -> Iterator[tuple[str, _Field]]:
    if get_origin(hint) is tuple and _is_value(get_args(hint)[0]):
        for inner, inner_hint, _ in _hints_of(get_args(hint)[0]):
            column = f"{name.removesuffix('s')}_{inner.removesuffix('_e8')}"
            plan = _array_plan(_plan_of(inner, inner_hint))
            yield _NAMES.get(column, column), _Field(_each(get, attrgetter(inner)), plan, False)
        return
    yield _NAMES.get(name, name.removesuffix("_e8")), _Field(get, _plan_of(name, hint), is_optional, source)


def _inside(outer: str, inner: str) -> Callable[[Any], Any]:
    get_outer, get_inner = attrgetter(outer), attrgetter(inner)

    def get(event: Any) -> Any:
        part = get_outer(event)
        return None if part is None else get_inner(part)

    return get


def _each(get: Callable[[Any], Any], get_inner: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda event: [get_inner(member) for member in get(event)]


def _hints_of(kind: type) -> list[tuple[str, Any, bool]]:
    hints = get_type_hints(kind)
    rows = []
    for field in dataclasses.fields(kind):
        hint, is_optional = hints[field.name], False
        if get_origin(hint) in (Union, UnionType):
            hint, is_optional = next(each for each in get_args(hint) if each is not type(None)), True
        rows.append((field.name, hint, is_optional))
    return rows


def _is_value(hint: Any) -> bool:
    return isinstance(hint, type) and dataclasses.is_dataclass(hint)


def _plan_of(name: str, hint: Any) -> _Plan:
    if name == "packed":
        return _Plan("Array(Float64)", "ZSTD(1)", packed_reals, b"", False)
    if hint is str:
        text = _Plan("String", "ZSTD(1)", _arrow(pa.string()), "", False, _texts_of)
        return text._replace(type="LowCardinality(String)", codec="") if name in _LOW_CARDINALITY else text
    if hint is int:
        return _integer_plan(name)
    if hint in _PLANS:
        return _PLANS[hint]
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _Plan("LowCardinality(String)", "", labels, None, False, partial(_labels_of, _names_of(hint)))
    if get_origin(hint) is tuple:
        return _array_plan(_plan_of(name, get_args(hint)[0]))
    raise StoreError(f"no column can keep {name}, a {hint}")


_PLANS: dict[Any, _Plan] = {}


def _integer_plan(name: str) -> _Plan:
    if name.endswith("_e8"):
        return _Plan("Decimal64(8)", "Delta, ZSTD(1)", narrow_decimals, None, convert=_narrow_of)
    if name.endswith("_time"):
        return _Plan("DateTime64(9, 'UTC')", "DoubleDelta, ZSTD(1)", times, None, convert=_times_of)
    kind, _, codec = _UNSIGNED.get(name, "Int64 CODEC(Delta, ZSTD(1))").partition(" CODEC(")
    arrow = {"UInt32": pa.uint32(), "UInt64": pa.uint64(), "Int64": pa.int64()}[kind]
    convert = _integers_of if arrow == pa.int64() else None
    to_arrow = _offsets if name == "source_offset" else _arrow(arrow)
    return _Plan(kind, codec.removesuffix(")"), to_arrow, None, convert=convert)


def _array_plan(inner: _Plan) -> _Plan:
    is_plain = inner.type in ("LowCardinality(String)", "Bool")

    def to_arrow(lists: list[Sequence[Any]]) -> Any:
        ends = np.cumsum([0, *map(len, lists)], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), inner.to_arrow([value for each in lists for value in each]))

    convert = _narrow_lists_of if inner.type == "Decimal64(8)" else None
    return _Plan(f"Array({inner.type})", "" if is_plain else "ZSTD(1)", to_arrow, (), False, convert)


def _arrow(kind: Any) -> Callable[[list[Any]], Any]:
    return lambda values: pa.array(values, kind)


def _offsets(values: list[int]) -> Any:
    # What a chain could not handle had no offset yet.
    return pa.array([max(value, 0) for value in values], pa.uint64())


def labels(values: Iterable[IntEnum | None]) -> Any:
    """Turn enums into their names in lower case, None into the empty text."""
    return pa.array(["" if value is None else value.name.lower() for value in values], pa.string())


def times(times_ns: Sequence[int | None]) -> Any:
    """Turn ns since epoch into DateTime64(9) values, None into NULL."""
    return pa.array(times_ns, pa.int64()).cast(_TIME)


def narrow_decimals(scaled: Sequence[int | None]) -> Any:
    """Turn integers of 1e-8 into Decimal64(8) values, by their bytes; None into NULL."""
    try:
        return _decimals_of(np.fromiter(scaled, dtype=np.int64, count=len(scaled)), None)
    except TypeError:
        known = np.fromiter((value is not None for value in scaled), dtype=np.bool_, count=len(scaled))
        validity = pa.py_buffer(np.packbits(known, bitorder="little"))
        return _decimals_of(np.fromiter((value or 0 for value in scaled), np.int64, count=len(scaled)), validity)


def _decimals_of(values: Any, validity: Any) -> Any:
    words = np.empty((len(values), 2), dtype=np.int64)
    words[:, 0] = values
    # The high word repeats the sign.
    np.right_shift(values, 63, out=words[:, 1])
    return pa.Array.from_buffers(_NARROW, len(values), [validity, pa.py_buffer(words)])


def wide_decimals(values: Sequence[Decimal | None]) -> Any:
    """Turn Decimals into Decimal128(8) values. Raises `ArrowInvalid` rather than round."""
    return pa.array(values, _WIDE)


def _integers_of(column: Integers) -> Any:
    return pa.array(column.values, mask=None if column.known is None else ~column.known)


def _times_of(column: Integers) -> Any:
    return _integers_of(column).cast(_TIME)


def _flags_of(column: Integers) -> Any:
    return pa.array(column.values != 0, mask=None if column.known is None else ~column.known)


def _names_of(kind: type[IntEnum]) -> Any:
    """Return the words of an enum by its numbers."""
    words = [""] * (max(kind) + 1)
    for member in kind:
        words[member] = member.name.lower()
    return pa.array(words, pa.string())


def _labels_of(names: Any, column: Integers) -> Any:
    return names.take(pa.array(column.values))


def _narrow_of(column: Integers) -> Any:
    if column.known is None:
        return _decimals_of(column.values, None)
    return _decimals_of(column.values, pa.py_buffer(np.packbits(column.known, bitorder="little")))


def _narrow_lists_of(column: IntegerLists) -> Any:
    return pa.ListArray.from_arrays(pa.array(column.offsets), _decimals_of(column.values, None))


def _texts_of(column: Texts) -> Any:
    offsets, data = pa.py_buffer(column.offsets), pa.py_buffer(column.data)
    return pa.StringArray.from_buffers(len(column.offsets) - 1, offsets, data)


def packed_reals(packed: Sequence[bytes]) -> Any:
    """Turn packed little-endian doubles into lists of Float64, bit by bit."""
    ends = np.cumsum([0, *(len(each) // 8 for each in packed)], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.frombuffer(b"".join(packed), dtype="<f8")))


_PLANS |= {
    bool: _Plan("Bool", "", _arrow(pa.bool_()), False, False, _flags_of),
    float: _Plan("Float64", "Gorilla, ZSTD(1)", _arrow(pa.float64()), None),
    bytes: _Plan("String", "ZSTD(1)", _arrow(pa.binary()), b"", False),
    Decimal: _Plan("Decimal128(8)", "ZSTD(1)", wide_decimals, None),
    dict[str, str]: _Plan(
        "Map(LowCardinality(String), String)",
        "ZSTD(1)",
        lambda maps: pa.array([list(each.items()) for each in maps], _WORD_MAP),
        {},
        False,
    ),
}
