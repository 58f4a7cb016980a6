from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.events import Event, Unhandleable
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast, ModelRole
from services.inference.core import InferenceCore, ManifestError, ScoredModel, Scores
from services.inference.core.inference import ModelInputs
from tests.unit.inference.builders import BTC, HASH, MINUTE, START, a_manifest, a_model, a_promotion, a_vector

NAN = float("nan")


def the_forecast(events: Sequence[Any]) -> Forecast:
    (forecast,) = events
    assert isinstance(forecast, Forecast)
    return forecast


def a_recorder(seen: list[npt.NDArray[np.float32]]) -> ScoredModel:
    def score(inputs: npt.NDArray[np.float32]) -> Scores:
        seen.append(inputs.copy())
        return Scores(0.2, 0.2, 0.6)

    return a_model(score=score)


def test_live_vector_gives_one_forecast_that_names_model_and_vector() -> None:
    core = InferenceCore([a_model()])
    forecast = the_forecast(core.handle(a_vector(1)))
    assert forecast.event_id == f"{BTC}/1m/{START}/{HASH[:12]}/{a_manifest().model_id}"
    assert forecast.vector_id == a_vector(1).event_id
    assert (forecast.model_name, forecast.model_version, forecast.model_sha256) == (
        "toy",
        a_manifest().version,
        "0" * 64,
    )
    assert (forecast.event_time, forecast.horizon_ns) == (START + MINUTE, 5 * MINUTE)
    assert forecast.expected_return_bps == 1.5
    assert forecast.reference_price_e8 == a_vector(1).reference_price_e8


def test_history_fills_the_window_and_gives_no_forecast() -> None:
    seen: list[npt.NDArray[np.float32]] = []
    core = InferenceCore([a_recorder(seen)])
    for minute in (1, 2):
        assert core.handle(a_vector(minute, (minute, 0, minute * 10), is_history=True)) == []
    forecast = the_forecast(core.handle(a_vector(3, (3, 0, 30))))
    assert np.array_equal(seen[0], np.array([[[1, 10], [2, 20], [3, 30]]], dtype=np.float32))
    assert seen[0].dtype == np.float32
    assert forecast.coverage == 1.0


def test_confidence_is_the_excess_over_uniform_times_coverage() -> None:
    core = InferenceCore([a_model()])
    for minute in (1, 2):
        core.handle(a_vector(minute, is_history=True))
    forecast = the_forecast(core.handle(a_vector(3, (NAN, 1.0, 1.0))))
    assert forecast.coverage == pytest.approx(5 / 6)
    assert forecast.confidence == pytest.approx((0.6 - 1 / 3) / (2 / 3) * 5 / 6)


def test_unknown_inputs_and_rows_before_the_first_are_nan() -> None:
    seen: list[npt.NDArray[np.float32]] = []
    core = InferenceCore([a_recorder(seen)])
    forecast = the_forecast(core.handle(a_vector(1, (NAN, 0.0, float("inf")))))
    assert np.array_equal(seen[0], [[[NAN, NAN], [NAN, NAN], [NAN, NAN]]], equal_nan=True)
    assert (forecast.coverage, forecast.confidence) == (0.0, 0.0)


def test_missing_bars_are_unknown_rows() -> None:
    seen: list[npt.NDArray[np.float32]] = []
    core = InferenceCore([a_recorder(seen)])
    core.handle(a_vector(1, (5, 0, 5), is_history=True))
    forecast = the_forecast(core.handle(a_vector(3, (7, 0, 7))))
    assert np.array_equal(seen[0][0], np.array([[5, 5], [NAN, NAN], [7, 7]]), equal_nan=True)
    assert forecast.coverage == pytest.approx(4 / 6)
    forecast = the_forecast(core.handle(a_vector(1000)))
    assert forecast.coverage == pytest.approx(2 / 6)


def test_vector_not_newer_than_the_last_changes_nothing() -> None:
    core = InferenceCore([a_model()])
    core.handle(a_vector(5))
    before = core.snapshot()
    assert core.handle(a_vector(5)) == []
    assert core.handle(a_vector(4)) == []
    assert core.snapshot() == before


