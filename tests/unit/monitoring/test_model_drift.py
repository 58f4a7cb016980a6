"""ADWIN as river has it, and what it says of models' predictions and calibration."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from services.monitoring.model_drift import Adwin, ModelDriftCollector, ModelDriftWatch
from tests.unit.monitoring import builders as make
from tests.unit.monitoring.builders import MINUTE, START

# What river 0.26.1's ADWIN found in these streams, by its defaults.
FOUND_BY_RIVER = {0: [3871], 1: [1727], 2: [1983], 3: [1983, 3135], 4: [3615], 5: []}


def a_stream(seed: int) -> Iterator[float]:
    chance = random.Random(seed)
    level = (0.5, 0.62, 0.62, 0.4, 0.45)[seed % 5]
    for number in range(4000):
        share = 0.5 if number < 1500 else (level if number < 3000 else 0.7 - level / 4)
        yield (1.0 if chance.random() < share else 0.0) - (0.5 if seed % 2 else chance.random() * 0.3)


@pytest.mark.parametrize("seed", FOUND_BY_RIVER)
def test_changes_are_found_where_river_finds_them(seed: int) -> None:
    window = Adwin()
    assert [at for at, value in enumerate(a_stream(seed)) if window.update(value)] == FOUND_BY_RIVER[seed]


def test_the_window_knows_its_mean_and_begins_anew_after_a_change() -> None:
    window = Adwin()
    for value in (0.0, 1.0) * 40:
        window.update(value)
    assert (window.width, window.mean) == (80, 0.5)
    assert any(window.update(1.0) for _ in range(100))
    assert window.width < 100


def a_watch(
    minutes: int, up: float, rises: bool, first: int = 0, watch: ModelDriftWatch | None = None
) -> ModelDriftWatch:
    """Have a model say the same each minute of a price that rises or falls over each horizon."""
    watch = watch or ModelDriftWatch()
    for minute in range(first, first + minutes):
        watch.see_forecast(make.a_forecast(minute, down=1.0 - up, flat=0.0, horizon_ns=MINUTE))
        close = make.e8(61_900.0 if rises else 61_700.0)
        watch.see_bar(make.a_bar(minute, close_e8=close, close_time=START + (minute + 1) * MINUTE))
    return watch


def test_a_model_that_turns_has_drifted_in_its_predictions() -> None:
    watch = a_watch(300, 0.7, rises=True)
    assert watch.rows()[0].drifts == {"predictions": 0, "calibration": 0}
    (row,) = a_watch(300, 0.2, rises=True, first=300, watch=watch).rows()
    assert row.drifts["predictions"] >= 1
    assert row.means["predictions"] == pytest.approx(0.2, abs=0.1)


def test_a_model_that_no_longer_comes_true_has_drifted_in_its_calibration_alone() -> None:
    watch = a_watch(300, 0.7, rises=True)
    assert watch.rows()[0].means["calibration"] == pytest.approx(0.3)
    (row,) = a_watch(300, 0.7, rises=False, first=300, watch=watch).rows()
    assert row.drifts["predictions"] == 0
    assert row.drifts["calibration"] >= 1
    assert row.means["calibration"] < 0


def test_a_forecast_comes_true_at_the_bar_that_ends_its_horizon_and_not_long_after() -> None:
    watch = ModelDriftWatch()
    watch.see_forecast(make.a_forecast(0, down=0.5, flat=0.0, horizon_ns=5 * MINUTE))
    watch.see_bar(make.a_bar(3, close_time=START + 4 * MINUTE))
    assert watch.rows()[0].means["calibration"] == 0.0
    watch.see_bar(make.a_bar(4, close_e8=make.e8(61_900.0), close_time=START + 5 * MINUTE))
    assert watch.rows()[0].means["calibration"] == 0.5
    watch.see_forecast(make.a_forecast(6, down=0.5, flat=0.0, horizon_ns=5 * MINUTE))
    watch.see_bar(make.a_bar(20, close_e8=make.e8(61_700.0), close_time=START + 21 * MINUTE))
    assert watch.rows()[0].means["calibration"] == 0.5


def test_a_repeated_forecast_and_one_that_sees_no_move_count_for_nothing() -> None:
    watch = ModelDriftWatch()
    for forecast in (make.a_forecast(1), make.a_forecast(1), make.a_forecast(2, down=0.0, flat=1.0)):
        watch.see_forecast(forecast)
    watch.see_bar(make.a_bar(15, close_e8=make.e8(61_900.0), close_time=START + 16 * MINUTE))
    assert watch.rows()[0].means["calibration"] == pytest.approx(1.0 - 0.5 / 0.7)


def test_drift_is_shown_as_metrics_by_model() -> None:
    drifts, means = ModelDriftCollector(a_watch(100, 0.7, rises=True).rows).collect()
    labels = {"model": "starter/1", "kind": "calibration"}
    assert [one.value for one in drifts.samples if one.labels == labels] == [0]
    assert [one.value for one in means.samples if one.labels == labels] == [pytest.approx(0.3)]
