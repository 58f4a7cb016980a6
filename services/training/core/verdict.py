"""The verdict on a model, by stated rules, and the two statistics that make many trials honest.

In this order: an AUC whose interval reaches 0.5 is NOT_DISTINGUISHABLE. A mean net return of nothing or less is
NO_EDGE. A mean net return whose interval reaches 0, a deflated Sharpe ratio below 0.95, or a probability of backtest
overfitting of a half or more is NOT_DISTINGUISHABLE again. Whatever passes all of it is EDGE. A model with an input
that knows the future is LEAK, whatever it reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations, pairwise
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]

_NORMAL = NormalDist()
_EULER = 0.5772156649015329

NEEDED_DEFLATED_SHARPE = 0.95
TOLERATED_OVERFITTING = 0.5


class Verdict(StrEnum):
    """What a report says of a model."""

    NO_EDGE = "no edge after costs"
    NOT_DISTINGUISHABLE = "edge not distinguishable from chance"
    EDGE = "edge"
    LEAK = "leak suspected"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the verdict stands on. `mean_net_bps` is per day; `overfitting` None where there is too little to tell."""

    auc_low: float
    mean_net_bps: float
    mean_net_low_bps: float
    deflated_sharpe: float
    overfitting: float | None


def judge(evidence: Evidence) -> tuple[Verdict, str]:
    """Return the verdict and the rule that decided it."""
    if not evidence.auc_low > 0.5:
        return Verdict.NOT_DISTINGUISHABLE, f"the AUC's interval begins at {evidence.auc_low:.3f}, not above 0.5"
    if evidence.mean_net_bps <= 0.0:
        return Verdict.NO_EDGE, f"the mean net return is {evidence.mean_net_bps:.2f} bps a day"
    if evidence.mean_net_low_bps <= 0.0:
        reason = f"the mean net return's interval begins at {evidence.mean_net_low_bps:.2f} bps a day"
        return Verdict.NOT_DISTINGUISHABLE, reason
    if evidence.deflated_sharpe < NEEDED_DEFLATED_SHARPE:
        reason = f"the deflated Sharpe ratio is {evidence.deflated_sharpe:.2f}, below {NEEDED_DEFLATED_SHARPE}"
        return Verdict.NOT_DISTINGUISHABLE, reason
    if evidence.overfitting is not None and evidence.overfitting >= TOLERATED_OVERFITTING:
        reason = f"the probability of backtest overfitting is {evidence.overfitting:.2f}"
        return Verdict.NOT_DISTINGUISHABLE, reason
    return Verdict.EDGE, "every rule is met"


def deflated_sharpe(daily: Floats, trial_sharpes: Floats) -> float:
    """Return the probability that the true Sharpe ratio is above what the best of these trials reaches by chance.

    `daily` are returns; `trial_sharpes` the daily, not annualised, Sharpe ratios of every trial made, this one too.
    Bailey and Lopez de Prado, The Deflated Sharpe Ratio, 2014.
    """
    deviation = float(daily.std())
    if len(daily) < 3 or not deviation > 0.0:
        return 0.0
    sharpe = float(daily.mean()) / deviation
    centred = (daily - daily.mean()) / deviation
    skew, kurtosis = float((centred**3).mean()), float((centred**4).mean())
    trials = len(trial_sharpes)
    expected_best = 0.0
    if trials > 1:
        spread = float(trial_sharpes.std(ddof=1))
        expected_best = spread * (
            (1.0 - _EULER) * _NORMAL.inv_cdf(1.0 - 1.0 / trials) + _EULER * _NORMAL.inv_cdf(1.0 - 1.0 / (trials * np.e))
        )
    variance = max(1e-12, 1.0 - skew * sharpe + (kurtosis - 1.0) / 4.0 * sharpe**2)
    return _NORMAL.cdf((sharpe - expected_best) * float(np.sqrt(len(daily) - 1)) / float(np.sqrt(variance)))


def overfitting_probability(daily: Floats, blocks: int = 10) -> float | None:
    """Return how often the best of several strategies in one half of the days is below the median in the other.

    `daily` are returns (days, strategies). Combinatorially symmetric cross-validation: Bailey, Borwein, Lopez de Prado
    and Zhu, The Probability of Backtest Overfitting, 2015. None for fewer than two strategies or four days a block.
    """
    days, strategies = daily.shape
    if strategies < 2 or days < 4 * blocks:
        return None
    edges = [int(edge) for edge in np.linspace(0, days, blocks + 1)]
    sums = np.array([daily[a:b].sum(axis=0) for a, b in pairwise(edges)])
    squares = np.array([(daily[a:b] ** 2).sum(axis=0) for a, b in pairwise(edges)])
    sizes = np.diff(edges)

    def sharpe(chosen: tuple[int, ...]) -> Floats:
        places, count = list(chosen), int(sizes[list(chosen)].sum())
        mean = sums[places].sum(axis=0) / count
        variance = squares[places].sum(axis=0) / count - mean**2
        made: Floats = mean / np.sqrt(np.maximum(variance, 1e-12))
        return made

    everything = set(range(blocks))
    below = []
    for chosen in combinations(range(blocks), blocks // 2):
        inside, outside = sharpe(chosen), sharpe(tuple(sorted(everything - set(chosen))))
        best = int(inside.argmax())
        # Ties share their rank: strategies that never trade do not beat one another.
        rank = (outside < outside[best]).sum() + 0.5 * ((outside == outside[best]).sum() - 1)
        below.append(rank / (strategies - 1) <= 0.5)
    return float(np.mean(below))
