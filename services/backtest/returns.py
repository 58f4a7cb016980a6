"""Ratios over a grid of returns. Floats; a ratio that is not defined is None.

Formulas: Sharpe (1994), Sortino and van der Meer (1991), Keating and Shadwick (2002) for Omega; where
empyrical-reloaded or quantstats have the same measure the numbers are equal to theirs, which the tests hold.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from libs.domain.numbers import NANOSECONDS, SCALE
from services.backtest.equity import Ints

Floats = npt.NDArray[np.float64]

YEAR_NS = 365 * 86_400 * NANOSECONDS
"""A year has 365 days: this market never closes."""
_GRIDS = (("1d", 86_400 * NANOSECONDS), ("1h", 3_600 * NANOSECONDS), ("1m", 60 * NANOSECONDS))
_WANTED_RETURNS = 30
_TAIL = 0.05


@dataclass(frozen=True, slots=True)
class Grid:
    """Times (ns) at which equity is sampled: the period's start, every whole step of UTC in it, its end."""

    name: str
    step_ns: int
    times: Ints

    @property
    def per_year(self) -> float:
        """Steps in a year."""
        return YEAR_NS / self.step_ns


def choose_grid(start: int, end: int) -> Grid:
    """Return the coarsest grid of days, hours or minutes that gives at least 30 returns over the period."""
    for name, step_ns in _GRIDS[:-1]:
        grid = _lay_grid(name, step_ns, start, end)
        if len(grid.times) > _WANTED_RETURNS:
            return grid
    return _lay_grid(*_GRIDS[-1], start, end)


def _lay_grid(name: str, step_ns: int, start: int, end: int) -> Grid:
    times = np.arange(start // step_ns + 1, -(-end // step_ns), dtype=np.int64) * step_ns
    return Grid(name, step_ns, np.concatenate(([start], times, [end])).astype(np.int64))


def sample(times: Ints, values: Ints, at: Ints) -> Floats:
    """Return the values in force at given times, in units (from 1e-8); the first value holds before its time too."""
    if not len(times):
        return np.zeros(len(at))
    places = np.maximum(np.searchsorted(times, at, side="right") - 1, 0)
    return np.asarray(values[places] / SCALE, dtype=np.float64)


def simple_returns(levels: Floats) -> Floats:
    """Return what each step gained, as a share of the level before it; 0 from a level that is not above zero."""
    before = levels[:-1]
    return np.divide(levels[1:], before, out=np.ones(len(before)), where=before > 0.0) - 1.0


def annual_return(returns: Floats, per_year: float) -> float | None:
    """Return the compound return per year."""
    grown = float(np.prod(1.0 + returns)) if len(returns) else 0.0
    return grown ** (per_year / len(returns)) - 1.0 if grown > 0.0 else (-1.0 if len(returns) else None)


def annual_volatility(returns: Floats, per_year: float) -> float | None:
    """Return the standard deviation (ddof 1) per year."""
    return float(np.std(returns, ddof=1)) * math.sqrt(per_year) if len(returns) > 1 else None


def sharpe_ratio(returns: Floats, per_year: float) -> float | None:
    """Return the annualised ratio of mean to standard deviation (ddof 1) over a zero rate."""
    if len(returns) < 2:
        return None
    deviation = float(np.std(returns, ddof=1))
    return float(np.mean(returns)) / deviation * math.sqrt(per_year) if deviation > 0.0 else None


def sortino_ratio(returns: Floats, per_year: float) -> float | None:
    """Return the annualised ratio of mean to downside deviation (root mean square of losses over all returns)."""
    if not len(returns):
        return None
    downside = math.sqrt(float(np.mean(np.square(np.minimum(returns, 0.0)))))
    return float(np.mean(returns)) / downside * math.sqrt(per_year) if downside > 0.0 else None


def omega_ratio(returns: Floats) -> float | None:
    """Return gains over losses about zero."""
    lost = -float(np.sum(np.minimum(returns, 0.0)))
    return float(np.sum(np.maximum(returns, 0.0))) / lost if lost > 0.0 else None


def value_at_risk(returns: Floats, tail: float = _TAIL) -> float | None:
    """Return the quantile of a step's return at the tail (historical)."""
    return float(np.percentile(returns, 100 * tail)) if len(returns) else None


def conditional_value_at_risk(returns: Floats, tail: float = _TAIL) -> float | None:
    """Return the mean of the worst share of returns: those up to the tail's place in their order."""
    if not len(returns):
        return None
    place = int((len(returns) - 1) * tail)
    return float(np.mean(np.partition(returns, place)[: place + 1]))


def tail_ratio(returns: Floats) -> float | None:
    """Return the 95th percentile over the 5th, without signs."""
    if not len(returns):
        return None
    low = abs(float(np.percentile(returns, 5)))
    return abs(float(np.percentile(returns, 95))) / low if low > 0.0 else None


def beta(returns: Floats, benchmark: Floats) -> float | None:
    """Return the slope of returns on a benchmark's."""
    if len(returns) < 2:
        return None
    spread = float(np.mean(np.square(benchmark - np.mean(benchmark))))
    together = float(np.mean((benchmark - np.mean(benchmark)) * (returns - np.mean(returns))))
    return together / spread if spread > 0.0 else None


def alpha(returns: Floats, benchmark: Floats, per_year: float) -> float | None:
    """Return what is left per year, compounded, of the mean return after beta times the benchmark's."""
    slope = beta(returns, benchmark)
    if slope is None:
        return None
    return float((np.mean(returns - slope * benchmark) + 1.0) ** per_year - 1.0)


def skewness(returns: Floats) -> float | None:
    """Return the adjusted Fisher-Pearson skew."""
    count = len(returns)
    second = _moment(returns, 2)
    if count < 3 or second <= 0.0:
        return None
    return _moment(returns, 3) / float(second**1.5) * math.sqrt(count * (count - 1)) / (count - 2)


def kurtosis(returns: Floats) -> float | None:
    """Return the sample excess kurtosis."""
    count = len(returns)
    second = _moment(returns, 2)
    if count < 4 or second <= 0.0:
        return None
    excess = (count + 1) * (_moment(returns, 4) / second**2) - 3 * (count - 1)
    return excess * (count - 1) / ((count - 2) * (count - 3))


def _moment(returns: Floats, order: int) -> float:
    return float(np.mean((returns - np.mean(returns)) ** order)) if len(returns) else 0.0


@dataclass(frozen=True, slots=True)
class Drawdown:
    """The deepest fall of a curve: as a share of its peak, in its units, and the longest time (ns) below a peak."""

    share: float
    amount: float
    longest_ns: int


def find_drawdown(times: Ints, levels: Floats) -> Drawdown:
    """Return the deepest fall from a peak and the longest stretch from a peak to its recovery, or to the end."""
    if not len(levels):
        return Drawdown(0.0, 0.0, 0)
    peaks = np.maximum.accumulate(levels)
    falls = peaks - levels
    shares = np.divide(falls, peaks, out=np.zeros(len(levels)), where=peaks > 0.0)
    at_peak = np.flatnonzero(falls <= 0.0)
    recovered = np.append(times[at_peak[1:]], times[-1])
    below = np.append(np.diff(at_peak) > 1, at_peak[-1] < len(levels) - 1)
    longest = int(np.max(np.where(below, recovered - times[at_peak], 0)))
    return Drawdown(float(np.max(shares)), float(np.max(falls)), longest)
