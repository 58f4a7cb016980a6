"""Reads the market back from its tables: an instrument's events as they were recorded, in the order of their topic."""

from __future__ import annotations

import dataclasses
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import IntEnum
from operator import itemgetter
from types import UnionType
from typing import Any, NamedTuple, TypeAlias, Union, get_args, get_origin, get_type_hints

from libs.domain.market import MarketEvent
from libs.domain.numbers import to_e8
from libs.store.tables import EVENT_TABLES
from libs.wire.topics import MARKET_EVENTS, TOPICS

Query: TypeAlias = Callable[[str, Mapping[str, Any]], Sequence[Mapping[str, Any]]]
Place: TypeAlias = tuple[int, int]
"""Partition and offset."""


class _FieldReader(NamedTuple):
    """A field of an event: the column it is kept in, how it is selected, and how its value is read."""

    column: str
    selected: str
    read: Callable[[Any], Any] | None


def read_market(query: Query, instrument: str, page_rows: int) -> Iterator[MarketEvent]:
    """Yield the events of an instrument, at most `page_rows` of each kind held at a time."""
    made = {row["name"] for row in query("SELECT name FROM system.tables WHERE database = currentDatabase()", {})}
    kinds = [each.type for each in TOPICS[MARKET_EVENTS].carries if EVENT_TABLES[each.type].name in made]
    streams = [_read_kind(query, kind, instrument, page_rows) for kind in kinds]
    for _, event in heapq.merge(*streams, key=itemgetter(0)):
        yield event


def _read_kind(query: Query, kind: type, instrument: str, page_rows: int) -> Iterator[tuple[Place, Any]]:
    readers = _field_readers(kind)
    text = (
        f"SELECT partition, offset, {', '.join(reader.selected for reader in readers)} "
        f"FROM {EVENT_TABLES[kind].name} AS kept FINAL "
        "WHERE instrument = {instrument:String} AND topic = {topic:String} "
        "AND (partition, offset) > ({partition:Int32}, {offset:Int64}) ORDER BY partition, offset LIMIT {rows:UInt32}"
    )
    place: Place = (-1, -1)
    while True:
        parameters = {
            "instrument": instrument,
            "topic": MARKET_EVENTS,
            "partition": place[0],
            "offset": place[1],
            "rows": page_rows,
        }
        rows = query(text, parameters)
        for row in rows:
            place = row["partition"], row["offset"]
            values = (row[reader.column] for reader in readers)
            yield place, kind(*(_value(reader, value) for reader, value in zip(readers, values, strict=True)))
        if len(rows) < page_rows:
            return


def _value(reader: _FieldReader, value: Any) -> Any:
    return value if reader.read is None or value is None else reader.read(value)


def _field_readers(kind: type) -> list[_FieldReader]:
    hints = get_type_hints(kind)
    return [_field_reader(field.name, hints[field.name]) for field in dataclasses.fields(kind)]


def _field_reader(name: str, hint: Any) -> _FieldReader:
    column = name.removesuffix("_e8")
    if get_origin(hint) in (Union, UnionType):
        hint = next(each for each in get_args(hint) if each is not type(None))
    if name.endswith("_time"):
        # The driver's datetimes stop at microseconds, so times travel as integers.
        return _FieldReader(f"{column}_ns", f"toUnixTimestamp64Nano(kept.{column}) AS {column}_ns", None)
    if get_origin(hint) is tuple:
        return _FieldReader(column, column, _read_scaled if name.endswith("_e8") else tuple)
    if name.endswith("_e8"):
        return _FieldReader(column, column, to_e8)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return _FieldReader(column, column, _enum_reader(hint))
    return _FieldReader(column, column, None)


def _read_scaled(values: Sequence[Any]) -> tuple[int, ...]:
    return tuple(map(to_e8, values))


def _enum_reader(kind: type[IntEnum]) -> Callable[[str], IntEnum]:
    return lambda name: kind[name.upper()]
