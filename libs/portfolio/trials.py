"""How much of the best of many trials is luck: the deflated Sharpe ratio and the probability of overfitting.

Returns and Sharpe ratios are per step, not annualised; a matrix has a column per trial.
"""

from __future__ import annotations

import itertools
import math
from itertools import pairwise
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

_EULER = 0.5772156649015329
_NORMAL = NormalDist()


def deflated_sharpe(
    sharpe: float, *, steps: int, skew: float, kurtosis: float, trials: int, variance: float
) -> float | None:
    """Return the probability that a Sharpe ratio is above what the best of so many trials has by chance.

    `kurtosis` is 3 for normal returns, `variance` that of the trials' ratios; one trial alone is held against 0.
    Source: Bailey and Lopez de Prado (2014), The Deflated Sharpe Ratio. None where it is not defined.
    """
    spread = 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2
    if trials < 1 or steps < 2 or spread <= 0.0:
        return None
    by_chance = 0.0
    if trials > 1:
        highest = (1.0 - _EULER) * _NORMAL.inv_cdf(1.0 - 1.0 / trials)
        highest += _EULER * _NORMAL.inv_cdf(1.0 - 1.0 / (trials * math.e))
        by_chance = math.sqrt(max(variance, 0.0)) * highest
    return _NORMAL.cdf((sharpe - by_chance) * math.sqrt(steps - 1) / math.sqrt(spread))


def overfitting_probability(returns: Floats, blocks: int = 16, least_steps: int = 2) -> float | None:
    """Return how often the best trial in one half of the time is below the median of all in the other half.

    Every choice of half of the `blocks` of time is tried, and the Sharpe ratio ranks; trials that are alike share a
    rank. Source: Bailey, Borwein, Lopez de Prado and Zhu (2015), The Probability of Backtest Overfitting (CSCV). None
    for fewer than two trials or `least_steps` a block.
    """
    steps, trials = returns.shape
    if trials < 2 or steps < least_steps * blocks or blocks % 2:
        return None
    edges = [int(edge) for edge in np.linspace(0, steps, blocks + 1)]
    sums = np.array([returns[first:end].sum(axis=0) for first, end in pairwise(edges)])
    squares = np.array([np.square(returns[first:end]).sum(axis=0) for first, end in pairwise(edges)])
    sizes = np.diff(edges)
    below = []
    for chosen in itertools.combinations(range(blocks), blocks // 2):
        places = np.zeros(blocks, bool)
        places[list(chosen)] = True
        inside, outside = (
            sharpe_ratios(sums[part].sum(axis=0), squares[part].sum(axis=0), int(sizes[part].sum()))
            for part in (places, ~places)
        )
        best = int(inside.argmax())
        rank = (outside < outside[best]).sum() + 0.5 * ((outside == outside[best]).sum() - 1)
        below.append(rank / (trials - 1) <= 0.5)
    return float(np.mean(below))


def sharpe_ratios(sums: Floats, squares: Floats, steps: int) -> Floats:
    """Return the ratio of each trial from the sums of its returns and of their squares, 0 where it never moves."""
    mean = sums / steps
    deviation = np.sqrt(np.maximum(squares / steps - mean**2, 0.0))
    return np.divide(mean, deviation, out=np.zeros_like(mean), where=deviation > 1e-15)
