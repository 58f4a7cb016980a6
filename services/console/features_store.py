"""Base bars out of ClickHouse, for `engineer-features --input clickhouse:INSTRUMENT/TIMEFRAME`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np

from libs.domain.bars import TIMEFRAMES
from libs.domain.numbers import NANOSECONDS
from libs.indicators.batch import InputError, InputNotes, check_rows
from libs.indicators.rows import bar_row
from libs.runtime.errors import BadInput, DependencyUnavailable
from libs.store.errors import StoreError, StoreUnavailable
from libs.store.store import Store
from services.console.features_files import PIECE_ROWS, Piece

_PREFIX: Final = "clickhouse:"
_EXTENT: Final = """
SELECT toUnixTimestamp64Nano(min(b.open_time)) AS first, toUnixTimestamp64Nano(max(b.open_time)) AS last,
       uniqExact(b.open_time) AS bars
FROM bars AS b FINAL WHERE b.instrument = {instrument:String} AND b.timeframe = {timeframe:String}
"""


@dataclass(slots=True)
class BarsInStore:
    """The bars that a session recorded, in pieces by time."""

    source: str
    store: Store
    instrument: str
    timeframe: str
    first: int
    last: int
    step_s: int
    total_rows: int
    notes: InputNotes = field(default_factory=InputNotes)

    @classmethod
    def open(cls, source: str, store: Store) -> Self:
        """See which bars there are; `source` is ``clickhouse:INSTRUMENT/TIMEFRAME``."""
        instrument, _, timeframe = source.removeprefix(_PREFIX).partition("/")
        if not instrument or timeframe not in TIMEFRAMES:
            raise BadInput(
                f"--input {source}: not of the form clickhouse:INSTRUMENT/TIMEFRAME with one of {', '.join(TIMEFRAMES)}"
            )
        try:
            (extent,) = store.query(_EXTENT, {"instrument": instrument, "timeframe": timeframe})
        except StoreUnavailable as error:
            hint = "start a session with `perpflow up`, or give --clickhouse URL"
            raise DependencyUnavailable(f"--input {source}: {error}; {hint}") from error
        except StoreError as error:
            raise BadInput(f"--input {source}: {error}") from error
        if not extent["bars"]:
            raise BadInput(f"--input {source}: the store has no such bars; record some, or name another instrument")
        step_s = TIMEFRAMES[timeframe] // NANOSECONDS
        return cls(source, store, instrument, timeframe, extent["first"], extent["last"], step_s, extent["bars"])

    def pieces(self) -> Iterator[Piece]:
        """Read, check and yield the bars in order."""
        length = TIMEFRAMES[self.timeframe] * PIECE_ROWS
        before: int | None = None
        first_row = 0
        for begin in range(self.first, self.last + 1, length):
            try:
                bars = self.store.bars(self.instrument, self.timeframe, begin=begin, end=begin + length)
            except StoreUnavailable as error:
                raise DependencyUnavailable(f"--input {self.source}: {error}") from error
            except StoreError as error:
                raise BadInput(f"--input {self.source}: {error}") from error
            if not bars:
                continue
            rows = np.array([bar_row(bar) for bar in bars])
            times = np.array([bar.open_time // NANOSECONDS for bar in bars], dtype=np.int64)
            numbers = np.arange(first_row, first_row + len(bars))
            try:
                check_rows(times, rows, numbers, self.step_s, before, self.notes)
            except InputError as error:
                raise BadInput(f"--input {self.source}: {error}") from error
            first_row += len(bars)
            before = int(times[-1])
            yield Piece(times, rows)
