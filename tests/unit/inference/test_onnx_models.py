from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from libs.domain.forecasts import ModelRole
from libs.indicators.feature_sets import load_feature_set
from services.inference.core import InferenceCore, ManifestError
from services.inference.onnx import STARTER_DIR, find_model, load_model, load_models


def a_registry(folder: Path, *references: str) -> Path:
    for reference in references:
        shutil.copytree(STARTER_DIR, folder / reference)
    return folder


def test_starter_model_belongs_to_the_current_features() -> None:
    manifest = load_model(STARTER_DIR, ModelRole.CHAMPION).manifest
    current = load_feature_set(manifest.feature_set, manifest.timeframe)
    assert manifest.schema_hash == current.schema_hash, (
        f"feature set {current.name} is {current.schema_hash[:12]} now, the starter model was trained on "
        f"{manifest.schema_hash[:12]}; rebuild it with: perpflow train-models --starter"
    )
    assert [current.names[one.index] for one in manifest.inputs] == [one.name for one in manifest.inputs]


def test_starter_model_is_small_and_names_its_seed_and_data() -> None:
    manifest = load_model(STARTER_DIR, ModelRole.CHAMPION).manifest
    assert (STARTER_DIR / "model.onnx").stat().st_size < 200_000
    assert isinstance(manifest.training["seed"], int)
    assert manifest.training["data"] == {
        "source": "simulated market",
        "seed": 20260101,
        "days": 30,
        "bars": 43_200,
    }
    assert "/" not in json.dumps(manifest.training)


def test_starter_model_is_better_than_naive_on_what_it_had_not_seen() -> None:
    mean = load_model(STARTER_DIR, ModelRole.CHAMPION).manifest.metrics["walk_forward_mean"]
    assert isinstance(mean, dict)
    assert mean["log_loss"] < mean["log_loss_naive"]  # type: ignore[operator]
    assert mean["accuracy"] > mean["accuracy_naive"]  # type: ignore[operator]


def test_equal_windows_give_equal_bits_in_every_session() -> None:
    one, other = (load_model(STARTER_DIR, ModelRole.CHAMPION) for _ in range(2))
    manifest = one.manifest
    windows = np.random.default_rng(5).normal(size=(20, 1, manifest.window, len(manifest.inputs))).astype(np.float32)
    for window in windows:
        scores = one.score(window)
        assert scores == other.score(window)
        assert scores.probability_down + scores.probability_flat + scores.probability_up == pytest.approx(1.0, abs=1e-5)
        assert scores.expected_return_bps is not None


def test_reference_is_name_or_name_and_version(tmp_path: Path) -> None:
    registry = a_registry(tmp_path, "mine/aaaa", "two/aaaa", "two/bbbb")
    assert find_model(registry, "starter") == STARTER_DIR
    assert find_model(registry, "mine") == registry / "mine" / "aaaa"
    assert find_model(registry, "two/bbbb") == registry / "two" / "bbbb"
    with pytest.raises(ManifestError, match="name one of two/aaaa, two/bbbb"):
        find_model(registry, "two")


@pytest.mark.parametrize("reference", ["absent", "mine/cccc"])
def test_unknown_model_is_refused_naming_those_there_are(tmp_path: Path, reference: str) -> None:
    registry = a_registry(tmp_path, "mine/aaaa")
    with pytest.raises(ManifestError, match=f"no model '{reference}' .*starter, mine/aaaa"):
        find_model(registry, reference)


@pytest.mark.parametrize("reference", ["", "/etc", "../secrets", "a/b/c"])
def test_reference_that_leaves_the_registry_is_refused(tmp_path: Path, reference: str) -> None:
    with pytest.raises(ManifestError, match="is not a model reference"):
        find_model(tmp_path, reference)


def test_file_that_is_not_the_manifests_is_refused(tmp_path: Path) -> None:
    folder = a_registry(tmp_path, "mine/aaaa") / "mine" / "aaaa"
    with (folder / "model.onnx").open("ab") as file:
        file.write(b"\0")
    with pytest.raises(ManifestError, match=r"has sha256 .*restore it or train again"):
        load_model(folder, ModelRole.CHAMPION)


def test_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    folder = a_registry(tmp_path, "mine/aaaa") / "mine" / "aaaa"
    (folder / "model.onnx").unlink()
    with pytest.raises(ManifestError, match=r"model\.onnx is missing; train the model again"):
        load_model(folder, ModelRole.CHAMPION)


def test_manifest_of_another_shape_than_the_graph_is_refused(tmp_path: Path) -> None:
    folder = a_registry(tmp_path, "mine/aaaa") / "mine" / "aaaa"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["window"] += 1
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match="its manifest says one input"):
        load_model(folder, ModelRole.CHAMPION)


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
    folder = a_registry(tmp_path, "mine/aaaa") / "mine" / "aaaa"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(ManifestError, match=message):
        load_models(tmp_path, "mine", ())


def test_manifest_that_names_the_wrong_place_is_refused(tmp_path: Path) -> None:
    folder = a_registry(tmp_path, "mine/aaaa") / "mine" / "aaaa"
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["inputs"][0]["index"] += 1
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ManifestError, match="reads log_return_1 at place 1 of core_v1, where it is not"):
        load_models(tmp_path, "mine", ())


def test_champion_and_shadow_are_loaded_together(tmp_path: Path) -> None:
    folder = a_registry(tmp_path, "mine/aaaa") / "mine" / "aaaa"
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"name": "mine"}))
    models = load_models(tmp_path, "starter", ("mine",))
    assert [model.role for model in models] == [ModelRole.CHAMPION, ModelRole.SHADOW]
    InferenceCore(models)
