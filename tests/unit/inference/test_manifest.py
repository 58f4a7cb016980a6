from __future__ import annotations

import json
from typing import Any

import pytest

from services.inference.core import ManifestError, decode_manifest, encode_manifest
from tests.unit.inference.builders import a_manifest


def test_manifest_round_trips() -> None:
    manifest = a_manifest()
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_equal_manifests_give_equal_bytes() -> None:
    assert encode_manifest(a_manifest()) == encode_manifest(a_manifest())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "perpflow-model-0"}, "manifest format is 'perpflow-model-0'"),
        ({"classes": ["up", "down"]}, "manifest classes"),
        ({"inputs": []}, "inputs are empty"),
        ({"inputs": [{"name": "a", "index": -1, "mean": 0, "scale": 1}]}, r"inputs\[0\] \(a\) has index -1"),
        ({"inputs": [{"name": "a", "index": 0, "mean": 0, "scale": 0}]}, r"scale 0.0, must be above zero"),
        ({"inputs": [{"name": "a", "index": 0, "mean": None, "scale": 1}]}, "mean is None"),
        ({"inputs": [{"name": "a", "index": i, "mean": 0, "scale": 1} for i in (0, 1)]}, "name a feature twice"),
        ({"name": "a b"}, "manifest name is 'a b'"),
        ({"version": "../x"}, r"manifest version is '\.\./x'"),
        ({"onnx_sha256": "12"}, "expected 64 hexadecimal digits"),
        ({"window": 0}, "window is 0"),
        ({"window": True}, "window is True"),
        ({"horizon_ns": "soon"}, "horizon_ns is 'soon', expected int"),
        ({"clip": float("inf")}, "clip is inf"),
    ],
)
def test_error_in_a_manifest_is_named(change: dict[str, Any], message: str) -> None:
    content = json.loads(encode_manifest(a_manifest())) | change
    with pytest.raises(ManifestError, match=message):
        decode_manifest(json.dumps(content).encode())


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff"])
def test_what_is_no_manifest_at_all_is_refused(text: bytes) -> None:
    with pytest.raises(ManifestError, match="train the model again"):
        decode_manifest(text)
