"""What is published beside bars, from files: funding, open interest, mark and index prices, readings from outside.

Each becomes known to a bar as it does in the stream: by its time, and no later. A file that cannot be used is refused
with `BadInput`, which names file, row (counted from 0) and fix.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from libs.domain.readings import READING_SERIES, SERIES_OF_METRIC
from libs.indicators import columns as col
from libs.indicators.arrays import Memory
from libs.indicators.batch import InputError, Seconds
from libs.indicators.joins import (
    Published,
    join_column,
    join_funding,
    join_mark,
    publish_alternative,
    publish_funding,
    publish_interest,
    publish_mark,
    publish_reading,
)
from libs.runtime.errors import BadInput

_ALTERNATIVE: Final = ("published_time", "source", "metric", "value")
_FIRST_MS: Final = 946_684_800_000
_LAST_MS: Final = 4_102_444_800_000


@dataclass(frozen=True, slots=True)
class PublishedFiles:
    """Files of what is published beside bars; None leaves its features unknown.

    `funding` has columns time and rate, `open_interest` time and open_interest, `mark` and `index` open_time and close;
    `readings` is a file of `collect-alternative`.
    """

    funding: Path | None = None
    open_interest: Path | None = None
    mark: Path | None = None
    index: Path | None = None
    readings: Path | None = None

    def describe(self) -> dict[str, str]:
        """Name each file that is given and its SHA-256. Raises `BadInput`."""
        described = {}
        for one in fields(self):
            path = getattr(self, one.name)
            if path is None:
                continue
            if not path.is_file():
                raise BadInput(f"{path} does not exist; give a Parquet file")
            with path.open("rb") as stream:
                described[one.name] = path.name
                described[f"{one.name}_sha256"] = hashlib.file_digest(stream, "sha256").hexdigest()
        return described


class PublishedSeries:
    """The series of such files, to be joined to bars. Raises `BadInput` for a file that cannot be used."""

    def __init__(self, files: PublishedFiles) -> None:
        self._funding = None if files.funding is None else read_funding(files.funding)
        self._interest = None if files.open_interest is None else read_interest(files.open_interest)
        self._prices = {
            column: read_mark(path)
            for column, path in ((col.ROW_MARK, files.mark), (col.ROW_INDEX, files.index))
            if path is not None
        }
        readings = {} if files.readings is None else read_alternative(files.readings)
        self._readings = {name: one for name, one in readings.items() if name in READING_SERIES}
        self.others = {name: one for name, one in readings.items() if name not in READING_SERIES}
        """Series that no bar has a column for."""

    def join(self, rows: Memory, close_times: Seconds, bar_seconds: int) -> None:
        """Write into rows, of shape (bars, ROW_WIDTH), what each bar knows at its close (seconds)."""
        for name, series in self._readings.items():
            join_column(rows, close_times, series, col.ROW_COLUMNS.index(name))
        if self._funding is not None:
            join_funding(rows, close_times, self._funding)
        if self._interest is not None:
            join_column(rows, close_times, self._interest, col.ROW_INTEREST)
        for column, prices in self._prices.items():
            join_mark(rows, close_times, prices, column, bar_seconds)

    @property
    def mark_step_s(self) -> int | None:
        """The length of a mark bar, None without a file of them."""
        mark = self._prices.get(col.ROW_MARK)
        return None if mark is None else mark.max_age_ms // 1000


def read_funding(path: Path) -> Published:
    """Read funding settlements: columns `time` and `rate` (a fraction)."""
    times, values = _read_series(path, ("time",), ("rate", "funding_rate"))
    with refusals(path):
        return publish_funding(times, values)


def read_interest(path: Path) -> Published:
    """Read open interest: columns `time` and `open_interest` (base units)."""
    times, values = _read_series(path, ("time",), ("open_interest",))
    with refusals(path):
        return publish_interest(times, values)


def read_mark(path: Path) -> Published:
    """Read bars of mark or index prices: columns `open_time` and `close`."""
    times, values = _read_series(path, ("open_time",), ("close",))
    with refusals(path):
        return publish_mark(times, values)


def read_alternative(path: Path) -> dict[str, Published]:
    """Read what `collect-alternative` wrote: a series per source and metric, by the time from which it counts.

    Of readings published at one moment the last counts. Series that a bar holds (`READING_SERIES`) have their names and
    count as they do in the stream; others are named SOURCE_METRIC and count from their publication.
    """
    with refusals(path):
        file = open_parquet(path)
        missing = [name for name in _ALTERNATIVE if name not in file.schema_arrow.names]
        if missing:
            raise InputError(f"there is no column {', '.join(missing)}; give a file of perpflow collect-alternative")
        table = file.read(columns=list(_ALTERNATIVE)).sort_by("published_time")
        series: dict[str, Published] = {}
        for source, metric in sorted(set(zip(table["source"].to_pylist(), table["metric"].to_pylist(), strict=True))):
            own = table.filter((pc.field("source") == source) & (pc.field("metric") == metric))
            # Rounded up: nothing is known before its time.
            times = -(-own["published_time"].cast(pa.int64()).to_numpy() // 1_000_000)
            values = read_floats(own["value"], "value")
            is_last = np.append(np.diff(times) > 0, True)
            known = SERIES_OF_METRIC.get((source, metric))
            if known is None:
                series[f"{source}_{metric}"] = publish_alternative(times[is_last], values[is_last])
            else:
                series[known.name] = publish_reading(known.name, times[is_last], values[is_last])
        return series


@contextlib.contextmanager
def refusals(path: Path) -> Iterator[None]:
    """Turn what is wrong with a file into `BadInput` that names it."""
    try:
        yield
    except InputError as error:
        raise BadInput(f"{path}: {error}") from error
    except pa.ArrowException as error:
        raise BadInput(f"{path}: cannot be read as Parquet ({error}); give a Parquet file") from error


def open_parquet(path: Path) -> Any:
    """Open a Parquet file; InputError where there is none."""
    if not path.is_file():
        raise InputError("no such file; give a Parquet file")
    return pq.ParquetFile(path)


def _read_series(
    path: Path, time_names: Sequence[str], value_names: Sequence[str]
) -> tuple[Seconds, npt.NDArray[np.float64]]:
    with refusals(path):
        file = open_parquet(path)
        names = file.schema_arrow.names
        chosen = []
        for wanted in (time_names, value_names):
            present = [name for name in wanted if name in names]
            if not present:
                raise InputError(f"there is no column {' or '.join(wanted)} (it has {', '.join(names)})")
            chosen.append(present[0])
        table = file.read(columns=chosen)
        return read_times_ms(table.column(chosen[0]), chosen[0]), read_floats(table.column(chosen[1]), chosen[1])


def read_times_ms(column: Any, name: str, first_row: int = 0) -> Seconds:
    """Return a column of times as ms since the epoch; InputError names the row that has none, `first_row` on."""
    if column.null_count:
        row = first_row + int(pc.index(pc.is_null(column), True).as_py())
        raise InputError(f"row {row} has no {name}; remove the row")
    kind = column.type
    if pa.types.is_timestamp(kind):
        times = column.cast(pa.timestamp("ms", kind.tz), safe=False).cast(pa.int64())
    elif pa.types.is_integer(kind):
        times = column.cast(pa.int64())
    else:
        raise InputError(f"column {name} is {kind}; it must be a timestamp, or whole milliseconds since the epoch")
    values: Seconds = times.to_numpy(zero_copy_only=False) if isinstance(times, pa.Array) else times.to_numpy()
    outside = np.flatnonzero((values < _FIRST_MS) | (values > _LAST_MS))
    if len(outside):
        row = first_row + int(outside[0])
        raise InputError(f"row {row} has {name} {values[outside[0]]}, not ms between the years 2000 and 2100")
    return values


def read_floats(column: Any, name: str) -> npt.NDArray[np.float64]:
    """Return a column of numbers, NaN where empty; InputError for any other type."""
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind) or kind == pa.null()):
        raise InputError(f"column {name} is {kind}; it must be a number")
    numbers = column.cast(pa.float64(), safe=False)
    values: npt.NDArray[np.float64] = (
        numbers.to_numpy(zero_copy_only=False) if isinstance(numbers, pa.Array) else numbers.to_numpy()
    )
    return values
