"""Writes a fitted model as ONNX, checks it against torch, and puts it with its manifest into the registry."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import torch

from services.inference.core import Manifest, encode_manifest
from services.training.fitting import FittedModel
from services.training.network import ServedModel

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
MAX_BYTES = 200_000
_TOLERANCE = 1e-4


class ExportError(RuntimeError):
    """The exported file does not say what the network says, or is too large to ship."""


def export_onnx(model: FittedModel, window: int, inputs: int) -> bytes:
    """Return the model as ONNX bytes, the same for the same weights: no paths, no times, no traces of the build."""
    served = ServedModel(model.network, model.temperature, model.move_scale_bps).eval()
    example = torch.zeros(1, window, inputs)
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    exporter.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            # torch 2.13's exporter uses a pytree check that its own release deprecates.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            program = torch.onnx.export(
                served,
                (example,),
                dynamo=True,
                input_names=["bars"],
                output_names=["probabilities", "expected_return_bps"],
                external_data=False,
                verbose=False,
            )
    finally:
        exporter.setLevel(level)
    proto = program.model_proto
    _strip_traces(proto)
    onnx.checker.check_model(proto, full_check=True)
    exported: bytes = proto.SerializeToString(deterministic=True)
    if len(exported) > MAX_BYTES:
        raise ExportError(f"the model has {len(exported)} bytes, at most {MAX_BYTES} may ship")
    return exported


def check_export(exported: bytes, model: FittedModel, windows: npt.NDArray[np.float32]) -> float:
    """Run windows through ONNX Runtime and torch and return the largest difference. Raises `ExportError` past 1e-4."""
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    probabilities, moves = model.forecast(windows)
    worst = 0.0
    for place in range(len(windows)):
        got, got_move = session.run(None, {"bars": windows[place : place + 1]})
        worst = max(worst, float(np.abs(got[0] - probabilities[place]).max()))
        worst = max(worst, abs(float(got_move[0]) - float(moves[place])) / max(1.0, model.move_scale_bps))
    if not worst <= _TOLERANCE:
        raise ExportError(f"ONNX Runtime and torch differ by {worst}, at most {_TOLERANCE} is allowed")
    return worst


def name_version(exported: bytes) -> str:
    """Return the version a model gets: the first eight digits of its sha256, so that equal trainings are one."""
    return hashlib.sha256(exported).hexdigest()[:8]


def write_model(folder: Path, exported: bytes, manifest: Manifest) -> Manifest:
    """Write the model, then its manifest, each whole or not at all; return the manifest with the file's hash."""
    folder.mkdir(parents=True, exist_ok=True)
    signed = dataclasses.replace(manifest, onnx_sha256=hashlib.sha256(exported).hexdigest())
    for name, content in ((MODEL_FILE, exported), (MANIFEST_FILE, encode_manifest(signed))):
        unfinished = folder / f".{name}.unfinished"
        unfinished.write_bytes(content)
        unfinished.replace(folder / name)
    return signed


def _strip_traces(proto: onnx.ModelProto) -> None:
    proto.producer_name = "perpflow"
    proto.producer_version = ""
    proto.doc_string = ""
    del proto.metadata_props[:]
    graph = proto.graph
    graph.doc_string = ""
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    for node in graph.node:
        node.name = ""
    del graph.value_info[:]
