"""The outlook: how the return up to the end of each of the coming days is distributed, by quantiles and by moments.

Returns are from the next open, in units of the volatility of one bar known at the bar times the root of the bars up to
there, so that a calm and a wild month are alike. Moments come from the quantiles by quadrature: each stands for the
share of returns that is nearest to it, and the deviation is scaled so that a normal distribution's is exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.training.core.bars import BarTable
from services.training.core.labels import BPS, DAY_NS, ENTRY_DELAY

Floats: TypeAlias = npt.NDArray[np.float64]

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
MASSES = (0.075, 0.1, 0.2, 0.25, 0.2, 0.1, 0.075)
"""The share of returns that each quantile stands for: halfway to its neighbours."""

SPREAD = float(np.sqrt(sum(mass * NormalDist().inv_cdf(one) ** 2 for one, mass in zip(LEVELS, MASSES, strict=True))))
"""What the quadrature makes of a standard normal distribution's deviation."""

SCALE_INPUT = "ewma_volatility_0.94"
"""The feature that is the volatility of one bar; an outlook's model reads it."""

MOMENTS = ("mean_bps", "deviation_bps", "skew")


def bars_a_day(step_ns: int) -> int:
    """Return the bars of a day."""
    return DAY_NS // step_ns


def day_scales_bps(days: int, step_ns: int) -> Floats:
    """Return what a volatility of one bar is multiplied by for the returns up to each day's end, in bps."""
    return np.sqrt(np.arange(1, days + 1) * bars_a_day(step_ns)) * BPS


def make_paths(bars: BarTable, volatility: Floats, days: int) -> Floats:
    """Return each bar's returns up to each day's end (bars, days) in deviations, NaN where not known or over a gap."""
    count, per_day = len(bars), bars_a_day(bars.step_ns)
    paths = np.full((count, days), np.nan)
    logs = np.log(bars.open)
    scales = day_scales_bps(days, bars.step_ns) / BPS
    with np.errstate(divide="ignore", invalid="ignore"):
        for number in range(1, days + 1):
            ahead = number * per_day
            last = count - ahead - ENTRY_DELAY
            if last <= 0:
                break
            begun, ended = slice(ENTRY_DELAY, ENTRY_DELAY + last), slice(ENTRY_DELAY + ahead, count)
            moved = (logs[ended] - logs[begun]) / (volatility[:last] * scales[number - 1])
            is_whole = bars.open_times[ended] - bars.open_times[begun] == ahead * bars.step_ns
            paths[:last, number - 1] = np.where(is_whole & np.isfinite(moved), moved, np.nan)
    return paths


@dataclass(frozen=True, slots=True)
class OutlookScore:
    """By day ahead, out of sample: quantile loss against that of the training bars' own quantiles, and coverage.

    `skill` is 1 less the ratio of the two; `coverage` the share of returns between the outermost quantiles, of 0.9;
    `moments` the mean forecast mean, deviation and skew (days, 3), in deviations.
    """

    skill: Floats
    coverage: Floats
    moments: Floats


def score_outlook(forecast: Floats, paths: Floats, training_paths: Floats) -> OutlookScore:
    """Score (n, days, levels + 3) by what followed (n, days)."""
    levels = np.array(LEVELS)
    plain = np.nanquantile(training_paths, levels, axis=0).T
    quantiles = forecast[:, :, : len(levels)]
    own, other = quantile_loss(quantiles, paths), quantile_loss(np.broadcast_to(plain, quantiles.shape), paths)
    inside = (quantiles[:, :, 0] <= paths) & (paths <= quantiles[:, :, -1])
    return OutlookScore(1.0 - own / other, inside.mean(axis=0), forecast[:, :, len(levels) :].mean(axis=0))


def quantile_loss(quantiles: Floats, happened: Floats) -> Floats:
    """Return the mean quantile loss by day (Koenker and Bassett 1978); its mean over all levels is half the CRPS."""
    gaps = happened[:, :, np.newaxis] - quantiles
    levels = np.array(LEVELS)
    return np.asarray(np.nanmean(np.maximum(levels * gaps, (levels - 1.0) * gaps), axis=(0, 2)))
