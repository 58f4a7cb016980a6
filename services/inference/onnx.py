"""Models on disk: finds them by reference, checks their bundles' hashes, runs them in ONNX Runtime on one thread."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from libs.domain.forecasts import ModelRole
from libs.indicators.feature_set import FeatureSetError
from libs.indicators.feature_sets import load_feature_set
from services.inference.core import Manifest, ManifestError, ScoredModel, Scores, check_bundle
from services.inference.core.manifest import CLASSES, VERSION_DIGITS
from services.inference.settings import STARTER
from services.inference.shipped import STARTER_SHA256
from services.inference.watching import watch

STARTER_DIR = Path(__file__).parent / "starter"
MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
INPUT = "vectors"
PROBABILITIES = "probabilities"
EXPECTED_RETURN = "expected_return_bps"
OUTLOOK = "outlook"
_SCORED = [PROBABILITIES, EXPECTED_RETURN]

_PIN = re.compile(rf"[0-9a-f]{{{VERSION_DIGITS},64}}")


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
        shape = [manifest.window, len(manifest.inputs)]
        if len(taken) != 1 or taken[0].name != INPUT or list(taken[0].shape[1:]) != shape:
            raise ManifestError(
                f"model {manifest.model_id} reads {[(one.name, one.shape) for one in taken]}, its manifest says one "
                f"input {INPUT!r} of (batch, {shape[0]}, {shape[1]}); train it again"
            )
        if isinstance(taken[0].shape[0], int):
            raise ManifestError(
                f"model {manifest.model_id} reads batches of {taken[0].shape[0]} alone, its first dimension must be "
                "open; train it again"
            )
        if given not in (_SCORED, [*_SCORED, OUTLOOK]):
            raise ManifestError(
                f"model {manifest.model_id} answers {given}, expected [{PROBABILITIES!r}, {EXPECTED_RETURN!r}]"
            )

        # One window at a time is what is served: its buffers are bound once, which is quicker for a small graph. On
        # the CPU an OrtValue is the array that it was made from, and answers are read there.
        self._window = np.zeros((1, *shape), dtype=np.float32)
        probabilities = np.zeros((1, len(CLASSES)), dtype=np.float32)
        self._probabilities, self._move = probabilities[0], np.zeros(1, dtype=np.float32)
        self._binding = self._session.io_binding()
        self._binding.bind_cpu_input(INPUT, self._window)
        self._bound = [onnxruntime.OrtValue.ortvalue_from_numpy(one) for one in (probabilities, self._move)]
        for name, value in zip(_SCORED, self._bound, strict=True):
            self._binding.bind_ortvalue_output(name, value)

    def run(self, inputs: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Score windows (n, window, inputs): probabilities (n, 3) and expected returns in bps (n,)."""
        probabilities, moves = self._session.run(_SCORED, {INPUT: inputs})
        return probabilities, moves

    def score(self, inputs: npt.NDArray[np.float32]) -> Scores:
        """Score one window of shape (1, window, inputs)."""
        self._window[...] = inputs
        self._session.run_with_iobinding(self._binding)
        down, flat, up = self._probabilities.tolist()
        return Scores(down, flat, up, self._move.item())


def find_model(models_dir: Path, reference: str) -> tuple[Path, str]:
    """Find a model's folder and what its bundle's hash must begin with: ``starter``, or ``NAME/VERSION``.

    VERSION is the hash's first 16 digits or more of it, so that a reference pins every byte. Raises `ManifestError`
    naming what there is.
    """
    if reference == STARTER:
        return STARTER_DIR, STARTER_SHA256
    name, _, version = reference.partition("/")
    if not name or ".." in reference or reference.startswith("/") or version.count("/"):
        raise ManifestError(f"{reference!r} is not a model reference; write NAME/VERSION, or starter")
    there_are = f"there are: {', '.join([STARTER, *list_models(models_dir)])}"
    if not _PIN.fullmatch(version):
        raise ManifestError(
            f"no model {reference!r}: write NAME/VERSION, whose version, {VERSION_DIGITS} hexadecimal digits or more, "
            f"pins every byte; {there_are} under {models_dir}"
        )
    folder = models_dir / name / version[:VERSION_DIGITS]
    if not (folder / MANIFEST_FILE).is_file():
        raise ManifestError(f"no model {reference!r} under {models_dir}; {there_are}")
    return folder, version


def load_manifest(folder: Path, pin: str) -> Manifest:
    """Read a model's manifest and check the whole bundle against `pin`. Raises `ManifestError`."""
    return _read_bundle(folder, pin)[0]


def load_model(folder: Path, pin: str, role: ModelRole) -> ScoredModel:
    """Load a model and refuse it where one byte of its bundle is not as it was pinned."""
    manifest, onnx = _read_bundle(folder, pin)
    return ScoredModel(manifest, role, watch(manifest, OnnxModel(manifest, onnx).score))


def load_models(models_dir: Path, champion: str, shadows: tuple[str, ...]) -> list[ScoredModel]:
    """Load the champion, if one is named, and the shadows. Raises `ManifestError` where one cannot be served here."""
    models = [load_model(*find_model(models_dir, champion), ModelRole.CHAMPION)] if champion else []
    models.extend(load_model(*find_model(models_dir, shadow), ModelRole.SHADOW) for shadow in shadows)
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
                "where it is not; train the model again"
            )


def list_models(models_dir: Path) -> list[str]:
    """Return the references of the models in a registry, in order."""
    return sorted(f"{one.parent.parent.name}/{one.parent.name}" for one in models_dir.glob(f"*/*/{MANIFEST_FILE}"))


def _read_bundle(folder: Path, pin: str) -> tuple[Manifest, bytes]:
    try:
        manifest_bytes = (folder / MANIFEST_FILE).read_bytes()
        onnx = (folder / MODEL_FILE).read_bytes()
    except FileNotFoundError as error:
        raise ManifestError(f"{error.filename} is missing; train the model again with perpflow train-models") from None
    try:
        return check_bundle(manifest_bytes, onnx, pin), onnx
    except ManifestError as error:
        raise ManifestError(f"{folder}: {error}") from None
