"""A series on disk: one Parquet file, or a folder of partitions. A write replaces a file at once or not at all.

Each file says in its metadata what it is of and which spans of time were asked for: a span without rows is known, not
missing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from libs.history.errors import HistoryError
from libs.history.series import Series, series_of
from libs.venues.history import TimeSpan

_COVERED = b"perpflow.covered"
_FETCHED = b"perpflow.fetched_ms"


def unite(spans: Iterable[TimeSpan]) -> list[TimeSpan]:
    """Return spans in order, those that touch made one."""
    out: list[TimeSpan] = []
    for span in sorted(spans):
        if span.begin >= span.end:
            continue
        if out and span.begin <= out[-1].end:
            out[-1] = TimeSpan(out[-1].begin, max(out[-1].end, span.end))
        else:
            out.append(span)
    return out


def subtract(span: TimeSpan, covered: Sequence[TimeSpan]) -> list[TimeSpan]:
    """Return what of a span is not covered; `covered` is united."""
    out, at = [], span.begin
    for each in covered:
        if each.end <= at or each.begin >= span.end:
            continue
        if each.begin > at:
            out.append(TimeSpan(at, each.begin))
        at = max(at, each.end)
    if at < span.end:
        out.append(TimeSpan(at, span.end))
    return out


class SeriesFiles:
    """The files of one series under a path: a path that ends in .parquet is one file, any other a folder.

    Raises `HistoryError` where a file is of another series, or names none.
    """

    def __init__(self, path: Path, series: Series, source: str) -> None:
        self.series = series
        self.is_single = path.suffix == ".parquet"
        self.path = path if self.is_single else path / _folder_of(series)
        self._source = source
        self._rows: dict[Path, list[Any]] = {}
        self._spans: list[TimeSpan] = []
        self._covered: dict[Path, list[TimeSpan]] = {}
        self.fetched_ms = 0
        for file in self.files():
            self._covered[file] = self._open(file)

    def files(self) -> list[Path]:
        """Return the files that there are, in order of time."""
        if self.is_single:
            return [self.path] if self.path.exists() else []
        return sorted(self.path.glob("*.parquet")) if self.path.is_dir() else []

    @property
    def covered(self) -> list[TimeSpan]:
        """The spans that are known, with what waits to be written."""
        return unite([span for spans in self._covered.values() for span in spans] + self._spans)

    @property
    def pending_rows(self) -> int:
        """How many rows wait to be written."""
        return sum(len(table) for tables in self._rows.values() for table in tables)

    def add(self, table: Any, span: TimeSpan) -> None:
        """Take rows of a span that has been asked for; they are written by `commit`."""
        times = table.column(self.series.time_column).cast(pa.int64()).to_numpy()
        marks = [self._file_of(int(time_ms)) for time_ms in times] if not self.is_single else [self.path] * len(times)
        begin = 0
        for at in range(1, len(marks) + 1):
            if at == len(marks) or marks[at] != marks[begin]:
                self._rows.setdefault(marks[begin], []).append(table.slice(begin, at - begin))
                begin = at
        self._spans = unite([*self._spans, span])

    def commit(self, fetched_ms: int = 0) -> None:
        """Write what waits."""
        self.fetched_ms = max(self.fetched_ms, fetched_ms)
        spans: dict[Path, list[TimeSpan]] = {}
        for span in self._spans:
            for file, part in self._split(span):
                spans.setdefault(file, []).append(part)
        for file in sorted({*self._rows, *spans}):
            covered = unite([*self._covered.get(file, ()), *spans.get(file, ())])
            self._write(file, self._rows.get(file, []), covered)
            self._covered[file] = covered
        self._rows, self._spans = {}, []

    def read(self, columns: Sequence[str] | None = None) -> Any:
        """Return all rows that are written, in order, as an Arrow table."""
        tables = [
            pq.ParquetFile(file).read(columns=None if columns is None else list(columns)) for file in self.files()
        ]
        schema = self.series.schema
        if not tables:
            return schema.empty_table() if columns is None else schema.empty_table().select(list(columns))
        return pa.concat_tables(table.replace_schema_metadata(None) for table in tables)

    def _open(self, file: Path) -> list[TimeSpan]:
        try:
            metadata = pq.read_metadata(file).metadata or {}
        except (pa.ArrowInvalid, OSError) as error:
            raise HistoryError(
                f"{file} is no Parquet file that can be continued ({error}); name another --output"
            ) from None
        found = series_of(metadata)
        if found is None:
            raise HistoryError(
                f"{file} was not written by perpflow: it does not say what it is of; read it with `perpflow import` "
                "or name another --output"
            )
        if found[0] != self.series:
            raise HistoryError(f"{file} holds {found[0]}, not {self.series}; name another --output")
        self.fetched_ms = max(self.fetched_ms, int(metadata.get(_FETCHED, b"0")))
        return [TimeSpan(*span) for span in orjson.loads(metadata.get(_COVERED, b"[]"))]

    def _write(self, file: Path, added: Sequence[Any], covered: Sequence[TimeSpan]) -> None:
        schema = self.series.schema
        tables = [pq.ParquetFile(file).read().replace_schema_metadata(None)] if file.exists() else []
        table = _merge(pa.concat_tables([schema.empty_table(), *tables, *added]), self.series)
        metadata = {
            **{key.encode(): value.encode() for key, value in self.series.as_metadata(self._source).items()},
            _COVERED: orjson.dumps([[*span] for span in covered]),
            _FETCHED: str(self.fetched_ms).encode(),
        }
        file.parent.mkdir(parents=True, exist_ok=True)
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            pq.write_table(table.replace_schema_metadata(metadata), draft, compression="zstd")
            draft.replace(file)
        finally:
            draft.unlink(missing_ok=True)

    def _file_of(self, time_ms: int) -> Path:
        day = datetime.fromtimestamp(time_ms // 1000, UTC)
        return (
            self.path / f"{day:%Y-%m-%d}.parquet"
            if self.series.kind == "trades"
            else self.path / f"{day:%Y-%m}.parquet"
        )

    def _split(self, span: TimeSpan) -> list[tuple[Path, TimeSpan]]:
        if self.is_single:
            return [(self.path, span)]
        out, begin = [], span.begin
        while begin < span.end:
            end = min(span.end, _end_of_partition(begin, is_day=self.series.kind == "trades"))
            out.append((self._file_of(begin), TimeSpan(begin, end)))
            begin = end
        return out


def _folder_of(series: Series) -> Path:
    words = [f"venue={series.venue}", f"symbol={series.symbol}", f"kind={series.kind}"]
    words += [f"timeframe={series.timeframe}"] if series.timeframe else []
    words += ["sample=yes"] if series.is_sample else []
    return Path(*words)


def _end_of_partition(time_ms: int, *, is_day: bool) -> int:
    if is_day:
        return time_ms - time_ms % 86_400_000 + 86_400_000
    month = datetime.fromtimestamp(time_ms // 1000, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    following = month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)
    return int(following.timestamp()) * 1000


def _merge(table: Any, series: Series) -> Any:
    """Return rows in order of their key, of those that share one the last."""
    keys = table.column(series.key_column)
    numbers = (keys.cast(pa.int64()) if series.key_column == series.time_column else keys).to_numpy()
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    is_last = np.ones(len(ordered), dtype=bool)
    is_last[:-1] = ordered[1:] != ordered[:-1]
    if is_last.all() and (order[1:] > order[:-1]).all():
        return table.combine_chunks()
    return table.take(pa.array(order[is_last])).combine_chunks()
