"""The registry of models as the command line reads it: manifests, their hashes and their reports.

It checks that a manifest is the one that its folder's name pins; the graph is checked by inference when it loads it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.runtime.errors import BadInput

STARTER = "starter"
STARTER_DIR = Path(__file__).resolve().parent.parent / "inference" / "starter"
MANIFEST_FILE = "manifest.json"
CHAMPION_FILE = "champion"
SHADOWS_FILE = "shadows"
EDGE = "edge"
_VERSION_DIGITS = 16
_WANTED = (
    *("name", "family", "feature_set", "schema_hash", "timeframe", "window", "horizon_ns", "onnx_sha256", "verdict"),
    *("inputs", "metrics", "label", "training"),
)


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model in the registry: its folder, its bundle's hash and its manifest."""

    folder: Path
    bundle_sha256: str
    manifest: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.manifest["name"])

    @property
    def version(self) -> str:
        """The first digits of the bundle's hash."""
        return self.bundle_sha256[:_VERSION_DIGITS]

    @property
    def reference(self) -> str:
        """What settings and commands name it by."""
        return STARTER if self.folder == STARTER_DIR else f"{self.name}/{self.version}"

    @property
    def needed_features(self) -> str:
        """The feature set that it reads, over its timeframe, as the features service's settings name it."""
        return f"{self.manifest['feature_set']}/{self.manifest['timeframe']}"

    @property
    def has_edge(self) -> bool:
        """Whether the verdict on it is that it has one."""
        return bool(self.manifest["verdict"] == EDGE)

    def describe(self) -> dict[str, Any]:
        """Return what a program wants to know of it."""
        facts = {name: self.manifest[name] for name in _WANTED}
        facts["inputs"] = [each["name"] for each in self.manifest["inputs"]]
        return {
            "reference": self.reference,
            "version": self.version,
            "bundle_sha256": self.bundle_sha256,
            **facts,
            "folder": str(self.folder),
        }


def list_entries(models_dir: Path) -> list[ModelEntry]:
    """Return the models there are, the one that ships first. Raises `BadInput` for a manifest that is damaged."""
    if models_dir.exists() and not models_dir.is_dir():
        raise BadInput(f"--models {models_dir} is not a folder; name the registry that train-models writes to")
    found = [read_entry(path.parent) for path in sorted(models_dir.glob(f"*/*/{MANIFEST_FILE}"))]
    return [read_entry(STARTER_DIR), *found]


def find_entry(models_dir: Path, reference: str) -> ModelEntry:
    """Return a model by ``starter`` or NAME/VERSION. Raises `BadInput` naming what there is."""
    if reference == STARTER:
        return read_entry(STARTER_DIR)
    name, _, version = reference.partition("/")
    folder = models_dir / name / version[:_VERSION_DIGITS]
    if not name or len(version) < _VERSION_DIGITS or ".." in reference or not (folder / MANIFEST_FILE).is_file():
        there_are = ", ".join(entry.reference for entry in list_entries(models_dir))
        raise BadInput(f"no model {reference!r} under {models_dir}; write NAME/VERSION, there are: {there_are}")
    entry = read_entry(folder)
    if not entry.bundle_sha256.startswith(version):
        raise BadInput(
            f"model {reference} has sha256 {entry.bundle_sha256}: its manifest was edited; restore it or train again"
        )
    return entry


def read_entry(folder: Path) -> ModelEntry:
    """Read a model's manifest. Raises `BadInput` where it is damaged."""
    path = folder / MANIFEST_FILE
    try:
        content = path.read_bytes()
        manifest = json.loads(content)
        entry = ModelEntry(folder, hashlib.sha256(content).hexdigest(), manifest)
        entry.describe()
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is no model manifest ({error!r}); remove it or train the model again") from error
    if folder != STARTER_DIR and entry.version != folder.name:
        raise BadInput(
            f"{path} has sha256 {entry.bundle_sha256}, its folder is {folder.name}: it was edited; restore it, or "
            "remove it and train again"
        )
    return entry


def shorten(reference: str) -> str:
    """Return a reference with as much of the hash as a version has, however much of it was given."""
    name, _, version = reference.partition("/")
    return f"{name}/{version[:_VERSION_DIGITS]}" if version else name


def read_default(models_dir: Path) -> str:
    """Return the reference, whole hash and all, of the model that sessions begin with; empty where there is none."""
    path = models_dir / CHAMPION_FILE
    return path.read_text().strip() if path.is_file() else ""


def write_default(models_dir: Path, entry: ModelEntry) -> None:
    """Have sessions on this registry, but those on the simulated market, begin with a model."""
    _write(models_dir / CHAMPION_FILE, [f"{entry.name}/{entry.bundle_sha256}"])
    _write(models_dir / SHADOWS_FILE, [one for one in read_shadows(models_dir) if shorten(one) != entry.reference])


def read_shadows(models_dir: Path) -> list[str]:
    """Return the references, whole hash and all, of the models that sessions begin with as shadows."""
    path = models_dir / SHADOWS_FILE
    return path.read_text().split() if path.is_file() else []


def add_shadow(models_dir: Path, entry: ModelEntry) -> None:
    """Have sessions on this registry, but those on the simulated market, begin with a model as a shadow.

    It takes the place of another version of its name.
    """
    others = [one for one in read_shadows(models_dir) if one.partition("/")[0] != entry.name]
    _write(models_dir / SHADOWS_FILE, [*others, f"{entry.name}/{entry.bundle_sha256}"])


def _write(path: Path, lines: Sequence[str]) -> None:
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text("".join(f"{line}\n" for line in lines))
    unfinished.replace(path)


def features_of(models_dir: Path, references: Sequence[str]) -> list[str]:
    """Return the feature sets that models read, each once, as the features service's settings name them."""
    return list(dict.fromkeys(find_entry(models_dir, reference).needed_features for reference in references))
