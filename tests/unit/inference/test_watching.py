from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from libs.clock import SimulatedClock
from services.inference.core import Scores
from services.inference.watching import INPUT_DRIFT, MODEL_SECONDS, InputDrift, watch
from tests.unit.inference.builders import a_manifest

CHANCE = np.random.default_rng(1)
DECILES = np.quantile(CHANCE.normal(size=(2, 20_000)), np.arange(1, 10) / 10, axis=1).T


def drift_of(values: np.ndarray, deciles: np.ndarray = DECILES) -> tuple[np.ndarray, np.ndarray]:
    drift = InputDrift(deciles)
    for row in values.astype(np.float32):
        drift.add(row)
    return drift.measure()


def test_inputs_like_those_trained_on_have_not_moved() -> None:
    psi, distance = drift_of(CHANCE.normal(size=(1_400, 2)))
    assert (psi < 0.05).all()
    assert (distance < 0.05).all()


def test_input_that_moved_is_told_from_one_that_did_not() -> None:
    values = CHANCE.normal(size=(1_400, 2))
    values[:, 1] += 1.0
    psi, distance = drift_of(values)
    assert psi[0] < 0.05 < 0.25 < psi[1]
    # A shift by one deviation: the largest gap between the two normal distributions is 0.383, at the middle.
    assert distance[1] == pytest.approx(0.383, abs=0.03)


def test_input_of_few_values_has_not_moved_by_that_alone() -> None:
    flags = (CHANCE.random(20_000) < 0.7).astype(float)
    deciles = np.quantile(flags, np.arange(1, 10) / 10)[np.newaxis, :]
    psi, distance = drift_of((CHANCE.random((1_400, 1)) < 0.7).astype(float), deciles)
    assert psi[0] < 0.02
    assert distance[0] < 0.05


def test_only_the_last_vectors_count_and_unknown_ones_never() -> None:
    drift = InputDrift(DECILES, remembered=300)
    for row in CHANCE.normal(size=(400, 2)).astype(np.float32) + 5:
        drift.add(row)
    for row in CHANCE.normal(size=(300, 2)).astype(np.float32):
        drift.add(row)
    assert (drift.measure()[0] < 0.2).all()
    for _ in range(300):
        drift.add(np.array([np.nan, 0.0], dtype=np.float32))
    assert np.isnan(drift.measure()[1][0])


def test_watched_model_answers_the_same_and_shows_its_time_and_drift() -> None:
    manifest = replace(a_manifest("watched"), onnx_sha256="1" * 64)
    clock = SimulatedClock(0)

    def score(_inputs: np.ndarray) -> Scores:
        clock.advance(0.003)
        return Scores(0.2, 0.2, 0.6, 1.5)

    watched = watch(manifest, score, clock)
    window = np.full((1, 3, 2), 100.0, dtype=np.float32)
    assert [watched(window) for _ in range(1_250)] == [Scores(0.2, 0.2, 0.6, 1.5)] * 1_250
    (seconds,) = MODEL_SECONDS.collect()
    own = [one for one in seconds.samples if one.labels["model"] == manifest.model_id]
    samples = {one.name.removeprefix("perpflow_model_seconds_"): one.value for one in own if "le" not in one.labels}
    assert samples["count"] == 1_250
    assert samples["sum"] == pytest.approx(3.75)
    buckets = {one.labels["le"]: one.value for one in own if "le" in one.labels}
    assert (buckets["0.002"], buckets["0.005"]) == (0, 1_250)
    indices, _ = INPUT_DRIFT.collect()
    shown = {(one.labels["model"], one.labels["input"]): one.value for one in indices.samples}
    assert shown[manifest.model_id, "feature_0"] > 0.25
