"""Weights across instruments or strategies by PyPortfolioOpt (extra `allocation`): minimum variance, HRP and more.

Refuses to be exact money: an optimiser works in floats, and its weights are advice that the risk gate judges.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MIN_RETURNS = 30


class AllocationError(ValueError):
    """An allocation cannot be made; the text names the input and how to fix it."""


class AllocationMethod(StrEnum):
    """How weights are found."""

    MIN_VARIANCE = "min_variance"
    RISK_PARITY = "risk_parity"
    MEAN_VARIANCE = "mean_variance"
    BLACK_LITTERMAN = "black_litterman"


@dataclass(frozen=True, slots=True)
class View:
    """A forecast as Black-Litterman takes it: expected return over a period of the history, and how sure, in (0, 1]."""

    expected_return: float
    confidence: float


@dataclass(frozen=True, slots=True)
class Allocation:
    """Weights by instrument (sum 1, none below 0) with expected return and volatility per period of the history."""

    method: AllocationMethod
    weights: dict[str, float]
    expected_return: float
    volatility: float


def _frame(returns: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    import pandas as pd

    if len(returns) < 2:
        raise AllocationError(f"returns: {len(returns)} instrument(s); allocation needs two or more")
    lengths = {name: len(series) for name, series in returns.items()}
    if len(set(lengths.values())) != 1:
        raise AllocationError(f"returns: lengths differ ({lengths}); give the same periods for every instrument")
    if min(lengths.values()) < MIN_RETURNS:
        raise AllocationError(f"returns: {min(lengths.values())} periods are too few; give {MIN_RETURNS} or more")
    for name, series in returns.items():
        for index, value in enumerate(series):
            if not math.isfinite(value):
                raise AllocationError(f"returns of {name}: period {index} is {value}, not a finite number")
        if max(series) == min(series):
            raise AllocationError(f"returns of {name}: all are equal; an instrument without variance cannot be weighed")
    return pd.DataFrame({name: list(series) for name, series in returns.items()})


def allocate(
    returns: Mapping[str, Sequence[float]],
    method: AllocationMethod,
    *,
    max_weight: float = 1.0,
    views: Mapping[str, View] | None = None,
    market_weights: Mapping[str, float] | None = None,
    risk_aversion: float = 2.5,
) -> Allocation:
    """Return long-only weights from aligned simple returns per period, one series per instrument.

    The covariance is shrunk after Ledoit and Wolf. MEAN_VARIANCE takes mean returns, halved toward their common mean,
    and maximises quadratic utility. RISK_PARITY is hierarchical (Lopez de Prado 2016) and knows no `max_weight`.
    BLACK_LITTERMAN starts from the equilibrium of `market_weights` (equal if None) and moves it by the `views`.
    Raises `AllocationError` naming the input that makes it impossible.
    """
    frame = _frame(returns)
    if not 1.0 / len(returns) <= max_weight <= 1.0:
        raise AllocationError(f"max_weight: {max_weight} must lie between 1/{len(returns)} and 1")
    if not (math.isfinite(risk_aversion) and risk_aversion > 0.0):
        raise AllocationError(f"risk_aversion: {risk_aversion} must be a finite number above zero")
    from pypfopt import risk_models

    covariance = risk_models.CovarianceShrinkage(frame, returns_data=True, frequency=1).ledoit_wolf()
    means = frame.mean()
    if method is AllocationMethod.RISK_PARITY:
        weights = _risk_parity(frame, covariance)
    elif method is AllocationMethod.BLACK_LITTERMAN:
        means, covariance = _blend(covariance, views or {}, market_weights, risk_aversion)
        weights = _optimise(means, covariance, max_weight, risk_aversion)
    elif method is AllocationMethod.MEAN_VARIANCE:
        means = 0.5 * means + 0.5 * float(means.mean())
        weights = _optimise(means, covariance, max_weight, risk_aversion)
    else:
        weights = _optimise(None, covariance, max_weight, risk_aversion)
    values = [weights[name] for name in frame.columns]
    variance = sum(
        values[i] * values[j] * float(covariance.iloc[i, j]) for i in range(len(values)) for j in range(len(values))
    )
    expected = sum(weights[name] * float(means[name]) for name in frame.columns)
    return Allocation(method, weights, expected, math.sqrt(max(0.0, variance)))


def _risk_parity(frame: pd.DataFrame, covariance: pd.DataFrame) -> dict[str, float]:
    from pypfopt import HRPOpt

    found = HRPOpt(frame, cov_matrix=covariance).optimize()
    return {str(name): float(weight) for name, weight in found.items()}


def _optimise(means: Any, covariance: pd.DataFrame, max_weight: float, risk_aversion: float) -> dict[str, float]:
    from pypfopt import EfficientFrontier
    from pypfopt.exceptions import OptimizationError

    frontier = EfficientFrontier(means, covariance, weight_bounds=(0.0, max_weight))
    try:
        if means is None:
            frontier.min_volatility()
        else:
            frontier.max_quadratic_utility(risk_aversion=risk_aversion)
    except OptimizationError as error:
        raise AllocationError(f"the optimiser found no weights: {error}; check the returns") from error
    found = {str(name): max(0.0, float(weight)) for name, weight in frontier.clean_weights().items()}
    total = math.fsum(found.values())
    return {name: weight / total for name, weight in found.items()}


def _blend(
    covariance: pd.DataFrame,
    views: Mapping[str, View],
    market_weights: Mapping[str, float] | None,
    risk_aversion: float,
) -> tuple[Any, pd.DataFrame]:
    import pandas as pd
    from pypfopt import BlackLittermanModel, black_litterman

    names = [str(name) for name in covariance.columns]
    if not views:
        raise AllocationError("views: there are none; Black-Litterman needs a forecast for one instrument or more")
    for name, view in views.items():
        if name not in names:
            raise AllocationError(f"views: {name} has no returns; known: {', '.join(names)}")
        if not math.isfinite(view.expected_return):
            raise AllocationError(f"views: expected return of {name} is {view.expected_return}, not a finite number")
        if not 0.0 < view.confidence <= 1.0:
            raise AllocationError(f"views: confidence of {name} is {view.confidence}, must lie in (0, 1]")
    given = dict.fromkeys(names, 1.0 / len(names)) if market_weights is None else dict(market_weights)
    if set(given) != set(names) or any(weight < 0.0 for weight in given.values()) or sum(given.values()) <= 0.0:
        raise AllocationError(f"market_weights: need one of zero or above for each of {', '.join(names)}, not all 0")
    prior = black_litterman.market_implied_prior_returns(
        pd.Series(given)[names], risk_aversion, covariance, risk_free_rate=0.0
    )
    model = BlackLittermanModel(
        covariance,
        pi=prior,
        absolute_views={name: view.expected_return for name, view in views.items()},
        omega="idzorek",
        view_confidences=[view.confidence for view in views.values()],
    )
    return model.bl_returns(), model.bl_cov()


def view_of_forecast(probability_up: float, probability_down: float, typical_move: float, confidence: float) -> View:
    """Return the view a direction forecast stands for: (up - down) x the typical move, as sure as its confidence.

    `typical_move` is the size of a usual move over the forecast's horizon as a share of the price; a confidence of 0
    becomes a thousandth, since a view needs some.
    """
    for name, value in (("probability_up", probability_up), ("probability_down", probability_down)):
        if not 0.0 <= value <= 1.0:
            raise AllocationError(f"{name}: {value} must lie in [0, 1]")
    if not (math.isfinite(typical_move) and typical_move > 0.0):
        raise AllocationError(f"typical_move: {typical_move} must be a finite number above zero")
    if not 0.0 <= confidence <= 1.0:
        raise AllocationError(f"confidence: {confidence} must lie in [0, 1]")
    return View((probability_up - probability_down) * typical_move, max(confidence, 1e-3))
