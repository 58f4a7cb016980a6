"""Weights across instruments: against closed forms where there are some, and by name where the input is bad."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from libs.domain.instruments import INSTRUMENTS
from libs.portfolio.allocation import Allocation, AllocationError, AllocationMethod, View, allocate, view_of_forecast
from services.console.risk_commands import risk_app

NAMES = ("BTC", "ETH", "SOL")


@pytest.fixture(scope="module", autouse=True)
def optimiser() -> None:
    """Load it when a test runs, not when tests are listed: it takes as long as everything else in this room."""
    pytest.importorskip("pypfopt", reason="needs the extra `allocation`")


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


@pytest.mark.slow
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
    for view, expected_return, confidence in (
        (view_of_forecast(0.6, 0.2, 0.01, 0.4), 0.004, 0.4),
        (view_of_forecast(0.2, 0.6, 0.01, 0.0), -0.004, 1e-3),
    ):
        assert (view.expected_return, view.confidence) == (pytest.approx(expected_return), confidence)


@pytest.mark.parametrize(
    ("returns", "options", "message"),
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
def test_impossible_inputs_are_refused_by_name(returns: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(AllocationError) as refusal:
        allocate(some_returns() if returns is None else returns, AllocationMethod.BLACK_LITTERMAN, **options)
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    "values", [(1.1, 0.2, 0.01, 0.4), (0.6, -0.1, 0.01, 0.4), (0.6, 0.2, 0.0, 0.4), (0.6, 0.2, 0.01, 1.5)]
)
def test_impossible_forecasts_are_refused(values: tuple[float, float, float, float]) -> None:
    with pytest.raises(AllocationError, match="must"):
        view_of_forecast(*values)


# `perpflow risk allocate`.


def call(*words: str) -> Result:
    return CliRunner().invoke(risk_app, ["allocate", *words], terminal_width=200)


def write_closes(folder: Path, volatilities: tuple[float, ...] = (0.02, 0.03)) -> list[str]:
    """Files of closing prices by the names of instruments that perpflow knows, as options."""
    options: list[str] = []
    for name, start, series in zip(
        ("BTCUSDT", "ETHUSDT"), (60_000.0, 2_000.0), some_returns(volatilities).values(), strict=True
    ):
        path = folder / f"{name}.txt"
        path.write_text("\n".join(repr(float(price)) for price in start * np.cumprod([1.0, *(1 + np.array(series))])))
        options += ["--closes", f"{name}={path}"]
    return options


@pytest.mark.parametrize("method", ["min_variance", "risk_parity", "mean_variance"])
def test_command_divides_the_equity_by_the_weights_and_rounds_to_what_the_venue_takes(
    tmp_path: Path, method: str
) -> None:
    result = call(*write_closes(tmp_path), "--method", method, "--equity", "20000", "--leverage", "2", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["method"] == method and answer["periods"] == 600
    targets = answer["targets"]
    assert math.isclose(sum(float(row["weight"]) for row in targets.values()), 1.0, abs_tol=1e-9)
    for name, row in targets.items():
        rules = next(entry for entry in INSTRUMENTS.values() if entry.symbol == name)
        assert Decimal(row["quantity"]) % rules.step_size == 0
        asked = 40_000 * float(row["weight"])
        assert asked * 0.9 <= float(row["notional"]) <= asked + 1e-6


def test_command_gives_strategies_a_notional_and_a_view_moves_the_weights(tmp_path: Path) -> None:
    first, second = (option.partition("=")[2] for option in write_closes(tmp_path)[1::2])
    names = ["--closes", f"trend={first}", "--closes", f"carry={second}", "--method", "black_litterman", "--json"]
    weights = []
    for view in ("carry=-0.01:0.9", "carry=0.01:0.9"):
        targets = json.loads(call(*names, "--view", view).stdout)["targets"]
        assert targets["trend"]["quantity"] is None
        weights.append(float(targets["carry"]["weight"]))
    assert weights[0] < weights[1]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--method", "equal"), "--method: 'equal' must be min_variance"),
        (("--closes", "BTCUSDT"), "'BTCUSDT' is not NAME=FILE"),
        (("--closes", "ETHUSDT=other.txt"), "ETHUSDT is given twice"),
        (("--closes", "SOLUSDT=missing.txt"), "missing.txt cannot be read"),
        (("--method", "black_litterman", "--view", "ETHUSDT=up"), "is not NAME=RETURN:CONFIDENCE"),
        (("--method", "black_litterman"), "views: there are none"),
        (("--max-weight", "0.1", "--method", "min_variance"), "max_weight: 0.1 must lie between"),
        (("--equity", "much"), "--equity"),
    ],
)
def test_command_refuses_bad_input_in_one_line(tmp_path: Path, words: tuple[str, ...], error: str) -> None:
    result = call(*write_closes(tmp_path), *words)
    assert result.exit_code == 2 and error in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1 and result.stdout == ""
