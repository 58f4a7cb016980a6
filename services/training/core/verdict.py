"""The verdict on a model, by stated rules, with the two statistics that make many trials honest.

In this order: an AUC whose interval reaches 0.5 is NOT_DISTINGUISHABLE. A mean net return of nothing or less is
NO_EDGE. A mean net return whose interval reaches 0, a deflated Sharpe ratio below 0.95, or a probability of backtest
overfitting of a half or more is NOT_DISTINGUISHABLE again. Whatever passes all of it is EDGE. A model with an input
that knows the future is LEAK, whatever it reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from libs.portfolio.trials import Floats, deflated_sharpe, overfitting_probability

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


def deflated_sharpe_of(daily: Floats, trial_sharpes: Floats) -> float:
    """Return the deflated Sharpe ratio of daily returns among trials, 0 where there is too little to tell.

    `trial_sharpes` are the daily, not annualised, Sharpe ratios of every trial made, this one too.
    """
    deviation = float(daily.std())
    if len(daily) < 3 or not deviation > 0.0:
        return 0.0
    centred = (daily - daily.mean()) / deviation
    probability = deflated_sharpe(
        float(daily.mean()) / deviation,
        steps=len(daily),
        skew=float((centred**3).mean()),
        kurtosis=float((centred**4).mean()),
        trials=len(trial_sharpes),
        variance=float(trial_sharpes.var(ddof=1)) if len(trial_sharpes) > 1 else 0.0,
    )
    return probability or 0.0


def overfitting_of(daily: Floats) -> float | None:
    """Return the probability that the best of the strategies' daily returns (days, strategies) is overfitted."""
    return overfitting_probability(daily, blocks=10, least_steps=4)