def test_champion_answers_first_then_the_shadows() -> None:
    shadow = a_model(a_manifest("other", window=5, indices=(1,)), role=ModelRole.SHADOW)
    core = InferenceCore([shadow, a_model()])
    forecasts = core.handle(a_vector(1))
    assert [(one.model_name, one.role) for one in forecasts if isinstance(one, Forecast)] == [
        ("toy", ModelRole.CHAMPION),
        ("other", ModelRole.SHADOW),
    ]


def test_instruments_keep_windows_of_their_own() -> None:
    seen: list[npt.NDArray[np.float32]] = []
    core = InferenceCore([a_recorder(seen)])
    core.handle(a_vector(1, (5, 0, 5), instrument="ETHUSDT.BINANCE"))
    core.handle(a_vector(2, (3, 0, 3)))
    assert np.array_equal(seen[1][0], np.array([[NAN, NAN], [NAN, NAN], [3, 3]]), equal_nan=True)


def test_vector_of_another_schema_is_unhandleable_naming_both_hashes() -> None:
    core = InferenceCore([a_model()])
    other = "cd" * 32
    with pytest.raises(Unhandleable, match=f"(?s){other}.*{HASH}"):
        core.handle(a_vector(1, schema_hash=other))


def test_vector_of_the_wrong_width_is_unhandleable() -> None:
    core = InferenceCore([a_model()])
    with pytest.raises(Unhandleable, match="has 2 values, expected 3"):
        core.handle(a_vector(1, (1.0, 2.0)))
    core.handle(a_vector(1))
    with pytest.raises(Unhandleable, match="has 4 values, expected 3"):
        core.handle(a_vector(2, (1.0, 2.0, 3.0, 4.0)))


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ([a_model(), a_model(a_manifest("b"))], "one champion at most"),
        ([a_model(), a_model(role=ModelRole.SHADOW)], "listed twice"),
        ([a_model(replace(a_manifest(), timeframe="2m"))], "timeframe is '2m'"),
    ],
)
def test_models_that_do_not_go_together_are_refused(models: list[ScoredModel], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        InferenceCore(models)


def test_answer_that_is_no_probability_stops_the_service() -> None:
    core = InferenceCore([a_model(score=lambda _: Scores(NAN, 0.5, 0.5))])
    with pytest.raises(ArithmeticError, match="model toy-"):
        core.handle(a_vector(1))


def test_windows_of_other_features_are_not_taken_over() -> None:
    first = InferenceCore([a_model()])
    first.handle(a_vector(1))
    kept = first.snapshot()
    with pytest.raises(ValueError, match="start a new session"):
        InferenceCore([a_model(a_manifest(schema_hash="cd" * 32))]).restore(kept)


def test_a_state_of_the_version_before_is_gone_on_from() -> None:
    rows = np.array([[1.0, 0.0, 10.0], [2.0, 0.0, 20.0], [NAN, 0.0, 30.0]])
    body = {
        "schema_hash": HASH,
        "windows": {BTC: {"last_time": START + 3 * MINUTE, "rows": {"dtype": "<f8", "shape": [3, 3], "at": 0}}},
    }
    kept = orjson.dumps({"name": "inference", "version": 1, "state": body}) + b"\n" + rows.tobytes()
    seen: list[npt.NDArray[np.float32]] = []
    core = InferenceCore([a_recorder(seen)])
    core.restore(kept)
    assert core.handle(a_vector(3)) == []
    assert the_forecast(core.handle(a_vector(4, (4, 0, 40)))).role is ModelRole.CHAMPION
    assert np.array_equal(seen[0], np.array([[[2, 20], [NAN, 30], [4, 40]]], dtype=np.float32), equal_nan=True)


def test_deeper_model_takes_over_the_window_and_leaves_the_rest_unknown() -> None:
    first = InferenceCore([a_model()])
    for minute in (1, 2, 3):
        first.handle(a_vector(minute, is_history=True))
    deeper = InferenceCore([a_model(a_manifest(window=5))])
    deeper.restore(first.snapshot())
    assert the_forecast(deeper.handle(a_vector(4))).coverage == pytest.approx(4 / 5)


@pytest.mark.slow
@given(
    rows=st.lists(st.tuples(st.integers(1, 3), st.floats(-50, 50) | st.just(NAN), st.booleans()), max_size=25),
    cut=st.integers(0, 25),
)
def test_restored_core_goes_on_as_if_never_interrupted(rows: list[tuple[int, float, bool]], cut: int) -> None:
    def score(inputs: npt.NDArray[np.float32]) -> Scores:
        up = 1.0 / (1.0 + float(np.exp(-np.clip(np.nansum(inputs.astype(np.float64)), -30, 30))))
        return Scores((1 - up) / 2, (1 - up) / 2, up)

    vectors: list[FeatureVector] = []
    minute = 0
    for step, value, is_history in rows:
        minute += step
        vectors.append(a_vector(minute, (value, 0.0, 1.0), is_history=is_history))
    whole, first, second = (InferenceCore([a_model(score=score)]) for _ in range(3))
    expected: list[Event] = [out for vector in vectors for out in whole.handle(vector)]
    got: list[Event] = [out for vector in vectors[:cut] for out in first.handle(vector)]
    second.restore(first.snapshot())
    got += [out for vector in vectors[cut:] for out in second.handle(vector)]
    assert got == expected
    assert second.snapshot() == whole.snapshot()


def test_what_single_precision_cannot_hold_is_unknown() -> None:
    seen: list[npt.NDArray[np.float32]] = []
    core = InferenceCore([replace(a_recorder(seen), manifest=a_manifest(window=1, indices=(0, 1, 2, 3)))])
    for minute in (1, 2):
        forecast = the_forecast(core.handle(a_vector(minute, (1e300, -1e300, NAN, 1.5))))
        assert np.array_equal(seen[-1], [[[NAN, NAN, NAN, 1.5]]], equal_nan=True)
        assert forecast.coverage == 0.25


@pytest.mark.parametrize("window", [1, 3, 70, 200])
def test_windows_move_on_row_by_row_as_if_cut_from_all_rows(window: int) -> None:
    rows = np.random.default_rng(1).normal(size=(window + 300, 5))
    rows[np.random.default_rng(2).random(rows.shape) < 0.1] = NAN
    places = np.array([3, 0, 4])
    inputs = ModelInputs(places, rows[:window].astype(np.float32))
    for end in range(window + 1, len(rows) + 1):
        inputs.append(rows[end - 1].astype(np.float32))
        expected = rows[end - window : end, places].astype(np.float32)
        assert np.array_equal(inputs.values, expected[np.newaxis], equal_nan=True)
        assert inputs.coverage == np.isfinite(expected).mean()


def test_the_forecast_of_a_bar_that_lacks_trades_says_so() -> None:
    core = InferenceCore([a_model()])
    vectors = [replace(a_vector(0), is_incomplete=True), a_vector(1)]
    assert [forecast.is_incomplete for vector in vectors for forecast in core.handle(vector)] == [True, False]


OTHER = a_manifest("other")


def a_pair() -> InferenceCore:
    return InferenceCore([a_model(), a_model(OTHER, role=ModelRole.SHADOW)])


def champions(events: Sequence[Any]) -> list[str]:
    return [one.model_name for one in events if one.role is ModelRole.CHAMPION]


def test_models_of_two_timeframes_read_each_its_own_vectors() -> None:
    hourly = a_manifest("hourly", schema_hash="cd" * 32, timeframe="1h", window=2)
    core = InferenceCore([a_model(), a_model(hourly, role=ModelRole.SHADOW)])
    assert the_forecast(core.handle(a_vector(1))).model_name == "toy"
    forecast = the_forecast(core.handle(a_vector(60, schema_hash="cd" * 32, timeframe="1h")))
    assert (forecast.model_name, forecast.role) == ("hourly", ModelRole.SHADOW)
    assert forecast.coverage == 0.5
    # An hour on is the next row of the hourly window, not sixty on.
    later = the_forecast(core.handle(a_vector(120, schema_hash="cd" * 32, timeframe="1h")))
    assert later.coverage == 1.0


def test_vector_that_no_model_reads_changes_nothing() -> None:
    core = a_pair()
    before = core.snapshot()
    assert core.handle(a_vector(5, schema_hash="cd" * 32, timeframe="5m")) == []
    assert core.snapshot() == before


def test_without_models_there_are_no_forecasts() -> None:
    assert InferenceCore([]).handle(a_vector(1)) == []


def test_promotion_swaps_the_roles_between_two_vectors_and_misses_none() -> None:
    core = a_pair()
    assert champions(core.handle(a_vector(1))) == ["toy"]
    assert core.handle(a_promotion(1, OTHER.reference)) == []
    forecasts = core.handle(a_vector(2))
    assert [(one.model_name, one.role) for one in forecasts if isinstance(one, Forecast)] == [
        ("other", ModelRole.CHAMPION),
        ("toy", ModelRole.SHADOW),
    ]


def test_rollback_brings_back_the_champion_before_and_only_as_far_as_there_is_one() -> None:
    core = a_pair()
    core.handle(a_promotion(1, OTHER.reference))
    core.handle(a_promotion(2, "previous"))
    assert champions(core.handle(a_vector(1))) == ["toy"]
    with pytest.raises(Unhandleable, match="no model was promoted before"):
        core.handle(a_promotion(3, "previous"))


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (a_promotion(1, "absent/0123456789abcdef"), "which does not run here; there are other/.*, toy/"),
        (a_promotion(1, OTHER.reference, account="paper"), "address it to"),
    ],
)
def test_promotion_that_cannot_be_obeyed_is_unhandleable_and_changes_nothing(command: Any, message: str) -> None:
    core = a_pair()
    before = core.snapshot()
    with pytest.raises(Unhandleable, match=message):
        core.handle(command)
    assert core.snapshot() == before


