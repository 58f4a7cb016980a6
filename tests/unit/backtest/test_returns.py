"""Ratios against what quantstats and empyrical-reloaded compute from the same returns."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from services.backtest import returns as measures
from services.backtest.returns import choose_grid, find_drawdown, sample, simple_returns
from tests.unit.backtest.builders import DAY, MINUTE, SECOND, START, a_curve

YEAR = 365.0
GENERATOR = np.random.default_rng(5)
GAINED = GENERATOR.standard_t(4, 400) * 0.01 + 0.0005
MARKET = 0.6 * GAINED + GENERATOR.normal(0.0, 0.01, 400)


@pytest.fixture(scope="module")
def empyrical() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("empyrical", reason="needs empyrical-reloaded: make setup-dev")


@pytest.fixture(scope="module")
def quantstats() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantstats.stats", reason="needs quantstats: make setup-dev")


def theirs(compute: Callable[[], Any]) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(compute())


def grown(returns: Any) -> Any:
    return np.concatenate(([1.0], np.cumprod(1.0 + returns)))


@pytest.mark.slow
def test_ratios_are_those_of_empyrical(empyrical: Any) -> None:
    given = pd.Series(GAINED)
    market = pd.Series(MARKET)
    pairs = {
        "annual return": (
            measures.annual_return(GAINED, YEAR),
            lambda: empyrical.annual_return(given, annualization=365),
        ),
        "volatility": (
            measures.annual_volatility(GAINED, YEAR),
            lambda: empyrical.annual_volatility(given, annualization=365),
        ),
        "sharpe": (measures.sharpe_ratio(GAINED, YEAR), lambda: empyrical.sharpe_ratio(given, annualization=365)),
        "sortino": (measures.sortino_ratio(GAINED, YEAR), lambda: empyrical.sortino_ratio(given, annualization=365)),
        "omega": (measures.omega_ratio(GAINED), lambda: empyrical.omega_ratio(given)),
        "tail ratio": (measures.tail_ratio(GAINED), lambda: empyrical.tail_ratio(given)),
        "value at risk": (measures.value_at_risk(GAINED), lambda: empyrical.value_at_risk(given)),
        "expected shortfall": (
            measures.conditional_value_at_risk(GAINED),
            lambda: empyrical.conditional_value_at_risk(given),
        ),
        "beta": (measures.beta(GAINED, MARKET), lambda: empyrical.beta(given, market)),
        "alpha": (
            measures.alpha(GAINED, MARKET, YEAR),
            lambda: empyrical.alpha(given, market, annualization=365),
        ),
        "drawdown": (
            -find_drawdown(np.arange(401), grown(GAINED)).share,
            lambda: empyrical.max_drawdown(given),
        ),
    }
    for name, (ours, compute) in pairs.items():
        assert ours == pytest.approx(theirs(compute), rel=1e-9), name


@pytest.mark.slow
def test_ratios_are_those_of_quantstats(quantstats: Any) -> None:
    given = pd.Series(GAINED, index=pd.date_range("2026-01-01", periods=400, freq="D"))
    pairs = {
        "sharpe": (measures.sharpe_ratio(GAINED, YEAR), lambda: quantstats.sharpe(given, periods=365)),
        "sortino": (measures.sortino_ratio(GAINED, YEAR), lambda: quantstats.sortino(given, periods=365)),
        "volatility": (measures.annual_volatility(GAINED, YEAR), lambda: quantstats.volatility(given, periods=365)),
        "omega": (measures.omega_ratio(GAINED), lambda: quantstats.omega(given, periods=365)),
        "tail ratio": (measures.tail_ratio(GAINED), lambda: quantstats.tail_ratio(given)),
        "skew": (measures.skewness(GAINED), lambda: quantstats.skew(given)),
        "kurtosis": (measures.kurtosis(GAINED), lambda: quantstats.kurtosis(given)),
        "drawdown": (
            -find_drawdown(np.arange(401), grown(GAINED)).share,
            lambda: quantstats.max_drawdown(given),
        ),
    }
    for name, (ours, compute) in pairs.items():
        assert ours == pytest.approx(theirs(compute), rel=1e-9), name


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 1.0, 1.0]])
def test_ratios_are_none_where_they_are_not_defined(values: list[float]) -> None:
    gained = simple_returns(np.array(values))
    assert measures.sharpe_ratio(gained, YEAR) is None
    assert measures.sortino_ratio(gained, YEAR) is None
    assert measures.omega_ratio(gained) is None
    assert measures.skewness(gained) is None
    assert measures.kurtosis(gained) is None


@pytest.mark.parametrize(
    ("length", "name", "returns"),
    [(40 * DAY, "1d", 40), (3 * DAY, "1h", 72), (10 * MINUTE, "1m", 10), (40 * DAY + SECOND, "1d", 41)],
)
def test_grid_is_the_coarsest_that_gives_thirty_returns(length: int, name: str, returns: int) -> None:
    grid = choose_grid(START, START + length)
    assert (grid.name, len(grid.times) - 1) == (name, returns)
    assert (grid.times[0], grid.times[-1]) == (START, START + length)


def test_equity_is_sampled_where_it_stands_at_each_time_of_the_grid() -> None:
    times, equity, _ = a_curve((0, "100"), (30, "101"), (90, "99"), (200, "105")).within(START, START + 240 * SECOND)
    at = choose_grid(START, START + 240 * SECOND).times
    assert sample(times, equity, at).tolist() == [100, 101, 99, 99, 105]


def test_time_without_any_change_counts_in_the_period() -> None:
    times, equity, _ = a_curve((-50, "90"), (-5, "100"), (30, "101")).within(START, START + 240 * SECOND)
    assert times.tolist() == [START, START + 30 * SECOND, START + 240 * SECOND]
    assert (equity / 1e8).tolist() == [100, 101, 101]


def test_drawdown_is_the_deepest_fall_and_the_longest_time_below_a_peak() -> None:
    found = find_drawdown(np.arange(7) * SECOND, np.array([100.0, 120.0, 90.0, 110.0, 130.0, 104.0, 110.0]))
    assert found.share == pytest.approx(0.25)
    assert found.amount == 30
    assert found.longest_ns == 3 * SECOND
