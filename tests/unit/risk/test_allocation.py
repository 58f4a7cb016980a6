"""Weights across instruments: against closed forms where there are some, and by name where the input is bad."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pypfopt", reason="needs the extra `allocation`")

from services.risk.allocation import Allocation, AllocationError, AllocationMethod, View, allocate, view_of_forecast

NAMES = ("BTC", "ETH", "SOL")


def some_returns(volatilities: tuple[float, ...] = (0.02, 0.03, 0.05), common: float = 0.5) -> dict[str, list[float]]:
    """Returns of 600 periods that share a common part."""
    generator = np.random.default_rng(4)
    market = generator.standard_normal(600)
    own = generator.standard_normal((600, len(volatilities)))
    mixed = common * market[:, None] + math.sqrt(1 - common**2) * own
    return {
        name: (mixed[:, index] * volatilities[index]).tolist() for index, name in enumerate(NAMES[: len(volatilities)])
    }


def check_weights(allocation: Allocation) -> None:
    assert math.isclose(sum(allocation.weights.values()), 1.0, abs_tol=1e-9)
    assert all(0.0 <= weight <= 1.0 for weight in allocation.weights.values())
    assert allocation.volatility > 0.0


@pytest.mark.parametrize("method", [method for method in AllocationMethod if method != "black_litterman"])
def test_weights_sum_to_one_and_none_is_negative(method: AllocationMethod) -> None:
    allocation = allocate(some_returns(), method)
    check_weights(allocation)
    assert list(allocation.weights) == list(NAMES)
    assert allocation.method is method


def test_minimum_variance_of_two_is_the_closed_form() -> None:
    returns = some_returns((0.02, 0.03), common=0.0)
    allocation = allocate(returns, AllocationMethod.MIN_VARIANCE)
    first, second = np.array(returns["BTC"]), np.array(returns["ETH"])
    shared = float(np.cov(first, second)[0, 1])
    expected = (second.var(ddof=1) - shared) / (first.var(ddof=1) + second.var(ddof=1) - 2 * shared)
    assert allocation.weights["BTC"] == pytest.approx(expected, abs=0.03)


def test_minimum_variance_has_the_smallest_volatility_of_all() -> None:
    smallest = allocate(some_returns(), AllocationMethod.MIN_VARIANCE).volatility
    assert smallest <= allocate(some_returns(), AllocationMethod.RISK_PARITY).volatility + 1e-9
    assert smallest <= allocate(some_returns(), AllocationMethod.MEAN_VARIANCE).volatility + 1e-9


def test_risk_parity_gives_the_calmer_more() -> None:
    weights = allocate(some_returns(), AllocationMethod.RISK_PARITY).weights
    assert weights["BTC"] > weights["SOL"]


def test_mean_variance_leans_to_what_has_risen() -> None:
    returns = some_returns()
    flat = allocate(returns, AllocationMethod.MEAN_VARIANCE).weights["SOL"]
    risen = allocate(returns | {"SOL": [value + 0.02 for value in returns["SOL"]]}, AllocationMethod.MEAN_VARIANCE)
    assert risen.weights["SOL"] > flat


def test_black_litterman_follows_its_views_by_their_confidence() -> None:
    returns = some_returns()

    def weight(view: View) -> float:
        allocation = allocate(returns, AllocationMethod.BLACK_LITTERMAN, views={"ETH": view})
        check_weights(allocation)
        return allocation.weights["ETH"]

    neutral, sure, unsure = weight(View(0.001, 0.5)), weight(View(0.004, 0.9)), weight(View(0.004, 0.1))
    assert sure > unsure
    assert weight(View(-0.01, 0.9)) < neutral


def test_max_weight_binds() -> None:
    allocation = allocate(some_returns(), AllocationMethod.MIN_VARIANCE, max_weight=0.4)
    assert max(allocation.weights.values()) <= 0.4 + 1e-6


def test_view_of_a_forecast() -> None:
    assert view_of_forecast(0.6, 0.2, 0.01, 0.4) == View(pytest.approx(0.004), 0.4)
    assert view_of_forecast(0.2, 0.6, 0.01, 0.0) == View(pytest.approx(-0.004), 1e-3)


@pytest.mark.parametrize(
    ("returns", "options", "fault"),
    [
        ({"BTC": [0.1] * 40}, {}, "1 instrument"),
        ({"BTC": [0.1] * 40, "ETH": [0.1] * 39}, {}, "lengths differ"),
        ({"BTC": [0.1, 0.2] * 14, "ETH": [0.1, 0.2] * 14}, {}, "28 periods are too few"),
        ({"BTC": [0.1] * 40, "ETH": [0.1, 0.2] * 20}, {}, "returns of BTC: all are equal"),
        ({"BTC": [0.1, math.nan] * 20, "ETH": [0.1, 0.2] * 20}, {}, "returns of BTC: period 1 is nan"),
        (None, {"max_weight": 0.3}, "max_weight: 0.3 must lie between 1/3 and 1"),
        (None, {"max_weight": 1.1}, "max_weight: 1.1"),
        (None, {"risk_aversion": 0.0}, "risk_aversion: 0.0"),
        (None, {"views": {}}, "views: there are none"),
        (None, {"views": {"DOGE": View(0.1, 0.5)}}, "views: DOGE has no returns"),
        (None, {"views": {"BTC": View(math.nan, 0.5)}}, "expected return of BTC is nan"),
        (None, {"views": {"BTC": View(0.1, 0.0)}}, "confidence of BTC is 0.0"),
        (None, {"views": {"BTC": View(0.1, 0.5)}, "market_weights": {"BTC": 1.0}}, "market_weights: need one"),
    ],
)
def test_impossible_inputs_are_refused_by_name(returns: Any, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(AllocationError) as refusal:
        allocate(some_returns() if returns is None else returns, AllocationMethod.BLACK_LITTERMAN, **options)
    assert fault in str(refusal.value)


@pytest.mark.parametrize(
    "values", [(1.1, 0.2, 0.01, 0.4), (0.6, -0.1, 0.01, 0.4), (0.6, 0.2, 0.0, 0.4), (0.6, 0.2, 0.01, 1.5)]
)
def test_impossible_forecasts_are_refused(values: tuple[float, float, float, float]) -> None:
    with pytest.raises(AllocationError, match="must"):
        view_of_forecast(*values)
