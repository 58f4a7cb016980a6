"""Point-in-time joins: what was published by a bar's close, and no later; too old counts as unknown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from libs.domain.readings import READING_SERIES, SETTLED_FUNDING_RATE
from libs.indicators import columns as col
from libs.indicators.arrays import Memory
from libs.indicators.batch import InputError, Seconds

FUNDING_INTERVAL_S: Final = 28800
MILLISECOND_NS: Final = 1_000_000
_FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Published:
    """A series by the time it became known, in ms since the epoch; a value counts until it is `max_age_ms` old."""

    times: Seconds
    values: _FloatArray
    max_age_ms: int

    def as_of(self, close_times: Seconds) -> tuple[_FloatArray, Seconds]:
        """The latest value at each close (ms), NaN where there is none or it is too old, and its index or -1."""
        index = np.searchsorted(self.times, close_times, side="right") - 1
        known = index >= 0
        safe = np.maximum(index, 0)
        fresh = known & (close_times - self.times[safe] < self.max_age_ms)
        return np.where(fresh, self.values[safe], np.nan), np.where(fresh, index, -1)


def check_published(times: Seconds, values: _FloatArray, name: str) -> None:
    """Refuse a series that is empty, unsorted, repeated or not finite; InputError names the row."""
    if len(times) == 0:
        raise InputError("the file has no rows")
    late = np.flatnonzero(np.diff(times) <= 0)
    if len(late):
        when = np.datetime64(int(times[late[0] + 1]), "ms")
        raise InputError(f"row {int(late[0]) + 1} (time {when}Z) is not later than the row before it; sort the file")
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InputError(f"row {int(bad[0])} has no finite {name}; remove the row")


def typical_step(times: Seconds, fallback: int) -> int:
    """Commonest step of a series in ms."""
    if len(times) < 2:
        return fallback
    steps, counts = np.unique(np.diff(times), return_counts=True)
    return int(steps[np.argmax(counts)])


def publish_funding(times: Seconds, rates: _FloatArray) -> Published:
    """Funding by settlement time; it counts as `SETTLED_FUNDING_RATE` does."""
    check_published(times, rates, "rate")
    return publish_reading(SETTLED_FUNDING_RATE, times, rates)


def publish_interest(times: Seconds, interest: _FloatArray) -> Published:
    """Open interest by its time stamp: a value counts until two steps have passed without another."""
    check_published(times, interest, "open_interest")
    return Published(times, interest, 2 * typical_step(times, 300_000))


def publish_mark(open_times: Seconds, closes: _FloatArray) -> Published:
    """Mark closes by the end of their bar: a value counts until the next is due."""
    check_published(open_times, closes, "close")
    low = np.flatnonzero(closes <= 0.0)
    if len(low):
        raise InputError(f"row {int(low[0])} has a close that is not above zero; remove the row")
    step = typical_step(open_times, 60_000)
    return Published(open_times + step, closes, step)


def publish_alternative(times: Seconds, values: _FloatArray) -> Published:
    """An outside series by its publication; a value counts until two steps, or two hours, passed without another."""
    check_published(times, values, "value")
    return Published(times, values, 2 * max(typical_step(times, 86_400_000), 3_600_000))


def publish_reading(name: str, times: Seconds, values: _FloatArray) -> Published:
    """Readings of a series by their publication, counting from when and for as long as a bar of the stream has them."""
    check_published(times, values, "value")
    one = READING_SERIES[name]
    return Published(times + one.lag_ns // MILLISECOND_NS, values, one.max_age_ns // MILLISECOND_NS)


def join_funding(rows: Memory, close_times: Seconds, funding: Published) -> None:
    """Write the rate last settled and the time of the next settlement, computed from the interval last seen.

    A bar that closes with a settlement has that as its next, as the last mark price of the bar has.
    """
    close_ms = close_times * 1000
    rates, index = funding.as_of(close_ms)
    rows[:, col.ROW_SETTLED_FUNDING] = rates
    known = index >= 0
    safe = np.maximum(index, 0)
    settled = funding.times - READING_SERIES[SETTLED_FUNDING_RATE].lag_ns // MILLISECOND_NS
    # They are stamped some ms late.
    settled -= settled % 1000
    steps = np.diff(settled, prepend=settled[0] - FUNDING_INTERVAL_S * 1000)
    interval = np.maximum(steps[safe], 1)
    last = settled[safe]
    following = last - (last - close_ms) // interval * interval
    rows[:, col.ROW_NEXT_FUNDING] = np.where(known, following / 1000.0, np.nan)


def join_mark(rows: Memory, close_times: Seconds, mark: Published, column: int, bar_seconds: int) -> None:
    """Write mark or index closes of the bars' own end: one that lies a bar or more back says nothing of this bar."""
    own = replace(mark, max_age_ms=min(mark.max_age_ms, bar_seconds * 1000))
    rows[:, column] = own.as_of(close_times * 1000)[0]


def join_column(rows: Memory, close_times: Seconds, published: Published, column: int) -> None:
    """Write the latest published value of each bar's close into a column."""
    rows[:, column] = published.as_of(close_times * 1000)[0]
