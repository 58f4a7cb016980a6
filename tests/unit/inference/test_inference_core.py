from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.events import Event, Unhandleable
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast, ModelRole
from services.inference.core import InferenceCore, ManifestError, ScoredModel, Scores
from services.inference.core.inference import normalise
from tests.unit.inference.builders import BTC, HASH, MINUTE, START, a_manifest, a_model, a_vector

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
    assert forecast.event_id == f"{BTC}/1m/{START}/{HASH[:12]}/toy-1"
    assert forecast.vector_id == a_vector(1).event_id
    assert (forecast.model_name, forecast.model_version, forecast.model_sha256) == ("toy", "1", "0" * 64)
    assert (forecast.event_time, forecast.horizon_ns) == (START + MINUTE, 5 * MINUTE)
    assert forecast.expected_return_bps == 1.5
    assert forecast.reference_price_e8 == a_vector(1).reference_price_e8


def test_history_fills_the_window_and_gives_no_forecast() -> None:
    seen: list[npt.NDArray[np.float32]] = []
    core = InferenceCore([a_recorder(seen)])
    for minute in (1, 2):
        assert core.handle(a_vector(minute, (minute, 0, minute * 10), is_history=True)) == []
    forecast = the_forecast(core.handle(a_vector(3, (3, 0, 30))))
    expected = (np.array([[1, 10], [2, 20], [3, 30]]) - 1.0) / 2.0
    assert np.array_equal(seen[0], expected.clip(-8, 8)[np.newaxis].astype(np.float32))
    assert seen[0].dtype == np.float32
    assert forecast.coverage == 1.0


def test_confidence_is_the_excess_over_uniform_times_coverage() -> None:
    core = InferenceCore([a_model()])
    for minute in (1, 2):
        core.handle(a_vector(minute, is_history=True))
    forecast = the_forecast(core.handle(a_vector(3, (NAN, 1.0, 1.0))))
    assert forecast.coverage == pytest.approx(5 / 6)
    assert forecast.confidence == pytest.approx((0.6 - 1 / 3) / (2 / 3) * 5 / 6)


def test_unknown_inputs_and_rows_before_the_first_become_the_training_mean() -> None:
    seen: list[npt.NDArray[np.float32]] = []
    core = InferenceCore([a_recorder(seen)])
    forecast = the_forecast(core.handle(a_vector(1, (NAN, 0.0, float("inf")))))
    assert np.array_equal(seen[0], np.zeros((1, 3, 2), dtype=np.float32))
    assert (forecast.coverage, forecast.confidence) == (0.0, 0.0)


def test_missing_bars_are_unknown_rows() -> None:
    seen: list[npt.NDArray[np.float32]] = []
    core = InferenceCore([a_recorder(seen)])
    core.handle(a_vector(1, (5, 0, 5), is_history=True))
    forecast = the_forecast(core.handle(a_vector(3, (7, 0, 7))))
    assert np.array_equal(seen[0][0], np.array([[2, 2], [0, 0], [3, 3]], dtype=np.float32))
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
    assert np.array_equal(seen[1][0], np.array([[0, 0], [0, 0], [1, 1]], dtype=np.float32))


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
        ([], "no model was given"),
        ([a_model(role=ModelRole.SHADOW)], "exactly one champion is needed, got none"),
        ([a_model(), a_model(a_manifest("b"))], "exactly one champion is needed"),
        ([a_model(), a_model(role=ModelRole.SHADOW)], "listed twice"),
        ([a_model(), a_model(a_manifest("b", schema_hash="cd" * 32), role=ModelRole.SHADOW)], "one feature set"),
        ([a_model(replace(a_manifest(), timeframe="2m"))], "timeframe is '2m'"),
    ],
)
def test_models_that_do_not_go_together_are_refused(models: list[ScoredModel], message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        InferenceCore(models)


def test_answer_that_is_no_probability_stops_the_service() -> None:
    core = InferenceCore([a_model(score=lambda _: Scores(NAN, 0.5, 0.5))])
    with pytest.raises(ArithmeticError, match="toy-1"):
        core.handle(a_vector(1))


def test_windows_of_other_features_are_not_taken_over() -> None:
    kept = InferenceCore([a_model()]).snapshot()
    with pytest.raises(ValueError, match="start a new session"):
        InferenceCore([a_model(a_manifest(schema_hash="cd" * 32))]).restore(kept)


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
        up = 1.0 / (1.0 + float(np.exp(-np.clip(inputs.astype(np.float64).sum(), -30, 30))))
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


def test_normalised_values_are_clipped() -> None:
    scaled, coverage = normalise(np.array([[100.0, -100.0, NAN, 1.5]]), np.zeros(4), np.ones(4), 3.0)
    assert scaled.tolist() == [[3.0, -3.0, 0.0, 1.5]]
    assert coverage == 0.75


def test_the_forecast_of_a_bar_that_lacks_trades_says_so() -> None:
    core = InferenceCore([a_model()])
    vectors = [replace(a_vector(0), is_incomplete=True), a_vector(1)]
    assert [forecast.is_incomplete for vector in vectors for forecast in core.handle(vector)] == [True, False]
