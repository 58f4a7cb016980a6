"""What a model says of itself: its graph's hash, its inputs by name and place, and how it was made. Reads no files.

A model and its manifest are one bundle with one hash, that of the manifest's bytes, which hold the graph's. The first
digits of it are the model's version, so that a reference NAME/VERSION pins every byte of both. Whatever is not
exactly what training wrote is refused.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeAlias, TypeVar

_Kind = TypeVar("_Kind")

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

CLASSES = ("down", "flat", "up")
"""The order of a model's probabilities."""

FORMAT = "perpflow-model-2"
VERSION_DIGITS = 16
"""How much of the bundle's hash is the version: 64 bits, which nobody meets by trying."""

DECILES = 9

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


class ManifestError(ValueError):
    """A manifest cannot be used; the message names the field and the fix."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input of a model: `index` is its place in the feature vector, `deciles` its nine over the training bars."""

    name: str
    index: int
    deciles: tuple[float, ...]


@dataclass(frozen=True)
class Manifest:
    """A model's description; a pure function of its training.

    The graph reads float32 (batch, `window`, inputs), values as the features give them, NaN where unknown, oldest bar
    first; it answers probabilities in the order of `CLASSES` and the expected return in bps. Scaling and calibration
    are inside it. `label` says what the classes mean, `training` on what and with which seed it was trained, `metrics`
    what it reached on data it had not seen, `verdict` what that amounts to after costs.
    """

    name: str
    family: str
    onnx_sha256: str
    feature_set: str
    schema_hash: str
    timeframe: str
    window: int
    horizon_ns: int
    inputs: tuple[ModelInput, ...]
    verdict: str
    label: dict[str, JsonValue] = field(default_factory=dict)
    training: dict[str, JsonValue] = field(default_factory=dict)
    metrics: dict[str, JsonValue] = field(default_factory=dict)

    @cached_property
    def bundle_sha256(self) -> str:
        """The hash that pins every byte of manifest and graph."""
        return hashlib.sha256(encode_manifest(self)).hexdigest()

    @property
    def version(self) -> str:
        """The first digits of the bundle's hash: equal trainings are one version."""
        return self.bundle_sha256[:VERSION_DIGITS]

    @property
    def model_id(self) -> str:
        """Name and version, as forecasts' ids carry them."""
        return f"{self.name}-{self.version}"

    @property
    def reference(self) -> str:
        """What settings and commands name it by."""
        return f"{self.name}/{self.version}"


def encode_manifest(manifest: Manifest) -> bytes:
    """Write a manifest as indented JSON with sorted keys; equal manifests give equal bytes."""
    content = {
        "format": FORMAT,
        "name": manifest.name,
        "family": manifest.family,
        "onnx_sha256": manifest.onnx_sha256,
        "feature_set": manifest.feature_set,
        "schema_hash": manifest.schema_hash,
        "timeframe": manifest.timeframe,
        "window": manifest.window,
        "horizon_ns": manifest.horizon_ns,
        "classes": list(CLASSES),
        "inputs": [{"name": one.name, "index": one.index, "deciles": list(one.deciles)} for one in manifest.inputs],
        "verdict": manifest.verdict,
        "label": manifest.label,
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
        raise ManifestError(
            f"manifest format is {content.get('format')!r}, this release reads {FORMAT!r}; train the model again"
        )
    if content.get("classes") != list(CLASSES):
        raise ManifestError(f"manifest classes are {content.get('classes')!r}, expected {list(CLASSES)}")
    inputs = tuple(_decode_input(entry, place) for place, entry in enumerate(_take(content, "inputs", list)))
    if not inputs:
        raise ManifestError("manifest inputs are empty; a model needs at least one")
    if len({one.name for one in inputs}) != len(inputs):
        raise ManifestError("manifest inputs name a feature twice")
    manifest = Manifest(
        name=_take(content, "name", str),
        family=_take(content, "family", str),
        onnx_sha256=_take(content, "onnx_sha256", str),
        feature_set=_take(content, "feature_set", str),
        schema_hash=_take(content, "schema_hash", str),
        timeframe=_take(content, "timeframe", str),
        window=_take(content, "window", int),
        horizon_ns=_take(content, "horizon_ns", int),
        inputs=inputs,
        verdict=_take(content, "verdict", str),
        label=_take(content, "label", dict),
        training=_take(content, "training", dict),
        metrics=_take(content, "metrics", dict),
    )
    for name, value in (("name", manifest.name), ("family", manifest.family)):
        if not _WORD.fullmatch(value):
            raise ManifestError(f"manifest {name} is {value!r}; use letters, digits, '_', '.', '-', at most 64")
    for name, value in (("onnx_sha256", manifest.onnx_sha256), ("schema_hash", manifest.schema_hash)):
        if not _SHA256.fullmatch(value):
            raise ManifestError(f"manifest {name} is {value!r}, expected 64 hexadecimal digits")
    for name, bound in (("window", manifest.window), ("horizon_ns", manifest.horizon_ns)):
        if bound <= 0:
            raise ManifestError(f"manifest {name} is {bound}, must be above zero")
    if encode_manifest(manifest) != text:
        raise ManifestError("the manifest is not as training wrote it: it was edited; restore it or train again")
    return manifest


def check_bundle(manifest_bytes: bytes, onnx: bytes, pin: str) -> Manifest:
    """Return the manifest of a bundle whose hash begins with `pin`. Raises `ManifestError` for any changed byte."""
    digest = hashlib.sha256(manifest_bytes).hexdigest()
    if not pin or not digest.startswith(pin):
        raise ManifestError(
            f"the manifest has sha256 {digest}, the model was named as {pin}: it was edited after it was chosen; "
            "restore it, or train again and name the new version"
        )
    manifest = decode_manifest(manifest_bytes)
    graph = hashlib.sha256(onnx).hexdigest()
    if graph != manifest.onnx_sha256:
        raise ManifestError(
            f"the graph has sha256 {graph}, its manifest says {manifest.onnx_sha256}: the file was changed or is of "
            "another training; restore it or train again"
        )
    return manifest


def _decode_input(entry: object, place: int) -> ModelInput:
    where = f"manifest inputs[{place}]"
    if not isinstance(entry, dict):
        raise ManifestError(f"{where} is not an object")
    name, index, deciles = entry.get("name"), entry.get("index"), entry.get("deciles")
    if not isinstance(name, str) or not name:
        raise ManifestError(f"{where} has no name")
    if not isinstance(index, int) or isinstance(index, bool) or index < 0:
        raise ManifestError(f"{where} ({name}) has index {index!r}, expected an integer of 0 or more")
    if not isinstance(deciles, list) or len(deciles) != DECILES:
        raise ManifestError(f"{where} ({name}) has deciles {deciles!r}, expected {DECILES} numbers")
    return ModelInput(name=name, index=index, deciles=tuple(_finite(one, f"{where} ({name})") for one in deciles))


def _take(content: dict[str, object], name: str, kind: type[_Kind]) -> _Kind:
    value = content.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ManifestError(f"manifest {name} is {value!r}, expected {kind.__name__}")
    return value


def _finite(value: object, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ManifestError(f"{where} has decile {value!r}, expected a finite number")
    return float(value)
