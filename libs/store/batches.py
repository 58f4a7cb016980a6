"""Records of a topic as the rows of its tables, ready to be written: by columns where the type has them, else by event.

Both ways give the same rows. What cannot be decoded becomes a row of the table `undecodable`, with its reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pyarrow as pa

from libs.store.tables import EVENT_TABLES, StoredRecord, StoredRow, Table, Undecodable, origin_arrays, table_of
from libs.wire.codec import decode_any
from libs.wire.columns import ColumnReader, KindColumns
from libs.wire.errors import DecodeError
from libs.wire.topics import RECORDED_TOPICS, TOPICS


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one topic by table, as Arrow; of the records that could not be decoded also partition, offset, reason."""

    tables: tuple[tuple[str, Any], ...]
    row_count: int
    undecodable: tuple[tuple[int, int, str], ...] = ()


def build_batch(topic: str, records: Sequence[StoredRecord]) -> Batch:
    """Build the rows of a topic's records."""
    reader, by_table = _reader_of(topic), dict[str, list[Any]]()
    left: Iterable[int] = range(len(records))
    if reader is not None:
        kinds, left = reader.read([record.value for record in records])
        origin = pa.table(_origin(topic, records)) if kinds else None
        for columns in kinds:
            table = EVENT_TABLES[columns.kind]
            by_table.setdefault(table.name, []).append(_arrow_of(table, origin, columns, len(records)))
    undecodable = []
    by_event: dict[str, tuple[Table, list[StoredRow]]] = {}
    for record in (records[at] for at in left):
        try:
            event = decode_any(topic, record.value)
        except DecodeError as error:
            undecodable.append((record.partition, record.offset, str(error)))
            event = Undecodable(record.value, str(error))
        table = table_of(topic, event)
        row = StoredRow(record.partition, record.offset, record.key, record.append_time_ms, event)
        by_event.setdefault(table.name, (table, []))[1].append(row)
    for table, rows in by_event.values():
        by_table.setdefault(table.name, []).append(table.arrow(topic, rows))
    tables = tuple((name, pa.concat_tables(parts)) for name, parts in by_table.items())
    return Batch(tables, len(records), tuple(undecodable))


def _origin(topic: str, records: Sequence[StoredRecord]) -> dict[str, Any]:
    return origin_arrays(
        topic,
        [record.partition for record in records],
        [record.offset for record in records],
        [record.key for record in records],
        [record.append_time_ms for record in records],
    )


def _arrow_of(table: Table, origin: Any, columns: KindColumns, count: int) -> Any:
    held = origin if len(columns.rows) == count else origin.take(pa.array(columns.rows))
    arrays = dict(zip(origin.column_names, held.columns, strict=True))
    for column in table.columns:
        assert column.convert is not None, column.name
        arrays[column.name] = column.convert(columns.fields[column.source])
    return pa.table(arrays)


def column_kinds(topic: str) -> tuple[type, ...]:
    """Return the types of a topic whose rows are built without an event."""
    reader = _reader_of(topic)
    return () if reader is None else reader.kinds


@cache
def _reader_of(topic: str) -> ColumnReader | None:
    """Return the reader of a topic's columns, None where no type of it has any."""
    if topic not in RECORDED_TOPICS:
        return None
    # A type whose table has a column that is no field's is written by event.
    kinds = [each.type for each in TOPICS[topic].carries if all(one.convert for one in EVENT_TABLES[each.type].columns)]
    reader = ColumnReader(TOPICS[topic], kinds)
    return reader if reader.kinds else None
