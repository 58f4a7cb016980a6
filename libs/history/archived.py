"""Takes days of a series from a venue's archive: some at once, read as `perpflow import` does, committed each."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow.compute as pc

from libs.clock import Clock
from libs.history.collection import WORKERS, Advance, ask
from libs.history.files import SeriesFiles, subtract
from libs.history.imports import read_file
from libs.history.series import Series
from libs.venues.archives import ArchiveClient
from libs.venues.history import DAY_MS, TimeSpan

Day: TypeAlias = tuple[SeriesFiles, int]
"""Files of a series and the beginning of a day, ms."""


def plan_days(files: SeriesFiles, span: TimeSpan, now_ms: int) -> list[int]:
    """Return the days (their beginnings, ms) of a span that are over and of which something is missing."""
    over = TimeSpan(span.begin - span.begin % DAY_MS, min(span.end, now_ms - now_ms % DAY_MS))
    if over.begin >= over.end:
        return []
    days = {
        day
        for missing in subtract(over, files.covered)
        for day in range(missing.begin - missing.begin % DAY_MS, missing.end, DAY_MS)
    }
    return sorted(days)


def collect_days(
    client: ArchiveClient, days: Sequence[Day], *, now_ms: int, clock: Clock, advance: Advance
) -> list[Day]:
    """Fetch days and commit each as it comes; return those that the archive has no file of.

    Raises `VenueUnavailable` where it does not answer again and again, `HistoryError` for a file of another form.
    """
    absent: list[Day] = []
    is_over = threading.Event()
    with tempfile.TemporaryDirectory(prefix="perpflow-archive-") as folder, ThreadPoolExecutor(WORKERS) as pool:
        fetch = partial(_fetch_day, client, folder=Path(folder), clock=clock, is_over=is_over)
        asked = {pool.submit(fetch, files.series, day): (files, day) for files, day in days}
        try:
            for future in as_completed(asked):
                files, day = asked[future]
                table = future.result()
                if table is None:
                    absent.append((files, day))
                else:
                    files.add(table, TimeSpan(day, day + DAY_MS))
                    files.commit(now_ms)
                advance(DAY_MS, 0 if table is None else len(table))
        finally:
            is_over.set()
            for future in asked:
                future.cancel()
    return sorted(absent, key=lambda each: each[1])


def _fetch_day(
    client: ArchiveClient, series: Series, day: int, *, folder: Path, clock: Clock, is_over: threading.Event
) -> Any:
    """Return the rows of a day, None where there is no file of it."""
    only = client.archive.only_timeframe.get(series.kind, series.timeframe)
    path = client.archive.path_of(series.symbol, series.kind, only, day)
    body = ask(partial(client.fetch, path), clock, is_over)
    if body is None:
        return None
    file = folder / path.replace("/", "_")
    file.write_bytes(body)
    try:
        found = read_file(file, venue=series.venue, symbol=series.symbol, kind=series.kind, timeframe=only)
    finally:
        file.unlink()
    table = found.table
    if only != series.timeframe:
        times = table.column(0).cast("int64").to_numpy()
        table = table.filter(pc.equal(times % series.step_ms, 0))
    return table
