"""The batch engine: arrays of base bars in, arrays of features out, by the stream's own step; and the checks before it.

Windows count bars, not time: a gap in the file is reported and stepped over, as the stream steps over a missed minute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from libs.indicators import columns as col
from libs.indicators.aggregate import BUCKET_NONE, COUNTER_WIDTH, PENDING_WIDTH
from libs.indicators.arrays import Memory, Row, Values
from libs.indicators.engine import run
from libs.indicators.feature_set import TIMEFRAME_SECONDS, FeatureSet
from libs.indicators.program import Program

Seconds = npt.NDArray[np.int64]

_E8: Final = 1e8
_PRICES: Final = (col.ROW_OPEN, col.ROW_HIGH, col.ROW_LOW, col.ROW_CLOSE)
_AMOUNTS: Final = (col.ROW_VOLUME, col.ROW_QUOTE, col.ROW_TAKER, col.ROW_TRADES)
_SCALED: Final = (
    *_PRICES,
    col.ROW_VOLUME,
    col.ROW_QUOTE,
    col.ROW_TAKER,
    col.ROW_MARK,
    col.ROW_INDEX,
    col.ROW_FUNDING,
    col.ROW_INTEREST,
    col.ROW_LIQUIDATION_BUY,
    col.ROW_LIQUIDATION_SELL,
    col.ROW_SETTLED_FUNDING,
)
_EXACT_LIMIT: Final = 2.0**53


class InputError(ValueError):
    """Input that cannot be used; the text names the row, the error and the fix."""


@dataclass(slots=True)
class InputNotes:
    """What was found in the input and lived with."""

    rows: int = 0
    duplicates: int = 0
    first_duplicate_row: int | None = None
    gaps: int = 0
    missing_bars: int = 0
    first_gap_row: int | None = None
    zero_volume_bars: int = 0
    first_zero_volume_row: int | None = None


class BatchRun:
    """Runs a program over base bars that come in pieces; the state goes on from piece to piece."""

    __slots__ = ("_counters", "_memory", "_pending", "_program")

    def __init__(self, program: Program) -> None:
        self._program = program
        self._memory = program.memory.copy()
        self._pending = np.full((len(program.timeframes), PENDING_WIDTH), np.nan)
        self._counters = np.zeros((len(program.timeframes), COUNTER_WIDTH), dtype=np.int64)
        self._counters[:, 0] = BUCKET_NONE

    def take(self, open_times: Seconds, rows: Memory, out: Values | None = None) -> Values:
        """Compute the features of each row, shape (bars, features). Rows are rounded to 1e-8 in place.

        `open_times` are whole seconds since the epoch, increasing; `rows` has shape (bars, ROW_WIDTH). `out` is written
        where it is given, with as many rows.
        """
        round_rows(rows)
        rows[:, col.ROW_CLOSE_TIME] = open_times + self._program.seconds[0]
        if out is None:
            out = np.empty((len(rows), len(self._program.feature_set)))
        run(self._program.code, self._memory, rows, open_times, out, self._pending, self._counters)
        return out


def round_rows(rows: Memory) -> None:
    """Round prices, volumes and rates to the wire's 1e-8 in place, so that a file and the stream give the same bits.

    A number of 9e7 or more is left alone: its double is already the nearest one to eight decimals.
    """
    for j in _SCALED:
        scaled = rows[:, j] * _E8
        rows[:, j] = np.where(np.abs(scaled) < _EXACT_LIMIT, np.rint(scaled) / _E8, rows[:, j])


def infer_step(open_times: Seconds) -> int:
    """Find the commonest step between bars in seconds; InputError where there are not two different times."""
    steps = np.diff(open_times)
    steps = steps[steps > 0]
    if len(steps) == 0:
        raise InputError("the timeframe cannot be inferred from fewer than two bars; give a file with two or more")
    values, counts = np.unique(steps, return_counts=True)
    return int(values[np.argmax(counts)])


def name_timeframe(seconds: int) -> str:
    """Name a timeframe: one of the usual ones, or its length, such as ``3m`` or ``90s``."""
    for name, length in TIMEFRAME_SECONDS.items():
        if length == seconds:
            return name
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def warm_up_bars(feature_set: FeatureSet, base_seconds: int) -> int:
    """Count the base bars after which every feature with all its inputs is known, wherever in a day the data begins."""
    longest = 0
    for feature in feature_set.features:
        length = TIMEFRAME_SECONDS.get(feature.timeframe, base_seconds)
        ratio = max(1, length // base_seconds)
        partial = ratio - 1 if ratio > 1 else 0
        longest = max(longest, feature.warm_up * ratio + partial)
    return longest


def drop_repeats(
    open_times: Seconds, rows: Memory, numbers: Seconds, last: tuple[int, Row] | None, notes: InputNotes
) -> tuple[Seconds, Memory, Seconds]:
    """Leave out rows that say the same as the row before them; `numbers` are the rows' places in their file.

    `last` is the time and row before the first. InputError for a time that is repeated with other values.
    """
    if len(open_times) == 0:
        return open_times, rows, numbers
    if last is None:
        same_time = np.concatenate((np.array([False]), np.diff(open_times) == 0))
        before = np.concatenate((rows[:1], rows[:-1]))
    else:
        same_time = np.diff(open_times, prepend=last[0]) == 0
        before = np.concatenate((last[1][np.newaxis], rows[:-1]))
    where = np.flatnonzero(same_time)
    if len(where) == 0:
        return open_times, rows, numbers
    differs = ~((rows[where] == before[where]) | (np.isnan(rows[where]) & np.isnan(before[where]))).all(axis=1)
    is_repeat = np.zeros(len(open_times), dtype=np.bool_)
    is_repeat[where[differs]] = True
    _refuse(
        is_repeat, numbers, open_times, "repeats the time of the row before it with other values; remove one of them"
    )
    notes.duplicates += len(where)
    if notes.first_duplicate_row is None:
        notes.first_duplicate_row = int(numbers[where[0]])
    return open_times[~same_time], rows[~same_time], numbers[~same_time]


def check_rows(
    open_times: Seconds, rows: Memory, numbers: Seconds, step: int, last: int | None, notes: InputNotes
) -> None:
    """Refuse or note what is wrong with a piece of input; `numbers` are the rows' places in their file.

    `last` is the open time before the first. InputError names the row for times out of order or off the grid, values
    that are missing, infinite or negative, prices of zero or outside low and high, taker volume above volume. Gaps and
    bars without volume are noted.
    """
    if len(open_times) == 0:
        return
    steps = np.diff(open_times, prepend=open_times[0] - step if last is None else last)
    grid = f"does not start on a multiple of {name_timeframe(step)} in UTC; align the bars"
    _refuse(steps <= 0, numbers, open_times, "is not later than the row before it; sort the file by open_time")
    _refuse(open_times % step != 0, numbers, open_times, grid)
    for j, name in enumerate(col.ROW_COLUMNS):
        values = rows[:, j]
        if j in _PRICES or j == col.ROW_VOLUME:
            problem = f"has no finite {name}; remove the row or fill it in"
            _refuse(~np.isfinite(values), numbers, open_times, problem, values)
        if j in _PRICES:
            problem = f"has a {name} that is not above zero; remove the row or fix it"
            _refuse(np.rint(values * _E8) <= 0.0, numbers, open_times, problem, values)
        if j in _AMOUNTS:
            _refuse(values < 0.0, numbers, open_times, f"has a negative {name}; fix the row", values)
        _refuse(np.isinf(values), numbers, open_times, f"has an infinite {name}; leave it empty", values)
    high = rows[:, col.ROW_HIGH]
    low = rows[:, col.ROW_LOW]
    for j in (col.ROW_OPEN, col.ROW_CLOSE):
        values = rows[:, j]
        problem = f"has {col.ROW_COLUMNS[j]} outside low and high; fix the row"
        _refuse((values > high) | (values < low), numbers, open_times, problem, values)
    volume = rows[:, col.ROW_VOLUME]
    taker = rows[:, col.ROW_TAKER]
    over = taker > volume * (1.0 + 1e-9)
    _refuse(over, numbers, open_times, "has taker_buy_volume above volume; fix the row", taker)

    jumps = np.flatnonzero(steps > step)
    if len(jumps):
        notes.gaps += len(jumps)
        notes.missing_bars += int((steps[jumps] // step - 1).sum())
        if notes.first_gap_row is None:
            notes.first_gap_row = int(numbers[jumps[0]])
    silent = np.flatnonzero(volume == 0.0)
    if len(silent):
        notes.zero_volume_bars += len(silent)
        if notes.first_zero_volume_row is None:
            notes.first_zero_volume_row = int(numbers[silent[0]])
    notes.rows += len(open_times)


def _refuse(
    bad: npt.NDArray[np.bool_],
    numbers: Seconds,
    open_times: Seconds,
    problem: str,
    values: npt.NDArray[np.float64] | None = None,
) -> None:
    where = np.flatnonzero(bad)
    if len(where) == 0:
        return
    j = int(where[0])
    when = np.datetime64(int(open_times[j]), "s")
    value = "" if values is None else f" ({values[j]})"
    more = f"; {len(where) - 1} more such rows" if len(where) > 1 else ""
    raise InputError(f"row {int(numbers[j])} (open_time {when}Z) {problem}{value}{more}")
