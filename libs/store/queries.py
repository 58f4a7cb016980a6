"""The SQL of the store's reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from clickhouse_connect.driver.client import Client

from libs.domain.bars import Bar
from libs.domain.numbers import to_e8
from libs.store.errors import StoreError

_BAR_FIELDS = tuple(field.name for field in fields(Bar))


@dataclass(frozen=True, slots=True)
class EquityPoint:
    """An account at a moment; `event_time` in ns since epoch UTC."""

    event_time: int
    sequence: int
    wallet_balance: Decimal
    equity: Decimal
    available_balance: Decimal


def count_rows(database: str, tables: Sequence[str]) -> str:
    """Count the records per topic over tables, a record that was written twice once; those at or behind an offset of
    their partition: `begins` of the TOPIC/PARTITION in `places`, 0 for those not among them."""
    place = "indexOf({places:Array(String)}, concat(topic, '/', toString(partition)))"
    is_behind = f"offset >= {{begins:Array(UInt64)}}[{place}]"
    parts = " UNION ALL ".join(
        f"SELECT topic, count() AS records FROM `{database}`.`{table}` FINAL WHERE {is_behind} GROUP BY topic"
        for table in tables
    )
    return f"SELECT topic, sum(records) FROM ({parts}) GROUP BY topic ORDER BY topic"


def read_bars(client: Client, database: str, parameters: Mapping[str, Any]) -> tuple[Bar, ...]:
    """Read bars in order of open time."""
    conditions = ["instrument = {instrument:String}", "timeframe = {timeframe:String}"]
    if parameters["begin"] is not None:
        conditions.append("open_time >= fromUnixTimestamp64Nano({begin:Int64}, 'UTC')")
    if parameters["end"] is not None:
        conditions.append("open_time < fromUnixTimestamp64Nano({end:Int64}, 'UTC')")
    columns = ", ".join(_select(name) for name in _BAR_FIELDS)
    newest_first = "DESC LIMIT {limit:UInt32}" if parameters["limit"] is not None else ""
    # A bar that was produced twice (a producer that is at-least-once) is one bar.
    text = (
        f"SELECT {columns} FROM `{database}`.bars AS bars FINAL WHERE {' AND '.join(conditions)} "
        f"ORDER BY bars.open_time {newest_first}"
    )
    given = {name: value for name, value in parameters.items() if value is not None}
    rows = client.query(text, parameters=given).result_rows
    bars: dict[str, Bar] = {}
    for row in rows if not newest_first else reversed(rows):
        bar = Bar(*(_to_domain(name, value) for name, value in zip(_BAR_FIELDS, row, strict=True)))
        bars[bar.event_id] = bar
    return tuple(bars.values())


def read_equity(client: Client, database: str, account: str, limit: int) -> tuple[EquityPoint, ...]:
    """Read the last states of an account."""
    text = (
        "SELECT toUnixTimestamp64Nano(event_time), sequence, wallet_balance, equity, available_balance "
        f"FROM `{database}`.account_states FINAL WHERE account = {{account:String}} "
        "ORDER BY sequence DESC, offset DESC LIMIT {limit:UInt32}"
    )
    rows = client.query(text, parameters={"account": account, "limit": limit}).result_rows
    return tuple(EquityPoint(*row) for row in reversed(rows))


def find_rows(
    client: Client, database: str, table: str, conditions: Mapping[str, str]
) -> tuple[Mapping[str, Any], ...]:
    """Read whole rows by equality of columns."""
    if not conditions:
        raise StoreError(f"finding rows of {table} needs at least one condition")
    for name in conditions:
        if not name.isidentifier():
            raise StoreError(f"{name!r} is not the name of a column")
    where = " AND ".join(f"`{name}` = {{{name}:String}}" for name in conditions)
    text = f"SELECT * FROM `{database}`.`{table}` FINAL WHERE {where} ORDER BY append_time, partition, offset"
    return tuple(client.query(text, parameters=dict(conditions)).named_results())


def _select(field: str) -> str:
    column = f"bars.{field.removesuffix('_e8')}"
    # The driver's datetimes stop at microseconds, so times travel as integers.
    return f"toUnixTimestamp64Nano({column})" if field.endswith("_time") else column


def _to_domain(field: str, value: Any) -> Any:
    return to_e8(value) if field.endswith("_e8") and value is not None else value
