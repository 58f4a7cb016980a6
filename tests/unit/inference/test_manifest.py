from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from services.inference.core import ManifestError, check_bundle, decode_manifest, encode_manifest
from tests.unit.inference.builders import a_manifest

GRAPH = b"a graph"
BUNDLED = replace(a_manifest(), onnx_sha256=hashlib.sha256(GRAPH).hexdigest())


def test_manifest_round_trips() -> None:
    manifest = a_manifest()
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_equal_manifests_give_equal_bytes() -> None:
    assert encode_manifest(a_manifest()) == encode_manifest(a_manifest())


def test_version_is_the_first_digits_of_the_bundles_hash() -> None:
    digest = hashlib.sha256(encode_manifest(BUNDLED)).hexdigest()
    assert (BUNDLED.version, BUNDLED.reference) == (digest[:16], f"toy/{digest[:16]}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "perpflow-model-1"}, "manifest format is 'perpflow-model-1'.*train the model again"),
        ({"classes": ["up", "down"]}, "manifest classes"),
        ({"inputs": []}, "inputs are empty"),
        ({"inputs": [{"name": "a", "index": -1, "deciles": [0.0] * 9}]}, r"inputs\[0\] \(a\) has index -1"),
        ({"inputs": [{"name": "a", "index": 0, "deciles": [0.0] * 8}]}, "expected 9 numbers"),
        ({"inputs": [{"name": "a", "index": 0, "deciles": [None] * 9}]}, "decile None"),
        ({"inputs": [{"name": "a", "index": i, "deciles": [0.0] * 9} for i in (0, 1)]}, "name a feature twice"),
        ({"name": "a b"}, "manifest name is 'a b'"),
        ({"family": "../x"}, r"manifest family is '\.\./x'"),
        ({"onnx_sha256": "12"}, "expected 64 hexadecimal digits"),
        ({"window": 0}, "window is 0"),
        ({"window": True}, "window is True"),
        ({"horizon_ns": "soon"}, "horizon_ns is 'soon', expected int"),
        ({"verdict": None}, "verdict is None, expected str"),
        ({"more": 1}, "not as training wrote it"),
    ],
)
def test_error_in_a_manifest_is_named(change: dict[str, Any], message: str) -> None:
    content = json.loads(encode_manifest(a_manifest())) | change
    with pytest.raises(ManifestError, match=message):
        decode_manifest((json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


@pytest.mark.parametrize("text", [b"{", b"[]", b"\xff"])
def test_what_is_no_manifest_at_all_is_refused(text: bytes) -> None:
    with pytest.raises(ManifestError, match="train the model again"):
        decode_manifest(text)


@pytest.mark.parametrize("digits", [16, 64])
def test_bundle_is_accepted_as_it_was_pinned(digits: int) -> None:
    assert check_bundle(encode_manifest(BUNDLED), GRAPH, BUNDLED.bundle_sha256[:digits]) == BUNDLED


def test_every_changed_byte_of_manifest_or_graph_is_refused() -> None:
    manifest, pin = encode_manifest(BUNDLED), BUNDLED.version
    for place in range(len(manifest)):
        changed = bytearray(manifest)
        changed[place] ^= 1
        with pytest.raises(ManifestError, match="it was edited after it was chosen"):
            check_bundle(bytes(changed), GRAPH, pin)
    for place in range(len(GRAPH)):
        changed = bytearray(GRAPH)
        changed[place] ^= 1
        with pytest.raises(ManifestError, match="the graph has sha256"):
            check_bundle(manifest, bytes(changed), pin)


@pytest.mark.parametrize(
    "change",
    [
        {"horizon_ns": 1},
        {"window": 4},
        {"timeframe": "5m"},
        {"metrics": {"accuracy": 0.9}},
        {"verdict": "edge"},
        {"label": {"kind": "barrier"}},
        {"training": {"seed": 2}},
        {"onnx_sha256": hashlib.sha256(b"another graph").hexdigest()},
    ],
)
def test_edit_with_every_hash_made_anew_is_refused_where_the_model_is_pinned(change: dict[str, Any]) -> None:
    edited = replace(BUNDLED, **change)
    assert decode_manifest(encode_manifest(edited)) == edited
    graph = b"another graph" if "onnx_sha256" in change else GRAPH
    assert check_bundle(encode_manifest(edited), graph, edited.version) == edited
    with pytest.raises(ManifestError, match="it was edited after it was chosen"):
        check_bundle(encode_manifest(edited), graph, BUNDLED.version)
