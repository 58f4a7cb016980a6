from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal

import pytest

from services.strategy.core.forecast_threshold import ForecastThreshold
from services.strategy.core.strategy import AccountView
from tests.unit.strategy.builders import a_bar, a_forecast

VIEW = AccountView("paper", None, None, {})


def test_confident_forecast_is_taken_at_full_size() -> None:
    (target,) = ForecastThreshold().on_forecast(a_forecast(1, up=0.6, down=0.1, confidence=0.4), VIEW)
    assert target.notional_usdt == Decimal(500)
    assert target.confidence == 0.4


def test_size_follows_confidence_below_full_size() -> None:
    (target,) = ForecastThreshold().on_forecast(a_forecast(1, up=0.1, down=0.45, confidence=0.125), VIEW)
    assert target.notional_usdt == Decimal("-250.00")


@pytest.mark.parametrize(
    "forecast",
    [
        a_forecast(1, up=0.39, down=0.3, confidence=0.5),
        a_forecast(1, up=0.6, down=0.1, confidence=0.09),
        a_forecast(1, up=0.45, down=0.45, confidence=0.5),
    ],
    ids=["improbable", "unsure", "undecided"],
)
def test_weak_forecast_is_not_traded(forecast: object) -> None:
    assert list(ForecastThreshold().on_forecast(forecast, VIEW)) == []  # type: ignore[arg-type]


@pytest.mark.parametrize(("expected_bps", "is_traded"), [(9.1, True), (9.0, False), (-20.0, False), (None, False)])
def test_with_costs_only_an_expected_return_above_them_is_traded(expected_bps: float | None, is_traded: bool) -> None:
    strategy = ForecastThreshold(round_trip_bps=9.0)
    forecast = replace(a_forecast(1, up=0.6, down=0.1, confidence=0.5), expected_return_bps=expected_bps)
    assert bool(strategy.on_forecast(forecast, VIEW)) is is_traded
    if not is_traded:
        assert "does not beat round_trip_bps 9.0" in strategy.explain(a_bar(1), forecast)


def test_thresholds_are_inclusive() -> None:
    assert len(ForecastThreshold().on_forecast(a_forecast(1, up=0.40, down=0.3, confidence=0.10), VIEW)) == 1


def test_opposite_forecast_turns_the_position() -> None:
    strategy = ForecastThreshold()
    strategy.on_forecast(a_forecast(1), VIEW)
    (target,) = strategy.on_forecast(a_forecast(2, up=0.1, down=0.6), VIEW)
    assert target.notional_usdt == Decimal(-500)


def test_neutral_forecast_closes_only_below_the_exit_probability() -> None:
    strategy = ForecastThreshold()
    strategy.on_forecast(a_forecast(1), VIEW)
    assert list(strategy.on_forecast(a_forecast(2, up=0.37, down=0.3, confidence=0.05), VIEW)) == []
    (target,) = strategy.on_forecast(a_forecast(3, up=0.35, down=0.3, confidence=0.05), VIEW)
    assert target.notional_usdt == 0


def test_position_is_left_when_the_horizon_has_passed_without_a_new_word_for_it() -> None:
    strategy = ForecastThreshold()
    strategy.on_forecast(a_forecast(1), VIEW)
    strategy.on_forecast(a_forecast(2), VIEW)
    assert list(strategy.on_bar(a_bar(6), VIEW)) == []
    (target,) = strategy.on_bar(a_bar(7), VIEW)
    assert target.notional_usdt == 0
    assert list(strategy.on_bar(a_bar(8), VIEW)) == []


def test_state_survives_json() -> None:
    first, second = ForecastThreshold(), ForecastThreshold()
    first.on_forecast(a_forecast(1), VIEW)
    second.restore(json.loads(json.dumps(first.snapshot())))
    assert second.snapshot() == first.snapshot()
    assert len(second.on_bar(a_bar(6), VIEW)) == 1


def test_saved_state_of_an_older_build_is_refused() -> None:
    with pytest.raises(ValueError, match="has no held"):
        ForecastThreshold().restore({"BTCUSDT.BINANCE": "long"})


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"enter_probability": 1.2}, "enter_probability is 1.2"),
        ({"full_size_confidence": 0.0}, "full_size_confidence is 0"),
        ({"exit_probability": 0.5}, "must not be above enter_probability"),
        ({"min_confidence": "high"}, "min_confidence is 'high'"),
        ({"notional_usdt": "NaN"}, "notional_usdt is 'NaN'"),
    ],
)
def test_bad_parameter_is_named(parameters: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForecastThreshold(**parameters)
