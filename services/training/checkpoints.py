"""Keeps each window's fitted model while a training runs, so that one killed anywhere goes on where it was.

A checkpoint is one pickle, written whole or not at all, in a folder whose name is a hash of everything that the fits
depend on: data, options, code and the libraries' versions. Another training never sees it. A finished one removes it.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from pathlib import Path

from services.training.fitting import FittedModel

_LIBRARIES = ("numpy", "scikit-learn", "lightgbm", "torch", "xgboost-cpu")


class Checkpoints:
    """Fitted models by name in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fit(self, name: str, fit: Callable[[], FittedModel]) -> FittedModel:
        """Return the model that is kept under a name, or fit it and keep it."""
        path = self._folder / f"{re.sub(r'[^A-Za-z0-9]+', '-', name)}.pickle"
        if path.is_file():
            kept = pickle.loads(path.read_bytes())
            assert isinstance(kept, FittedModel)
            return kept
        made = fit()
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, pickle.dumps(made))
        return made

    def clear(self) -> None:
        """Remove them: the training is finished."""
        shutil.rmtree(self._folder, ignore_errors=True)


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, whenever this process is killed."""
    unfinished = path.with_suffix(f".{os.getpid()}.unfinished")
    unfinished.write_bytes(data)
    unfinished.replace(path)


def open_checkpoints(registry: Path, facts: Mapping[str, object]) -> Checkpoints:
    """Return the checkpoints of the training that these facts, JSON values, describe."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    for name in _LIBRARIES:
        try:
            digest.update(f"{name}=={version_of(name)}".encode())
        except PackageNotFoundError:
            continue
    return Checkpoints(registry / ".unfinished" / digest.hexdigest()[:16])
