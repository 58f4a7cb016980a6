"""Models on disk: finds them by reference, checks their hashes, runs them in ONNX Runtime on one CPU thread."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from libs.domain.forecasts import ModelRole
from libs.indicators.feature_set import FeatureSetError
from libs.indicators.feature_sets import load_feature_set
from services.inference.core import Manifest, ManifestError, ScoredModel, Scores, decode_manifest

STARTER = "starter"
"""The model that ships with the package."""

STARTER_DIR = Path(__file__).parent / "starter"
MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"


class OnnxModel:
    """Scores windows with an ONNX session: one thread, sequential, so that equal inputs give equal bits."""

    def __init__(self, manifest: Manifest, onnx: bytes) -> None:
        """Open a session on the model's bytes. Raises `ManifestError` where the graph is not what the manifest says."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(onnx, sess_options=options, providers=["CPUExecutionProvider"])
        taken = self._session.get_inputs()
        given = [output.name for output in self._session.get_outputs()]
        if len(taken) != 1 or list(taken[0].shape[1:]) != [manifest.window, len(manifest.inputs)]:
            raise ManifestError(
                f"model {manifest.model_id} reads {[(one.name, one.shape) for one in taken]}, its manifest says one "
                f"input of (1, {manifest.window}, {len(manifest.inputs)}); train it again"
            )
        if not given or given[0] != "probabilities":
            raise ManifestError(f"model {manifest.model_id} answers {given}, expected 'probabilities' first")
        self._input = taken[0].name
        self._has_return = "expected_return_bps" in given

    def score(self, inputs: npt.NDArray[np.float32]) -> Scores:
        """Score one window of shape (1, window, inputs)."""
        names = ["probabilities", "expected_return_bps"] if self._has_return else ["probabilities"]
        outputs = self._session.run(names, {self._input: inputs})
        down, flat, up = (float(value) for value in outputs[0][0])
        return Scores(down, flat, up, float(outputs[1].reshape(-1)[0]) if self._has_return else None)


def find_model(models_dir: Path, reference: str) -> Path:
    """Find a model's folder: ``starter``, ``NAME`` (where it has one version) or ``NAME/VERSION`` under `models_dir`.

    Raises `ManifestError` naming what there is.
    """
    name, _, version = reference.partition("/")
    if not name or ".." in reference or reference.startswith("/") or version.count("/"):
        raise ManifestError(f"{reference!r} is not a model reference; write NAME or NAME/VERSION, such as starter")
    home = models_dir / name
    if reference == STARTER and not home.is_dir():
        return STARTER_DIR
    if version:
        if not (home / version / MANIFEST_FILE).is_file():
            raise ManifestError(f"no model {reference!r} under {models_dir}; there are: {_listing(models_dir)}")
        return home / version
    versions = sorted(found.parent for found in home.glob(f"*/{MANIFEST_FILE}"))
    if not versions:
        raise ManifestError(f"no model {reference!r} under {models_dir}; there are: {_listing(models_dir)}")
    if len(versions) > 1:
        names = ", ".join(f"{name}/{one.name}" for one in versions)
        raise ManifestError(f"model {reference!r} has several versions; name one of {names}")
    return versions[0]


def load_model(folder: Path, role: ModelRole) -> ScoredModel:
    """Load a model and refuse it where its file is not the one that its manifest describes."""
    try:
        manifest = decode_manifest((folder / MANIFEST_FILE).read_bytes())
        onnx = (folder / MODEL_FILE).read_bytes()
    except FileNotFoundError as error:
        raise ManifestError(f"{error.filename} is missing; train the model again with perpflow train-models") from None
    except ManifestError as error:
        raise ManifestError(f"{folder / MANIFEST_FILE}: {error}") from None
    digest = hashlib.sha256(onnx).hexdigest()
    if digest != manifest.onnx_sha256:
        raise ManifestError(
            f"{folder / MODEL_FILE} has sha256 {digest}, its manifest says {manifest.onnx_sha256}: "
            "the file was changed or is of another training; restore it or train again"
        )
    return ScoredModel(manifest, role, OnnxModel(manifest, onnx).score)


def load_models(models_dir: Path, champion: str, shadows: tuple[str, ...]) -> list[ScoredModel]:
    """Load the champion and the shadows by reference. Raises `ManifestError` where one cannot be served here."""
    models = [load_model(find_model(models_dir, champion), ModelRole.CHAMPION)]
    models.extend(load_model(find_model(models_dir, shadow), ModelRole.SHADOW) for shadow in shadows)
    for model in models:
        check_features(model.manifest)
    return models


def check_features(manifest: Manifest) -> None:
    """Refuse a model whose feature set this release does not have, or has with another definition."""
    try:
        current = load_feature_set(manifest.feature_set, manifest.timeframe)
        current.check_hash(manifest.schema_hash, f"model {manifest.model_id}")
    except FeatureSetError as error:
        fix = "perpflow train-models --starter" if manifest.name == STARTER else "perpflow train-models"
        raise ManifestError(f"{error} (train again: {fix})") from error
    for one in manifest.inputs:
        if one.index >= len(current) or current.names[one.index] != one.name:
            raise ManifestError(
                f"model {manifest.model_id} reads {one.name} at place {one.index} of {manifest.feature_set}, "
                "where it is not; the manifest was changed, train the model again"
            )


def _listing(models_dir: Path) -> str:
    found = sorted(f"{one.parent.parent.name}/{one.parent.name}" for one in models_dir.glob(f"*/*/{MANIFEST_FILE}"))
    return ", ".join([STARTER, *found])
