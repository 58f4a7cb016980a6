"""Files of bars, funding, open interest and mark prices in, a file of features out: Parquet, piece by piece.

Rows are counted from 0. A file that cannot be used is refused with `BadInput`, which names file, row and fix.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from libs.indicators import columns as col
from libs.indicators.arrays import Memory, Row, Values
from libs.indicators.batch import InputError, InputNotes, Seconds, check_rows, drop_repeats, infer_step
from libs.indicators.joins import Published, publish_alternative, publish_funding, publish_interest, publish_mark
from libs.runtime.errors import BadInput

PIECE_ROWS: Final = 16_384

_ALIASES: Final = {"trade_count": ("trades", "trade_count"), "funding_rate": ("funding_rate",)}
_ALTERNATIVE: Final = ("published_time", "source", "metric", "value")
_REQUIRED: Final = ("open", "high", "low", "close", "volume")
_FIRST_MS: Final = 946_684_800_000
_LAST_MS: Final = 4_102_444_800_000


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bars of a file in order: open times in seconds, rows of shape (bars, ROW_WIDTH)."""

    open_times: Seconds
    rows: Memory


@dataclass(slots=True)
class BarsFile:
    """A Parquet file of base bars; the timeframe is the commonest step between its first rows."""

    path: Path
    step_s: int
    total_rows: int
    columns: dict[str, str]
    notes: InputNotes = field(default_factory=InputNotes)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Look at a file's columns and first rows."""
        with _refusals(path):
            file = _open_parquet(path)
            names = file.schema_arrow.names
            if "open_time" not in names:
                raise InputError(
                    f"there is no column open_time (it has {', '.join(names)}); bars carry their open time"
                )
            missing = [name for name in _REQUIRED if name not in names]
            if missing:
                raise InputError(f"there is no column {', '.join(missing)}; bars need {', '.join(_REQUIRED)}")
            found: dict[str, str] = {}
            for name in col.ROW_COLUMNS:
                candidates = [each for each in _ALIASES.get(name, (name,)) if each in names]
                if candidates and name != "close_time":
                    found[name] = candidates[0]
            if file.metadata.num_rows == 0:
                raise InputError("the file has no rows")
            first = next(file.iter_batches(batch_size=PIECE_ROWS, columns=["open_time"]))
            step = infer_step(_times_ms(first.column(0), "open_time") // 1000)
            return cls(path, step, file.metadata.num_rows, found)

    def pieces(self) -> Iterator[Piece]:
        """Read, check and yield the bars; exact repeats are left out and noted."""
        with _refusals(self.path):
            file = _open_parquet(self.path)
            last: tuple[int, Row] | None = None
            first_row = 0
            for batch in file.iter_batches(batch_size=PIECE_ROWS, columns=["open_time", *self.columns.values()]):
                times_ms = _times_ms(batch.column("open_time"), "open_time", first_row)
                numbers = np.arange(first_row, first_row + len(times_ms))
                uneven = np.flatnonzero(times_ms % 1000)
                if len(uneven):
                    raise InputError(
                        f"row {first_row + int(uneven[0])} does not open on a whole second; align the bars"
                    )
                rows = np.full((len(times_ms), col.ROW_WIDTH), np.nan)
                for name, column in self.columns.items():
                    rows[:, col.ROW_COLUMNS.index(name)] = _floats(batch.column(column), column)
                times = times_ms // 1000
                times, rows, numbers = drop_repeats(times, rows, numbers, last, self.notes)
                check_rows(times, rows, numbers, self.step_s, None if last is None else last[0], self.notes)
                first_row += len(times_ms)
                if len(times):
                    last = (int(times[-1]), rows[-1].copy())
                    yield Piece(times, rows)


def read_funding(path: Path) -> Published:
    """Read funding settlements: columns `time` and `rate` (a fraction)."""
    times, values = _read_series(path, ("time",), ("rate", "funding_rate"))
    with _refusals(path):
        return publish_funding(times, values)


def read_interest(path: Path) -> Published:
    """Read open interest: columns `time` and `open_interest` (base units)."""
    times, values = _read_series(path, ("time",), ("open_interest",))
    with _refusals(path):
        return publish_interest(times, values)


def read_mark(path: Path) -> Published:
    """Read mark-price bars: columns `open_time` and `close`."""
    times, values = _read_series(path, ("open_time",), ("close",))
    with _refusals(path):
        return publish_mark(times, values)


def read_alternative(path: Path) -> dict[str, Published]:
    """Read what `collect-alternative` wrote: a series per source and metric, by the time of publication.

    Of readings published at one moment the last counts. The columns are named SOURCE_METRIC.
    """
    with _refusals(path):
        file = _open_parquet(path)
        missing = [name for name in _ALTERNATIVE if name not in file.schema_arrow.names]
        if missing:
            raise InputError(f"there is no column {', '.join(missing)}; give a file of perpflow collect-alternative")
        table = file.read(columns=list(_ALTERNATIVE)).sort_by("published_time")
        series: dict[str, Published] = {}
        for source, metric in sorted(set(zip(table["source"].to_pylist(), table["metric"].to_pylist(), strict=True))):
            own = table.filter((pc.field("source") == source) & (pc.field("metric") == metric))
            # Rounded up: nothing is known before its time.
            times = -(-own["published_time"].cast(pa.int64()).to_numpy() // 1_000_000)
            values = _floats(own["value"], "value")
            is_last = np.append(np.diff(times) > 0, True)
            series[f"{source}_{metric}"] = publish_alternative(times[is_last], values[is_last])
        return series


class FeatureFile:
    """Writes features beside their bars; the file appears under its name only once it is whole."""

    def __init__(self, path: Path, names: Sequence[str], metadata: dict[str, str]) -> None:
        self._path = path
        self._partial = path.with_name(path.name + ".partial")
        time = pa.timestamp("ms", "UTC")
        fields = [pa.field("open_time", time), pa.field("close_time", time)]
        fields += [pa.field(name, pa.float64()) for name in names]
        self._schema = pa.schema(fields, metadata={f"perpflow.{key}": value for key, value in metadata.items()})
        if not path.parent.is_dir():
            raise BadInput(f"--output {path}: there is no folder {path.parent}; make it first")
        try:
            self._writer = pq.ParquetWriter(
                self._partial, self._schema, compression="zstd", compression_level=1, use_dictionary=False
            )
        except OSError as error:
            raise BadInput(f"--output {path}: cannot be written ({error}); choose another place") from error

    def write(self, open_times: Seconds, step_s: int, values: Values) -> None:
        """Add bars with their features, shape (bars, features)."""
        time = pa.timestamp("ms", "UTC")
        arrays = [pa.array(open_times * 1000).cast(time), pa.array((open_times + step_s) * 1000).cast(time)]
        columns = np.ascontiguousarray(values.T)
        arrays += [pa.array(column) for column in columns]
        try:
            self._writer.write_batch(pa.record_batch(arrays, schema=self._schema))
        except OSError as error:
            raise BadInput(
                f"--output {self._path}: writing failed ({error}); free some space or choose another place"
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._writer.close()
        if kind is None:
            self._partial.replace(self._path)
        else:
            self._partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except InputError as error:
        raise BadInput(f"{path}: {error}") from error
    except pa.ArrowException as error:
        raise BadInput(f"{path}: cannot be read as Parquet ({error}); give a Parquet file") from error


def _open_parquet(path: Path) -> Any:
    if not path.is_file():
        raise InputError("no such file; give a Parquet file")
    return pq.ParquetFile(path)


def _read_series(
    path: Path, time_names: Sequence[str], value_names: Sequence[str]
) -> tuple[Seconds, npt.NDArray[np.float64]]:
    with _refusals(path):
        file = _open_parquet(path)
        names = file.schema_arrow.names
        chosen = []
        for wanted in (time_names, value_names):
            present = [name for name in wanted if name in names]
            if not present:
                raise InputError(f"there is no column {' or '.join(wanted)} (it has {', '.join(names)})")
            chosen.append(present[0])
        table = file.read(columns=chosen)
        return _times_ms(table.column(chosen[0]), chosen[0]), _floats(table.column(chosen[1]), chosen[1])


def _times_ms(column: Any, name: str, first_row: int = 0) -> Seconds:
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


def _floats(column: Any, name: str) -> npt.NDArray[np.float64]:
    kind = column.type
    if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind) or kind == pa.null()):
        raise InputError(f"column {name} is {kind}; it must be a number")
    numbers = column.cast(pa.float64(), safe=False)
    values: npt.NDArray[np.float64] = (
        numbers.to_numpy(zero_copy_only=False) if isinstance(numbers, pa.Array) else numbers.to_numpy()
    )
    return values
