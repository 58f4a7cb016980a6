"""How models did on paper accounts of their own, after costs, and the rule by which a shadow is promoted.

Each model of a session has an account that trades its forecasts alone, so that champion and shadows are judged among
equals, whoever was champion meanwhile. An account's return is that of its equity, after fees, spread and funding, by
periods of market time. It looks at complete periods only and promotes nothing by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import NormalDist

from libs.domain.numbers import NANOSECONDS

HOUR_NS = 3_600 * NANOSECONDS
_DAY_NS = 24 * HOUR_NS
_ACCOUNT_PREFIX = "model-"
_NORMAL = NormalDist()
_BPS = 1e4


def model_account(version: str) -> str:
    """Return the name of the paper account of the model with this version."""
    return f"{_ACCOUNT_PREFIX}{version}"


def is_model_account(account: str) -> bool:
    """Whether an account is the paper account of a model."""
    return account.startswith(_ACCOUNT_PREFIX)


class EquityByPeriod:
    """An account's equity as each period of market time ended."""

    def __init__(self, period_ns: int = HOUR_NS) -> None:
        self.period_ns = period_ns
        self._last: dict[int, float] = {}

    def add(self, event_time: int, equity: float) -> None:
        """Take an account state; of one period the last one counts."""
        self._last[event_time // self.period_ns] = equity

    @property
    def numbers(self) -> frozenset[int]:
        """The periods in which there was a state: none where the market or the session stood still."""
        return frozenset(self._last)

    @property
    def newest(self) -> int | None:
        """The number of the newest period, which is not complete, None before any."""
        return next(reversed(self._last), None)

    def returns(self, numbers: Sequence[int]) -> list[float]:
        """Return the return from each of these periods' ends to the next one's."""
        return [self._last[after] / self._last[before] - 1.0 for before, after in pairwise(numbers)]


@dataclass(frozen=True, slots=True)
class PromotionRule:
    """A shadow is promoted where it differed from the champion in `min_samples` periods or more, earned more than it,
    and by chance would do so with a probability below `significance`, the number of shadows taken into account."""

    min_samples: int = 100
    significance: float = 0.05


@dataclass(frozen=True, slots=True)
class ModelScore:
    """What a model's account came to over `periods` complete ones: the return after costs in all and a day, in bps of
    its equity. Against the champion, for shadows: the `samples`, periods in which the two differed, how much more it
    earned a day, in bps, and how likely chance alone would earn so much more (one-sided)."""

    periods: int
    net_bps: float
    net_bps_per_day: float
    samples: int | None = None
    excess_bps_per_day: float | None = None
    p_value: float | None = None

    def is_promoted_by(self, rule: PromotionRule, shadows: int) -> bool:
        """Whether the rule promotes this shadow, one of so many."""
        if self.samples is None or self.p_value is None or self.excess_bps_per_day is None:
            return False
        is_significant = self.p_value < rule.significance / max(1, shadows)
        return self.samples >= rule.min_samples and self.excess_bps_per_day > 0.0 and is_significant


def score_models(accounts: Mapping[str, EquityByPeriod], champion: str) -> dict[str, ModelScore]:
    """Return the score of each account over the periods that all of them have completed, from the first one's end on.

    `champion` is the champion's account; empty, shadows are compared with holding nothing. Accounts without a state
    are left out.
    """
    known = {name: each for name, each in accounts.items() if each.newest is not None}
    if not known:
        return {}
    end = max(each.newest for each in known.values() if each.newest is not None)
    common = sorted(
        number for number in frozenset.intersection(*(each.numbers for each in known.values())) if number < end
    )
    period_ns = next(iter(known.values())).period_ns
    returns = {name: each.returns(common) for name, each in known.items()}
    nothing = [0.0] * max(0, len(common) - 1)
    against = returns.get(champion) if champion else nothing
    scores = {}
    for name, made in returns.items():
        count = len(made)
        to_a_day = _BPS * _DAY_NS / period_ns / count if count else 0.0
        net = math.fsum(made)
        score = ModelScore(count, net * _BPS, net * to_a_day)
        if name != champion and against is not None:
            excess = [mine - theirs for mine, theirs in zip(made, against, strict=True)]
            score = replace(
                score,
                samples=sum(1 for each in excess if each),
                excess_bps_per_day=math.fsum(excess) * to_a_day,
                p_value=chance_of_mean(excess),
            )
        scores[name] = score
    return scores


def chance_of_mean(values: Sequence[float]) -> float:
    """Return how likely a mean as high as this one is where the true one is 0; 1 where there is too little to tell.

    The mean's error takes autocorrelation into account: Newey and West, A Simple Positive Semi-Definite,
    Heteroskedasticity and Autocorrelation Consistent Covariance Matrix, 1987, with 4 (n / 100)^(2/9) lags.
    """
    count = len(values)
    if count < 3:
        return 1.0
    mean = math.fsum(values) / count
    centred = [value - mean for value in values]
    lags = min(count - 1, int(4.0 * (count / 100.0) ** (2.0 / 9.0)))
    variance = math.fsum(value * value for value in centred)
    for lag in range(1, lags + 1):
        products = math.fsum(one * other for one, other in zip(centred[lag:], centred, strict=False))
        variance += 2.0 * (1.0 - lag / (lags + 1.0)) * products
    error = math.sqrt(max(0.0, variance)) / count
    # What never varies has no error of its own, and says nothing.
    return 1.0 - _NORMAL.cdf(mean / error) if error > 1e-12 * abs(mean) else 1.0
