"""Reads klines and trades from Parquet. A row that makes no sense becomes an item with a error and its row number.

Prices and quantities are stored as floats there; they are read by their shortest decimal form, to eight decimals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from libs.domain.bars import TIMEFRAMES
from libs.domain.market import ExchangeBar, Trade
from libs.domain.numbers import InexactNumber, quantize_e8, to_e8
from libs.runtime.errors import BadInput
from libs.venues.frames import kline_event_id
from services.ingestion.items import Item

_KLINE_COLUMNS = ("open_time", "open", "high", "low", "close", "volume")
_TRADE_COLUMNS = ("time", "price", "qty", "is_buyer_maker", "id")
_OPTIONAL = ("quote_volume", "trades", "taker_buy_volume")


class RowError(ValueError):
    """A row of a table makes no sense."""


def read_table(path: Path, *, file_number: int, after_row: int, instrument: str) -> Iterator[Item]:
    """Yield the market's klines (not history) or trades of a Parquet file behind row `after_row` (rows start at 1).

    Raises `BadInput` where the columns are of neither kind.
    """
    table = _open(path)
    names = set(table.schema_arrow.names)
    if set(_KLINE_COLUMNS) <= names:
        timeframe = timeframe_of(path)
        columns = [*_KLINE_COLUMNS, *(name for name in _OPTIONAL if name in names)]
    elif set(_TRADE_COLUMNS) <= names:
        timeframe = ""
        columns = list(_TRADE_COLUMNS)
    else:
        raise BadInput(
            f"{path} has columns {sorted(names)}; klines need {', '.join(_KLINE_COLUMNS)}, "
            f"trades need {', '.join(_TRADE_COLUMNS)}"
        )
    row_number = 0
    for batch in table.iter_batches(batch_size=4096, columns=columns):
        if row_number + batch.num_rows <= after_row:
            row_number += batch.num_rows
            continue
        for row in _rows_of(batch, path):
            row_number += 1
            if row_number <= after_row:
                continue
            item = Item(received_time=0, source=str(path), file=file_number, line=row_number)
            try:
                event: ExchangeBar | Trade
                if timeframe:
                    event = _kline(row, instrument, timeframe, is_history=False)
                else:
                    event = _trade(row, instrument)
                item.events = (event,)
                item.received_time = item.clock = event.event_time
            except (RowError, InexactNumber, InvalidOperation) as error:
                item.error = f"row {row_number}: {error}"
                item.payload = repr(row).encode()
            yield item


def read_klines(path: Path, *, instrument: str, from_time: int, to_time: int) -> list[ExchangeBar]:
    """Return the 1m klines with open time in [from_time, to_time) as history bars, ascending.

    Raises `BadInput` where the file has another step, or a row in that range makes no sense.
    """
    timeframe = timeframe_of(path)
    if timeframe != "1m":
        raise BadInput(f"{path} has {timeframe} klines; history needs 1m klines, from which longer bars are built")
    table = _open(path)
    columns = [*_KLINE_COLUMNS, *(name for name in _OPTIONAL if name in table.schema_arrow.names)]
    bars = []
    row_number = 0
    for batch in table.iter_batches(batch_size=4096, columns=columns):
        times = _times_ns(batch.column(batch.schema.get_field_index("open_time")), path)
        if not times or times[-1] < from_time or times[0] >= to_time:
            row_number += batch.num_rows
            continue
        for row in _rows_of(batch, path):
            row_number += 1
            if from_time <= row["open_time"] < to_time:
                try:
                    bars.append(_kline(row, instrument, timeframe, is_history=True))
                except (RowError, InexactNumber, InvalidOperation) as error:
                    raise BadInput(f"{path}, row {row_number}: {error}; fix or cut the history file") from None
    for left, right in pairwise(bars):
        if right.open_time <= left.open_time:
            raise BadInput(f"{path} is not sorted by open_time without duplicates; sort it")
    return bars


def kline_range(path: Path) -> tuple[int, int]:
    """Return the first and last open time (ns) of a kline file."""
    times = _times_ns(pq.read_table(path, columns=["open_time"]).column("open_time"), path)
    return (times[0], times[-1]) if times else (0, 0)


def timeframe_of(path: Path) -> str:
    """Tell the timeframe of a kline file by the smallest step between its rows. Raises `BadInput`."""
    table = _open(path)
    if not set(_KLINE_COLUMNS) <= set(table.schema_arrow.names):
        raise BadInput(f"{path} has columns {table.schema_arrow.names}; klines need {', '.join(_KLINE_COLUMNS)}")
    times = _times_ns(pq.read_table(path, columns=["open_time"]).slice(0, 4096).column("open_time"), path)
    steps = [right - left for left, right in pairwise(times) if right > left]
    for name, length in TIMEFRAMES.items():
        if steps and length == min(steps):
            return name
    raise BadInput(f"{path} has a step of {min(steps, default=0) / 1e9:g} s; known are {', '.join(TIMEFRAMES)}")


def _open(path: Path) -> Any:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path} cannot be read as Parquet: {error}") from error


def _times_ns(column: Any, path: Path) -> list[int]:
    try:
        times: list[int] = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64()).to_pylist()
    except (AttributeError, pa.ArrowInvalid):
        raise BadInput(f"{path}: the time column is {column.type}; it must be a timestamp") from None
    return times


def _rows_of(batch: Any, path: Path) -> Iterator[dict[str, Any]]:
    columns: dict[str, list[Any]] = {}
    for name in batch.schema.names:
        column = batch.column(batch.schema.get_field_index(name))
        columns[name] = _times_ns(column, path) if name in ("open_time", "time") else column.to_pylist()
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def float_to_e8(value: Any, name: str, *, may_be_zero: bool) -> int:
    """Read a stored float as an integer of 1e-8, by its shortest decimal form. Raises `RowError`."""
    if not isinstance(value, float | int) or value != value or value in (float("inf"), float("-inf")):
        raise RowError(f"{name} is {value!r}, not a finite number")
    if value < 0 or (value == 0 and not may_be_zero):
        raise RowError(f"{name} is {value!r}; it must be {'at least' if may_be_zero else 'above'} 0")
    return to_e8(quantize_e8(Decimal(repr(value))))


def _kline(row: Mapping[str, Any], instrument: str, timeframe: str, *, is_history: bool) -> ExchangeBar:
    open_time = row["open_time"]
    if open_time is None:
        raise RowError("open_time is missing")
    close_time = open_time + TIMEFRAMES[timeframe]
    prices = [float_to_e8(row[name], name, may_be_zero=False) for name in ("open", "high", "low", "close")]
    if not prices[2] <= min(prices[0], prices[3]) <= max(prices[0], prices[3]) <= prices[1]:
        raise RowError(f"open, high, low, close are {[row[name] for name in ('open', 'high', 'low', 'close')]}")
    quote_volume, trades, taker = (row.get(name) for name in _OPTIONAL)
    return ExchangeBar(
        instrument=instrument,
        event_id=kline_event_id(instrument, timeframe, open_time),
        event_time=close_time,
        received_time=close_time,
        timeframe=timeframe,
        open_time=open_time,
        close_time=close_time,
        open_e8=prices[0],
        high_e8=prices[1],
        low_e8=prices[2],
        close_e8=prices[3],
        volume_e8=float_to_e8(row["volume"], "volume", may_be_zero=True),
        quote_volume_e8=None if quote_volume is None else float_to_e8(quote_volume, "quote_volume", may_be_zero=True),
        taker_buy_volume_e8=None if taker is None else float_to_e8(taker, "taker_buy_volume", may_be_zero=True),
        trade_count=None if trades is None else int(trades),
        is_history=is_history,
    )


def _trade(row: Mapping[str, Any], instrument: str) -> Trade:
    if row["time"] is None or row["id"] is None or row["is_buyer_maker"] is None:
        raise RowError("time, id or is_buyer_maker is missing")
    return Trade(
        instrument=instrument,
        event_id=f"{instrument}/trade/{row['id']}",
        event_time=row["time"],
        received_time=row["time"],
        price_e8=float_to_e8(row["price"], "price", may_be_zero=False),
        quantity_e8=float_to_e8(row["qty"], "qty", may_be_zero=False),
        is_buyer_maker=row["is_buyer_maker"],
        venue_trade_id=row["id"],
    )
