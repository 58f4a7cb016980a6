from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from libs.domain.forecasts import ModelRole
from libs.indicators.feature_sets import load_feature_set
from services.inference.core import (
    InferenceCore,
    ManifestError,
    ScoredModel,
    encode_manifest,
)
from services.inference.onnx import STARTER_DIR, OnnxModel, find_model, load_model, load_models
from services.inference.shipped import STARTER_SHA256
from tests.kit.models import STARTER, add_model


def the_starter() -> ScoredModel:
    return load_model(STARTER_DIR, STARTER_SHA256, ModelRole.CHAMPION)


def test_starter_model_belongs_to_the_current_features() -> None:
    manifest = the_starter().manifest
    current = load_feature_set(manifest.feature_set, manifest.timeframe)
    assert manifest.schema_hash == current.schema_hash, (
        f"feature set {current.name} is {current.schema_hash[:12]} now, the starter model was trained on "
        f"{manifest.schema_hash[:12]}; rebuild it with: perpflow train-models --starter"
    )
    assert [current.names[one.index] for one in manifest.inputs] == [one.name for one in manifest.inputs]


def test_starter_model_is_pinned_in_the_code_that_ships_it() -> None:
    assert STARTER.bundle_sha256 == STARTER_SHA256


def test_starter_model_is_small_and_names_its_seed_and_data() -> None:
    assert (STARTER_DIR / "model.onnx").stat().st_size < 200_000
    assert isinstance(STARTER.training["seed"], int)
    assert STARTER.training["data"] == {
        "source": "simulated market",
        "seed": 20260101,
        "days": 30,
        "bars": 43_200,
    }
    assert "/" not in json.dumps(STARTER.training)


def test_starter_model_is_better_than_naive_on_what_it_had_not_seen() -> None:
    metrics: Any = STARTER.metrics
    assert metrics["model"]["auc"]["low"] > 0.5
    assert metrics["model"]["log_loss"]["value"] < metrics["beside"]["majority"]["log_loss"]["value"]


def test_equal_windows_give_equal_bits_in_every_session() -> None:
    one, other = the_starter(), the_starter()
    manifest = one.manifest
    windows = np.random.default_rng(5).normal(size=(20, 1, manifest.window, len(manifest.inputs))).astype(np.float32)
    for window in windows:
        scores = one.score(window)
        assert scores == other.score(window)
        assert scores.probability_down + scores.probability_flat + scores.probability_up == pytest.approx(1.0, abs=1e-5)
        assert scores.expected_return_bps is not None


def test_nothing_known_scores_as_the_training_mean() -> None:
    manifest = STARTER
    unknown = np.full((1, manifest.window, len(manifest.inputs)), np.nan, dtype=np.float32)
    scores = the_starter().score(unknown)
    assert 0.2 < scores.probability_flat < 0.5


def test_reference_pins_a_version_by_sixteen_digits_of_its_hash_or_all(tmp_path: Path) -> None:
    manifest = add_model(tmp_path, "mine")
    folder = tmp_path / "mine" / manifest.version
    assert find_model(tmp_path, "starter") == (STARTER_DIR, STARTER_SHA256)
    for version in (manifest.version, manifest.bundle_sha256):
        assert find_model(tmp_path, f"mine/{version}") == (folder, version)
        assert load_models(tmp_path, f"mine/{version}", ())[0].manifest == manifest


@pytest.mark.parametrize("reference", ["mine", "mine/", "mine/0123", "absent/xyz"])
def test_reference_that_pins_nothing_is_refused_naming_those_there_are(tmp_path: Path, reference: str) -> None:
    manifest = add_model(tmp_path, "mine")
    with pytest.raises(
        ManifestError, match=f"no model {reference!r}: write NAME/VERSION.*starter, {manifest.reference}"
    ):
        find_model(tmp_path, reference)


def test_unknown_model_is_refused_naming_those_there_are(tmp_path: Path) -> None:
    manifest = add_model(tmp_path, "mine")
    with pytest.raises(ManifestError, match=f"no model 'mine/0123456789abcdef' .*starter, {manifest.reference}"):
        find_model(tmp_path, "mine/0123456789abcdef")


