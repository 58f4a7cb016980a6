"""Models in a registry for tests: the one that ships under other names."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from services.inference.core import Manifest, decode_manifest, encode_manifest
from services.inference.onnx import MANIFEST_FILE, MODEL_FILE, STARTER_DIR

STARTER = decode_manifest((STARTER_DIR / MANIFEST_FILE).read_bytes())


def add_model(registry: Path, name: str, **changes: Any) -> Manifest:
    """Put the model that ships into a registry under another name, with what else its manifest is to say."""
    manifest = replace(STARTER, name=name, **changes)
    folder = registry / name / manifest.version
    folder.mkdir(parents=True)
    shutil.copy(STARTER_DIR / MODEL_FILE, folder)
    (folder / MANIFEST_FILE).write_bytes(encode_manifest(manifest))
    return manifest
