"""What a model says of itself: its file's hash, its inputs by name and place, and how it was made. Reads no files."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TypeAlias, TypeVar

_Kind = TypeVar("_Kind")

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

CLASSES = ("down", "flat", "up")
"""The order of a model's probabilities."""

FORMAT = "perpflow-model-1"

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ManifestError(ValueError):
    """A manifest cannot be used; the message names the field and the fix."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input of a model: `index` is its place in the feature vector, `mean` and `scale` normalise it."""

    name: str
    index: int
    mean: float
    scale: float


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model's description; a pure function of its training.

    Inputs are (value - mean) / scale, clipped to [-`clip`, `clip`], 0 where unknown. The model reads float32
    (1, `window`, inputs), oldest bar first, and answers probabilities in the order of `CLASSES`. `training` says on
    what and with which seed it was trained, `metrics` what it reached on data it had not seen.
    """

    name: str
    version: str
    onnx_sha256: str
    feature_set: str
    schema_hash: str
    timeframe: str
    window: int
    horizon_ns: int
    clip: float
    inputs: tuple[ModelInput, ...]
    training: dict[str, JsonValue] = field(default_factory=dict)
    metrics: dict[str, JsonValue] = field(default_factory=dict)

    @property
    def model_id(self) -> str:
        """Name and version, as forecasts' ids carry them."""
        return f"{self.name}-{self.version}"


def encode_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as indented JSON with sorted keys; equal manifests give equal bytes."""
    content = {
        "format": FORMAT,
        "name": manifest.name,
        "version": manifest.version,
        "onnx_sha256": manifest.onnx_sha256,
        "feature_set": manifest.feature_set,
        "schema_hash": manifest.schema_hash,
        "timeframe": manifest.timeframe,
        "window": manifest.window,
        "horizon_ns": manifest.horizon_ns,
        "clip": manifest.clip,
        "classes": list(CLASSES),
        "inputs": [
            {"name": one.name, "index": one.index, "mean": one.mean, "scale": one.scale} for one in manifest.inputs
        ],
        "training": manifest.training,
        "metrics": manifest.metrics,
    }
    return (json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n").encode()


def decode_manifest(text: bytes) -> Manifest:
    """Read and check a manifest. Raises `ManifestError` naming the field that is wrong."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise ManifestError(f"the manifest is not JSON ({error}); train the model again to rewrite it") from None
    if not isinstance(content, dict):
        raise ManifestError("the manifest is not a JSON object; train the model again to rewrite it")
    if content.get("format") != FORMAT:
        raise ManifestError(f"manifest format is {content.get('format')!r}, this release reads {FORMAT!r}")
    if content.get("classes") != list(CLASSES):
        raise ManifestError(f"manifest classes are {content.get('classes')!r}, expected {list(CLASSES)}")
    inputs = tuple(_decode_input(entry, place) for place, entry in enumerate(_take(content, "inputs", list)))
    if not inputs:
        raise ManifestError("manifest inputs are empty; a model needs at least one")
    if len({one.name for one in inputs}) != len(inputs):
        raise ManifestError("manifest inputs name a feature twice")
    manifest = Manifest(
        name=_take(content, "name", str),
        version=_take(content, "version", str),
        onnx_sha256=_take(content, "onnx_sha256", str),
        feature_set=_take(content, "feature_set", str),
        schema_hash=_take(content, "schema_hash", str),
        timeframe=_take(content, "timeframe", str),
        window=_take(content, "window", int),
        horizon_ns=_take(content, "horizon_ns", int),
        clip=_take_number(content, "clip", "manifest"),
        inputs=inputs,
        training=_take(content, "training", dict),
        metrics=_take(content, "metrics", dict),
    )
    for name, value in (("name", manifest.name), ("version", manifest.version)):
        if not _WORD.fullmatch(value):
            raise ManifestError(f"manifest {name} is {value!r}; use letters, digits, '_', '.', '-', at most 64")
    for name, value in (("onnx_sha256", manifest.onnx_sha256), ("schema_hash", manifest.schema_hash)):
        if not _SHA256.fullmatch(value):
            raise ManifestError(f"manifest {name} is {value!r}, expected 64 hexadecimal digits")
    for name, bound in (("window", manifest.window), ("horizon_ns", manifest.horizon_ns), ("clip", manifest.clip)):
        if bound <= 0:
            raise ManifestError(f"manifest {name} is {bound}, must be above zero")
    return manifest


def _decode_input(entry: object, place: int) -> ModelInput:
    where = f"manifest inputs[{place}]"
    if not isinstance(entry, dict):
        raise ManifestError(f"{where} is not an object")
    name, index = entry.get("name"), entry.get("index")
    if not isinstance(name, str) or not name:
        raise ManifestError(f"{where} has no name")
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise ManifestError(f"{where} ({name}) has index {index!r}, expected an integer of 0 or more")
    scale = _take_number(entry, "scale", where)
    if scale <= 0:
        raise ManifestError(f"{where} ({name}) has scale {scale}, must be above zero")
    return ModelInput(name=name, index=index, mean=_take_number(entry, "mean", where), scale=scale)


def _take(content: dict[str, object], name: str, kind: type[_Kind]) -> _Kind:
    value = content.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ManifestError(f"manifest {name} is {value!r}, expected {kind.__name__}")
    return value


def _take_number(content: dict[str, object], name: str, where: str) -> float:
    value = content.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ManifestError(f"{where} {name} is {value!r}, expected a finite number")
    return float(value)
