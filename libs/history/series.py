"""What a file of history is of, written into it and held against it: rows of two series never mix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from libs.history.errors import HistoryError
from libs.venues.history import COLUMNS, TIMED, TIMEFRAME_MS, ColumnType, Kind

_TYPES: dict[ColumnType, Any] = {
    "time": pa.timestamp("ms", "UTC"),
    "real": pa.float64(),
    "count": pa.int64(),
    "flag": pa.bool_(),
}
_PREFIX = "perpflow."
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True)
class Series:
    """One series: `timeframe` is empty for kinds that have none; `is_sample` data was made up from a seed."""

    venue: str
    symbol: str
    kind: Kind
    timeframe: str = ""
    is_sample: bool = False

    def __str__(self) -> str:
        words = (f"{self.symbol}.{self.venue}", self.kind, self.timeframe, "(sample data)" if self.is_sample else "")
        return " ".join(word for word in words if word)

    @property
    def schema(self) -> Any:
        """The Arrow schema of its rows."""
        return pa.schema([(name, _TYPES[kind]) for name, kind in COLUMNS[self.kind]])

    @property
    def time_column(self) -> str:
        """The column that rows are in order of."""
        return COLUMNS[self.kind][0][0]

    @property
    def key_column(self) -> str:
        """The column that tells a row from all others."""
        return "id" if self.kind == "trades" else self.time_column

    @property
    def step_ms(self) -> int:
        """How far rows are apart, 0 where they come as they come."""
        return TIMEFRAME_MS[self.timeframe] if self.timeframe else 0

    def as_metadata(self, source: str) -> dict[str, str]:
        """Return what a file says of itself; `source` is where its rows come from."""
        return {
            f"{_PREFIX}venue": self.venue,
            f"{_PREFIX}symbol": self.symbol,
            f"{_PREFIX}kind": self.kind,
            f"{_PREFIX}timeframe": self.timeframe,
            f"{_PREFIX}source": source,
            f"{_PREFIX}is_sample": "yes" if self.is_sample else "no",
        }


def make_series(venue: str, symbol: str, kind: str, timeframe: str = "", *, is_sample: bool = False) -> Series:
    """Return a series from words. Raises `HistoryError` naming those there are."""
    if kind not in KINDS:
        raise HistoryError(f"unknown kind {kind!r}; the kinds are {', '.join(KINDS)}")
    known: Kind = kind
    if known in TIMED and timeframe not in TIMEFRAME_MS:
        raise HistoryError(f"unknown timeframe {timeframe!r}; the timeframes are {', '.join(TIMEFRAME_MS)}")
    if not symbol.isalnum() or symbol != symbol.upper():
        raise HistoryError(f"{symbol!r} is no symbol; a symbol is written like BTCUSDT")
    return Series(venue.upper(), symbol, known, timeframe if known in TIMED else "", is_sample)


def series_of(metadata: Mapping[bytes, bytes] | None) -> tuple[Series, str] | None:
    """Return the series and source that a file names, None where it names none."""
    values = {key.decode(): value.decode() for key, value in (metadata or {}).items() if key.startswith(b"perpflow.")}
    try:
        series = make_series(
            values[f"{_PREFIX}venue"],
            values[f"{_PREFIX}symbol"],
            values[f"{_PREFIX}kind"],
            values[f"{_PREFIX}timeframe"],
            is_sample=values[f"{_PREFIX}is_sample"] == "yes",
        )
    except (KeyError, HistoryError):
        return None
    return series, values.get(f"{_PREFIX}source", "")


def has_sample_data(path: Path) -> bool:
    """Tell whether a Parquet file, or one of a folder, says that it was made up from a seed."""
    for file in [path] if path.is_file() else sorted(path.rglob("*.parquet")):
        if file.suffix == ".parquet":
            try:
                found = series_of(pq.read_metadata(file).metadata)
            except (pa.ArrowInvalid, OSError):
                # Whoever reads its rows says what is wrong with it.
                continue
            if found is not None and found[0].is_sample:
                return True
    return False


def to_table(series: Series, rows: Sequence[tuple[Any, ...]]) -> Any:
    """Return rows as an Arrow table."""
    schema = series.schema
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(schema)
    arrays = []
    for field, values in zip(schema, columns, strict=True):
        kind = pa.int64() if pa.types.is_timestamp(field.type) else field.type
        arrays.append(pa.array(values, kind).cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema)
