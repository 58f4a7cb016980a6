"""The forecast distribution of the return, its score and a conformal interval.

The distribution is a mixture with a model's probabilities as weights: each class's part is how the training bars of
that class moved, in units of the volatility known at the bar. The interval is conformalised quantile regression
(Romano, Patterson and Candes 2019): as much wider or narrower than the mixture's own quantiles as the calibration bars
ask for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Classes: TypeAlias = npt.NDArray[np.int64]

COVERAGE = 0.9
"""The share of returns that an interval is to hold."""

_EDGE, _STEP = 8.0, 0.1
_GRID = np.linspace(-_EDGE, _EDGE, round(2 * _EDGE / _STEP) + 1)
_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class ScoredReturns:
    """Per bar: continuous ranked probability score and the interval's ends, all in bps."""

    crps_bps: Floats
    low_bps: Floats
    high_bps: Floats


@dataclass(frozen=True, slots=True)
class ReturnDistribution:
    """Each class's cumulative shares (3, grid) of moves in deviations, and what the interval is widened by, in them."""

    shares: Floats
    widening: float = 0.0

    def interval(self, probabilities: Floats) -> tuple[Floats, Floats]:
        """Return the ends of the interval (n,), in deviations."""
        low, high = (
            np.concatenate(
                [
                    _quantile(probabilities[first : first + _AT_ONCE] @ self.shares, level)
                    for first in range(0, len(probabilities), _AT_ONCE)
                ]
            )
            for level in (0.5 - COVERAGE / 2.0, 0.5 + COVERAGE / 2.0)
        )
        return low - self.widening, high + self.widening

    def score(self, probabilities: Floats, deviation_bps: Floats, moved_bps: Floats) -> ScoredReturns:
        """Score forecasts (n, 3) by what followed; `deviation_bps` is each bar's volatility over the horizon."""
        low, high = self.interval(probabilities)
        scale = np.where(deviation_bps > 0.0, deviation_bps, 1.0)
        moves = moved_bps / scale
        crps = np.concatenate(
            [
                _ranked_score(probabilities[first : first + _AT_ONCE] @ self.shares, moves[first : first + _AT_ONCE])
                for first in range(0, len(moves), _AT_ONCE)
            ]
        )
        return ScoredReturns(crps * scale, low * scale, high * scale)


def fit_distribution(
    moves: Floats, classes: Classes, calibration_moves: Floats, calibration_probabilities: Floats
) -> ReturnDistribution:
    """Fit the parts to the training bars' `moves` (in deviations) by class, the interval to the calibration bars.

    A class without a bar has the distribution of all.
    """
    parts = [moves[classes == one] if (classes == one).any() else moves for one in range(3)]
    shares = np.stack([np.searchsorted(np.sort(part), _GRID, side="right") / len(part) for part in parts])
    made = ReturnDistribution(shares)
    low, high = made.interval(calibration_probabilities)
    outside = np.maximum(low - calibration_moves, calibration_moves - high)
    level = min(1.0, np.ceil((len(outside) + 1) * COVERAGE) / len(outside))
    return ReturnDistribution(shares, float(np.quantile(outside, level, method="higher")))


def _quantile(cumulative: Floats, level: float) -> Floats:
    at = np.clip((cumulative < level).sum(axis=1), 1, len(_GRID) - 1)
    rows = np.arange(len(cumulative))
    below, above = cumulative[rows, at - 1], cumulative[rows, at]
    share = np.clip((level - below) / np.maximum(above - below, 1e-12), 0.0, 1.0)
    return np.asarray(_GRID[at - 1] + share * _STEP)


def _ranked_score(cumulative: Floats, moves: Floats) -> Floats:
    """Return the integral of (F(z) - 1{move <= z})^2 (Gneiting and Raftery 2007, equation 20), F linear between."""
    middle = 0.5 * (cumulative[:, 1:] + cumulative[:, :-1])
    # The share of each cell that lies behind what happened.
    behind = np.clip((_GRID[1:] - moves[:, np.newaxis]) / _STEP, 0.0, 1.0)
    squared = behind * (middle - 1.0) ** 2 + (1.0 - behind) * middle**2
    return np.asarray(squared.sum(axis=1) * _STEP + np.maximum(np.abs(moves) - _EDGE, 0.0))