def test_shadow_without_a_champion_is_scored_and_may_become_the_first() -> None:
    core = InferenceCore([a_model(OTHER, role=ModelRole.SHADOW)])
    assert the_forecast(core.handle(a_vector(1))).role is ModelRole.SHADOW
    core.handle(a_promotion(1, OTHER.reference))
    assert champions(core.handle(a_vector(2))) == ["other"]


def test_promotion_outlives_a_restart() -> None:
    core, again = a_pair(), a_pair()
    core.handle(a_promotion(1, OTHER.reference))
    again.restore(core.snapshot())
    assert champions(again.handle(a_vector(1))) == ["other"]


def test_settings_that_name_another_champion_than_before_are_obeyed_over_older_promotions() -> None:
    core = a_pair()
    core.handle(a_promotion(1, OTHER.reference))
    third = a_manifest("third")
    again = InferenceCore([a_model(third), a_model(role=ModelRole.SHADOW), a_model(OTHER, role=ModelRole.SHADOW)])
    again.restore(core.snapshot())
    assert champions(again.handle(a_vector(1))) == ["third"]


def test_windows_stay_whole_where_their_room_is_used_up() -> None:
    rng = np.random.default_rng(4)
    seen: list[npt.NDArray[np.float32]] = []
    core = InferenceCore([a_recorder(seen)])
    minute, expected = 0, [(NAN, NAN)] * 3
    for number in range(300):
        step = int(rng.choice([1, 1, 1, 2, 5]))
        minute += step
        expected = [*expected, *[(NAN, NAN)] * (step - 1), (float(number), -float(number))][-3:]
        forecast = the_forecast(core.handle(a_vector(minute, (float(number), 0.0, -float(number)))))
        assert np.array_equal(seen[-1][0], np.array(expected, dtype=np.float32), equal_nan=True)
        assert forecast.coverage == np.isfinite(expected).mean()
        if number in (63, 64, 65, 200):
            again = InferenceCore([a_recorder(seen)])
            again.restore(core.snapshot())
            assert again.snapshot() == core.snapshot()
            core = again
