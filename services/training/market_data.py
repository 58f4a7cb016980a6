"""Where training's bars come from: a Parquet file of klines, or the simulated market."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from libs.domain.numbers import NANOSECONDS
from libs.indicators import columns as col
from libs.runtime.errors import BadInput
from services.exchange.core import SimulatedMarket
from services.exchange.core.frames import decode_kline
from services.training.core.bars import OPTIONAL, REQUIRED, BadBars, BarTable, table_of_bars, table_of_columns
from services.training.published import PublishedFiles, PublishedSeries

MINUTES_PER_DAY = 1440
NOTHING_BESIDE = PublishedFiles()
# Of a bar that lacks trades.
_MARK = "is_incomplete"


@dataclass(frozen=True, slots=True)
class TrainingBars:
    """Bars and a description of them that another machine can check."""

    table: BarTable
    description: dict[str, str | int]


def read_bars(path: Path, beside: PublishedFiles = NOTHING_BESIDE) -> TrainingBars:
    """Read klines from Parquet, without those marked as lacking trades, and join what was published beside them.

    Raises `BadInput` naming file, row and fix.
    """
    try:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        table = file.read(columns=[name for name in (*REQUIRED, *OPTIONAL, _MARK) if name in names])
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist; give klines as Parquet") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path} cannot be read as Parquet: {error}") from error
    facts = beside.describe()
    total = len(table)
    if _MARK in table.column_names:
        # What remains has a gap there, over which no example reaches.
        table = table.filter(pc.invert(pc.fill_null(table.column(_MARK), False))).drop_columns([_MARK])
    try:
        columns = {name: _column(table.column(name), name) for name in table.column_names}
        bars = table_of_columns(columns)
    except BadBars as error:
        raise BadInput(f"{path}: {error}") from error
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    described: dict[str, str | int] = {"source": "file", "file": path.name, "sha256": digest, "bars": len(bars)}
    if total > len(table):
        described["incomplete_bars_left_out"] = total - len(table)
    if facts:
        bars = join_published(bars, PublishedSeries(beside))
    described.update(facts)
    return TrainingBars(bars, described)


def join_published(bars: BarTable, series: PublishedSeries) -> BarTable:
    """Return the bars with what each knows, by its close, of the series beside them."""
    published = np.full((len(bars), col.ROW_WIDTH), np.nan)
    closes = (bars.open_times + bars.step_ns) // NANOSECONDS
    series.join(published, closes, bars.step_ns // NANOSECONDS)
    return replace(bars, published=published)


def simulate_bars(seed: int, days: int) -> TrainingBars:
    """Make 1m klines of the simulated market: `days` of its history before its start."""
    market = SimulatedMarket(seed, history_minutes=days * MINUTES_PER_DAY)
    bars = table_of_bars([decode_kline(kline) for kline in market.history])
    return TrainingBars(bars, {"source": "simulated market", "seed": seed, "days": days, "bars": len(bars)})


def _column(column: pa.ChunkedArray, name: str) -> npt.NDArray[np.generic]:
    if name == "open_time":
        if not pa.types.is_timestamp(column.type):
            raise BadBars(f"column open_time is {column.type}, must be a timestamp")
        column = column.cast(pa.timestamp("ns", tz=column.type.tz)).cast(pa.int64())
        if column.null_count:
            raise BadBars("column open_time has empty rows; drop them")
        return np.asarray(column.to_numpy())
    try:
        return np.asarray(column.cast(pa.float64()).to_numpy())
    except pa.ArrowInvalid as error:
        raise BadBars(f"column {name} is {column.type}, must be numbers: {error}") from None
