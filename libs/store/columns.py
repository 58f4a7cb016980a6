"""Builds Arrow columns out of many domain events at once, one pass per column.

Money stays exact: integers of 1e-8 and Decimals become decimal128 with eight decimals, never floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

Builder: TypeAlias = Callable[[Sequence[Any]], Any]
"""Takes events, returns a pyarrow array of the same length."""

# 18 digits with eight decimals is ClickHouse's Decimal64(8); its bytes hold every signed 64-bit integer of 1e-8.
_NARROW = pa.decimal128(18, 8)
_WIDE = pa.decimal128(38, 8)
_TIME = pa.timestamp("ns", "UTC")
_EIGHT = Decimal("1E-8")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table and how to fill it from events."""

    name: str
    build: Builder


def narrow_decimals(scaled: Sequence[int]) -> Any:
    """Turn integers of 1e-8 into Decimal64(8) values, by their bytes."""
    return _decimals_of(np.fromiter(scaled, dtype=np.int64, count=len(scaled)), None)


def time_array(times_ns: Sequence[int]) -> Any:
    """Turn ns since epoch into DateTime64(9) values."""
    return pa.array(np.fromiter(times_ns, dtype=np.int64, count=len(times_ns)).view("datetime64[ns]"), _TIME)


def _decimals_of(values: Any, validity: Any) -> Any:
    words = np.empty((len(values), 2), dtype=np.int64)
    words[:, 0] = values
    # The high word repeats the sign.
    np.right_shift(values, 63, out=words[:, 1])
    return pa.Array.from_buffers(_NARROW, len(values), [validity, pa.py_buffer(words)])


def _column(name: str, path: str | None, finish: Callable[[list[Any]], Any]) -> Column:
    get = attrgetter(path or name)
    return Column(name, lambda events: finish([get(event) for event in events]))


def text(name: str, path: str | None = None) -> Column:
    """A string."""
    return _column(name, path, lambda values: pa.array(values, pa.string()))


def blob(name: str, path: str | None = None) -> Column:
    """Bytes as they are."""
    return _column(name, path, lambda values: pa.array(values, pa.binary()))


def label(name: str, path: str | None = None) -> Column:
    """An enum by its name in lower case; the empty string for None."""
    return _column(name, path, lambda values: pa.array([_name_of(value) for value in values], pa.string()))


def flag(name: str, path: str | None = None) -> Column:
    """A Bool."""
    return _column(name, path, lambda values: pa.array(values, pa.bool_()))


def integer(name: str, path: str | None = None, *, is_signed: bool = False) -> Column:
    """A 64-bit integer, None allowed."""
    kind = pa.int64() if is_signed else pa.uint64()
    return _column(name, path, lambda values: pa.array(values, kind))


def real(name: str, path: str | None = None) -> Column:
    """A Float64, None allowed; for features, forecasts and statistics only."""
    return _column(name, path, lambda values: pa.array(values, pa.float64()))


def time(name: str, path: str | None = None) -> Column:
    """A time in ns since epoch UTC."""
    return _column(name, path, time_array)


def optional_time(name: str, path: str | None = None) -> Column:
    """A time in ns since epoch UTC, or None."""
    return _column(name, path, lambda values: pa.array(values, pa.int64()).cast(_TIME))


def e8(name: str, path: str | None = None) -> Column:
    """A price or quantity given as an integer of 1e-8; the attribute is `NAME_e8` unless `path` says otherwise."""
    return _column(name, path or f"{name}_e8", narrow_decimals)


def optional_e8(name: str, path: str | None = None) -> Column:
    """Like `e8`, None allowed."""
    return _column(name, path or f"{name}_e8", _optional_decimals)


def amount(name: str, path: str | None = None) -> Column:
    """A Decimal, None allowed, as Decimal128(8). Raises `ArrowInvalid` rather than round."""
    return _column(name, path, lambda values: pa.array(values, _WIDE))


def texts(name: str, path: str | None = None) -> Column:
    """A list of strings."""
    return _column(name, path, lambda values: pa.array(values, pa.list_(pa.string())))


def e8_list(name: str, path: str | None = None) -> Column:
    """A list of integers of 1e-8; the attribute is `NAME_e8`."""
    return _column(name, path or f"{name}_e8", lambda lists: _lists(lists, narrow_decimals))


def reals(name: str, path: str) -> Column:
    """A list of Float64 from packed little-endian bytes."""

    def finish(packed: list[bytes]) -> Any:
        ends = np.cumsum([0, *(len(each) // 8 for each in packed)], dtype=np.int32)
        return pa.ListArray.from_arrays(pa.array(ends), pa.array(np.frombuffer(b"".join(packed), dtype="<f8")))

    return _column(name, path, finish)


def word_map(name: str, path: str | None = None) -> Column:
    """A map of strings."""
    kind = pa.map_(pa.string(), pa.string())
    return _column(name, path, lambda values: pa.array([list(value.items()) for value in values], kind))


def from_each(name: str, path: str, attribute: str, kind: Any) -> Column:
    """A list with one attribute of every member of a tuple, such as the names of all checks."""
    get = attrgetter(attribute)
    return _column(
        name, path, lambda tuples: pa.array([[get(member) for member in each] for each in tuples], pa.list_(kind))
    )


def constant(name: str, of_type: Callable[[type], str]) -> Column:
    """A string that depends on the event's type alone."""
    return Column(name, lambda events: pa.array([of_type(type(event)) for event in events], pa.string()))


WIDE_DECIMAL = _WIDE
STRING = pa.string()
BOOLEAN = pa.bool_()
UINT32 = pa.uint32()
UINT64 = pa.uint64()


def _name_of(value: IntEnum | None) -> str:
    return "" if value is None else value.name.lower()


def _optional_decimals(values: list[int | None]) -> Any:
    known = np.fromiter((value is not None for value in values), dtype=np.bool_, count=len(values))
    if known.all():
        return narrow_decimals([value or 0 for value in values])
    validity = pa.py_buffer(np.packbits(known, bitorder="little"))
    return _decimals_of(np.fromiter((value or 0 for value in values), np.int64, count=len(values)), validity)


def _lists(lists: Sequence[Sequence[int]], build_values: Callable[[Sequence[int]], Any]) -> Any:
    ends = np.cumsum([0, *map(len, lists)], dtype=np.int32)
    flat: Iterable[int] = (value for each in lists for value in each)
    return pa.ListArray.from_arrays(pa.array(ends), build_values(list(flat)))
