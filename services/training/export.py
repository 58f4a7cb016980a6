"""Checks a fitted model's graph against its framework, and puts bundle and report into the registry."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime

from services.inference.core import Manifest, encode_manifest
from services.training.fitting import FittedModel

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
TOLERANCE = 1e-5
"""How far ONNX Runtime may be from the framework, in probability; as a share of scale, in return and outlook."""

_BATCHES = (1, 32)


class ExportError(RuntimeError):
    """The exported graph does not say what the framework says."""


def check_export(exported: bytes, model: FittedModel, windows: npt.NDArray[np.float32]) -> float:
    """Run windows, as features are, through graph and framework, one by one and in batches of 32.

    Returns the largest difference. Raises `ExportError` past `TOLERANCE`.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    probabilities, moves = model.forecast(windows)
    outlook = model.outlook(windows)
    scale = max(1.0, *(abs(one) for one in model.expected.class_bps))
    worst = 0.0
    for size in _BATCHES:
        for first in range(0, len(windows), size):
            part = slice(first, first + size)
            got, got_moves, *got_outlook = session.run(None, {"vectors": windows[part]})
            worst = max(worst, float(np.abs(got - probabilities[part]).max()))
            worst = max(worst, float(np.abs(got_moves - moves[part]).max()) / scale)
            if outlook is not None:
                gaps = np.abs(got_outlook[0] - outlook[part]) / np.maximum(1.0, np.abs(outlook).max(axis=0))
                worst = max(worst, float(gaps.max()))
    if not worst <= TOLERANCE:
        raise ExportError(f"ONNX Runtime and the framework differ by {worst:.2e}, at most {TOLERANCE:g} is allowed")
    return worst


def sign_manifest(exported: bytes, manifest: Manifest) -> Manifest:
    """Return the manifest with the graph's hash, which makes the two one bundle."""
    return dataclasses.replace(manifest, onnx_sha256=hashlib.sha256(exported).hexdigest())


def write_bundle(folder: Path, exported: bytes, manifest: Manifest, reports: Mapping[str, bytes]) -> None:
    """Write the graph, the reports and last the manifest, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {MODEL_FILE: exported, **reports, MANIFEST_FILE: encode_manifest(manifest)}.items():
        unfinished = folder / f".{name}.{os.getpid()}.unfinished"
        unfinished.write_bytes(content)
        unfinished.replace(folder / name)
