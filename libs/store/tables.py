"""Which table keeps which event. Columns come from the types that the recorded topics carry; order keys, how long rows
are kept and the names that no rule gives are written here.

Every table begins with where the record came from: topic, partition, offset, key, append_time. Rows expire by their
append, never by event time: an old market recorded today must stay.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from libs.domain.market import FundingSettled
from libs.domain.orders import CancelOrder, OrderApproved, OrderRefused, PlaceOrder
from libs.store.columns import Column, derive_columns
from libs.store.errors import MigrationMismatch, StoreError
from libs.wire.records import DeadLetter
from libs.wire.topics import MARKET_EVENTS, RECORDED_TOPICS, TOPICS, TopicDeclaration

# Days after its append that a row is kept; other tables keep theirs for ever.
_KEPT_DAYS = {
    "trades": 365,
    "depth_snapshots": 30,
    "depth_deltas": 30,
    "best_quotes": 90,
    "mark_prices": 365,
    "open_interests": 365,
    "liquidations": 365,
    "clock_ticks": 30,
    "feature_vectors": 365,
    "alerts": 365,
}
# What a table is ordered by, where that is not its key and the event's time.
_ORDER_KEYS = {
    "bars": ("instrument", "timeframe", "open_time"),
    "exchange_bars": ("instrument", "timeframe", "open_time"),
    "feature_vectors": ("instrument", "feature_set", "event_time"),
    "forecasts": ("instrument", "model_name", "event_time"),
}
_SHARED_TABLES: dict[type, str] = {
    **dict.fromkeys((OrderApproved, OrderRefused), "verdicts"),
    **dict.fromkeys((PlaceOrder, CancelOrder), "order_commands"),
}
_TABLE_NAMES: dict[type, str] = {FundingSettled: "funding_settlements", **_SHARED_TABLES}
# What tells the types of a shared table apart.
_TELLING: dict[str, tuple[str, dict[type, str]]] = {
    "verdicts": ("verdict", {OrderApproved: "approved", OrderRefused: "refused"}),
    "order_commands": ("command", {PlaceOrder: "place", CancelOrder: "cancel"}),
}
_COLUMN_NAMES: dict[type, dict[str, str]] = {DeadLetter: {"key": "source_key"}}

_ORIGIN = (
    "topic LowCardinality(String)",
    "partition UInt16",
    "offset UInt64 CODEC(Delta, ZSTD(1))",
    "key LowCardinality(String)",
    "append_time DateTime64(3, 'UTC') CODEC(DoubleDelta, ZSTD(1))",
)


class StoredRow(NamedTuple):
    """A record with its decoded event. `append_time_ms` is the wall time of its append, ms since epoch UTC."""

    partition: int
    offset: int
    key: bytes
    append_time_ms: int
    event: Any


class StoredRecord(Protocol):
    """A record as a bus gives it, not decoded yet."""

    @property
    def partition(self) -> int:
        """Its partition."""
        ...

    @property
    def offset(self) -> int:
        """Where in the partition it is."""
        ...

    @property
    def key(self) -> bytes:
        """Its key."""
        ...

    @property
    def value(self) -> bytes:
        """Its payload."""
        ...

    @property
    def append_time_ms(self) -> int:
        """The wall time of its append, ms since epoch UTC."""
        ...


class Undecodable(NamedTuple):
    """A payload that is not what its topic carries, with the reason."""

    payload: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Table:
    """A table, the columns that come from the event, and how it is ordered and kept (0 days: for ever)."""

    name: str
    columns: tuple[Column, ...]
    order_by: tuple[str, ...] = ()
    kept_days: int = 0

    @property
    def has_event_id(self) -> bool:
        """Whether an event id identifies its records too."""
        return any(column.name == "event_id" for column in self.columns)

    def create(self) -> str:
        """Return the statement that makes the table."""
        columns = ",\n    ".join((*_ORIGIN, *(f"{column.name} {column.type}" for column in self.columns)))
        order = ", ".join((*self.order_by, "topic", "partition", "offset"))
        expiry = f"\nTTL toDateTime(append_time) + INTERVAL {self.kept_days} DAY" if self.kept_days else ""
        return (
            f"CREATE TABLE IF NOT EXISTS {self.name}\n(\n    {columns}\n)\n"
            f"ENGINE = ReplacingMergeTree\nPARTITION BY toYYYYMM(append_time)\nORDER BY ({order}){expiry}"
        )

    def arrow(self, topic: str, rows: Sequence[StoredRow]) -> Any:
        """Build a pyarrow Table of the rows."""
        partitions, offsets, keys, times_ms, events = zip(*rows, strict=True)
        arrays = origin_arrays(topic, partitions, offsets, keys, times_ms)
        for column in self.columns:
            arrays[column.name] = column.build(events)
        return pa.table(arrays)


def origin_arrays(
    topic: str, partitions: Sequence[int], offsets: Sequence[int], keys: Sequence[bytes], times_ms: Sequence[int]
) -> dict[str, Any]:
    """Build the columns that say where records came from, by name; in the order in which they are declared."""
    return {
        "topic": pa.repeat(pa.scalar(topic), len(offsets)),
        "partition": pa.array(partitions, pa.uint16()),
        "offset": pa.array(offsets, pa.uint64()),
        "key": pa.array(keys, pa.binary()),
        "append_time": pa.array(times_ms, pa.timestamp("ms", "UTC")),
    }


def derive_tables(topics: Iterable[TopicDeclaration]) -> dict[type, Table]:
    """Return the table of every type that the topics carry."""
    kinds: dict[str, list[type]] = {}
    keys: dict[str, tuple[str, ...]] = {}
    for topic in topics:
        for each in topic.carries:
            name = _TABLE_NAMES.get(each.type) or _plural(each.kind)
            kinds.setdefault(name, [])
            if each.type not in kinds[name]:
                kinds[name].append(each.type)
            has_time = topic.key in ("instrument", "account", "service")
            keys[name] = _ORDER_KEYS.get(name) or ((topic.key, "event_time") if has_time else ())
    tables: dict[type, Table] = {}
    for name, members in kinds.items():
        columns = (*_telling_column(name), *derive_columns(members, _COLUMN_NAMES.get(members[0])))
        table = Table(name, columns, keys[name], _KEPT_DAYS.get(name, 0))
        tables |= dict.fromkeys(members, table)
    return tables


def _telling_column(table: str) -> Iterator[Column]:
    if table in _TELLING:
        name, words = _TELLING[table]
        yield Column(
            name,
            "LowCardinality(String)",
            lambda events: pa.array([words[type(event)] for event in events], pa.string()),
        )


def _plural(kind: str) -> str:
    return f"{kind.removesuffix('y')}ies" if kind.endswith("y") else f"{kind}s"


EVENT_TABLES: dict[type, Table] = derive_tables(TOPICS[name] for name in RECORDED_TOPICS)
"""Table of every type that is recorded."""

UNDECODABLE_TABLE = Table(
    "undecodable",
    (
        Column(
            "payload",
            "String CODEC(ZSTD(1))",
            lambda events: pa.array([event.payload for event in events], pa.binary()),
        ),
        Column(
            "reason", "String CODEC(ZSTD(1))", lambda events: pa.array([event.reason for event in events], pa.string())
        ),
    ),
)
TABLES: dict[str, Table] = {table.name: table for table in (*EVENT_TABLES.values(), UNDECODABLE_TABLE)}
"""Every table that keeps records, by name."""


def table_of(topic: str, event: Any) -> Table:
    """Choose the table of an event. Raises `StoreError` for a type that no table keeps."""
    if type(event) is Undecodable:
        return UNDECODABLE_TABLE
    table = EVENT_TABLES.get(type(event))
    if table is None:
        raise StoreError(f"no table keeps {type(event).__name__} of topic {topic!r}")
    return table


def complete_statements(made: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the statements that bring a database's tables (columns and their types) to this version.

    Only adds tables and columns. Raises `MigrationMismatch` where a column is of another type than what is written.
    """
    statements = []
    for table in TABLES.values():
        present = made.get(table.name)
        if present is None:
            statements.append(table.create())
            continue
        for column in table.columns:
            kind = _server_type(column.type)
            if column.name not in present:
                statements.append(f"ALTER TABLE {table.name} ADD COLUMN IF NOT EXISTS {column.name} {column.type}")
            elif present[column.name] != kind:
                raise MigrationMismatch(
                    f"column {column.name} of {table.name} is {present[column.name]} where this version writes {kind}; "
                    "use another database or the version that made this one"
                )
    return statements


def market_view() -> str:
    """Return the statement of the view over all events of the market, each record counted once."""
    shared = "topic, partition, offset, instrument, event_id, event_time, received_time, append_time"
    names = [EVENT_TABLES[each.type].name for each in TOPICS[MARKET_EVENTS].carries]
    parts = [f"SELECT '{name}' AS kind, {shared} FROM {name} FINAL" for name in names]
    return "CREATE OR REPLACE VIEW market_events AS\n" + "\nUNION ALL\n".join(parts)


def _server_type(declared: str) -> str:
    kind = declared.partition(" CODEC(")[0]
    return kind.replace("Decimal64(8)", "Decimal(18, 8)").replace("Decimal128(8)", "Decimal(38, 8)")
