"""Files of bars in, a file of features out: Parquet, piece by piece.

Rows are counted from 0. A file that cannot be used is refused with `BadInput`, which names file, row and fix.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from libs.indicators import columns as col
from libs.indicators.arrays import Memory, Row, Values
from libs.indicators.batch import InputError, InputNotes, Seconds, check_rows, drop_repeats, infer_step
from libs.runtime.errors import BadInput
from services.training.published import open_parquet, read_floats, read_times_ms, refusals

PIECE_ROWS: Final = 16_384

_ALIASES: Final = {"trade_count": ("trades", "trade_count"), "funding_rate": ("funding_rate",)}
_REQUIRED: Final = ("open", "high", "low", "close", "volume")


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
        with refusals(path):
            file = open_parquet(path)
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
            step = infer_step(read_times_ms(first.column(0), "open_time") // 1000)
            return cls(path, step, file.metadata.num_rows, found)

    def pieces(self) -> Iterator[Piece]:
        """Read, check and yield the bars; exact repeats are left out and noted."""
        with refusals(self.path):
            file = open_parquet(self.path)
            last: tuple[int, Row] | None = None
            first_row = 0
            for batch in file.iter_batches(batch_size=PIECE_ROWS, columns=["open_time", *self.columns.values()]):
                times_ms = read_times_ms(batch.column("open_time"), "open_time", first_row)
                numbers = np.arange(first_row, first_row + len(times_ms))
                uneven = np.flatnonzero(times_ms % 1000)
                if len(uneven):
                    raise InputError(
                        f"row {first_row + int(uneven[0])} does not open on a whole second; align the bars"
                    )
                rows = np.full((len(times_ms), col.ROW_WIDTH), np.nan)
                for name, column in self.columns.items():
                    rows[:, col.ROW_COLUMNS.index(name)] = read_floats(batch.column(column), column)
                times = times_ms // 1000
                times, rows, numbers = drop_repeats(times, rows, numbers, last, self.notes)
                check_rows(times, rows, numbers, self.step_s, None if last is None else last[0], self.notes)
                first_row += len(times_ms)
                if len(times):
                    last = (int(times[-1]), rows[-1].copy())
                    yield Piece(times, rows)


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