@pytest.mark.parametrize("reference", ["", "/etc", "../secrets", "a/b/c"])
def test_reference_that_leaves_the_registry_is_refused(tmp_path: Path, reference: str) -> None:
    with pytest.raises(ManifestError, match="is not a model reference"):
        find_model(tmp_path, reference)


def test_graph_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    manifest = add_model(tmp_path, "mine")
    with (tmp_path / "mine" / manifest.version / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ManifestError, match=r"has sha256 .*restore it or train again"):
        load_models(tmp_path, manifest.reference, ())


def test_edited_manifest_is_refused_under_its_old_name_though_its_hashes_agree(tmp_path: Path) -> None:
    manifest = add_model(tmp_path, "mine")
    edited = replace(manifest, horizon_ns=manifest.horizon_ns * 12)
    (tmp_path / "mine" / manifest.version / "manifest.json").write_bytes(encode_manifest(edited))
    with pytest.raises(ManifestError, match=f"the model was named as {manifest.version}: it was edited"):
        load_models(tmp_path, manifest.reference, ())


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    manifest = add_model(tmp_path, "mine")
    (tmp_path / "mine" / manifest.version / "model.onnx").unlink()
    with pytest.raises(ManifestError, match=r"model\.onnx is missing; train the model again"):
        load_models(tmp_path, manifest.reference, ())


def test_manifest_of_another_shape_than_the_graph_is_refused(tmp_path: Path) -> None:
    manifest = add_model(tmp_path, "mine", window=STARTER.window + 1)
    with pytest.raises(ManifestError, match="its manifest says one input"):
        load_models(tmp_path, manifest.reference, ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_hash": "0" * 64}, r"000000000000.*train again: perpflow train-models"),
        ({"feature_set": "core_v0"}, "no feature set 'core_v0'"),
    ],
)
def test_model_of_features_that_moved_on_is_refused_at_start(
    tmp_path: Path, change: dict[str, str], message: str
) -> None:
    manifest = add_model(tmp_path, "mine", **change)
    with pytest.raises(ManifestError, match=message):
        load_models(tmp_path, manifest.reference, ())


def test_manifest_that_names_the_wrong_place_is_refused(tmp_path: Path) -> None:
    first = STARTER.inputs[0]
    manifest = add_model(tmp_path, "mine", inputs=(replace(first, index=first.index + 4), *STARTER.inputs[1:]))
    with pytest.raises(
        ManifestError, match=f"reads {first.name} at place {first.index + 4} of core_v1, where it is not"
    ):
        load_models(tmp_path, manifest.reference, ())


def test_champion_and_shadow_are_loaded_together(tmp_path: Path) -> None:
    manifest = add_model(tmp_path, "mine")
    models = load_models(tmp_path, "starter", (manifest.reference,))
    assert [model.role for model in models] == [ModelRole.CHAMPION, ModelRole.SHADOW]
    InferenceCore(models)


def test_without_a_champion_shadows_are_loaded_all_the_same(tmp_path: Path) -> None:
    assert load_models(tmp_path, "", ()) == []
    assert [model.role for model in load_models(tmp_path, "", ("starter",))] == [ModelRole.SHADOW]


def test_one_window_after_another_scores_as_each_alone_does_to_the_bit() -> None:
    manifest, content = STARTER, (STARTER_DIR / "model.onnx").read_bytes()
    model = OnnxModel(manifest, content)
    windows = np.random.default_rng(3).normal(size=(50, 1, manifest.window, len(manifest.inputs))).astype(np.float32)
    windows[::7, 0, 0, 5] = np.nan
    scored = [model.score(window) for window in windows]
    for window, scores in zip(windows, scored, strict=True):
        probabilities, moves = model.run(window)
        assert (scores.probability_down, scores.probability_flat, scores.probability_up) == tuple(probabilities[0])
        assert scores.expected_return_bps == moves[0]
