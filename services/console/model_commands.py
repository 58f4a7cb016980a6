"""`perpflow models`: the models there are."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from libs.runtime.errors import BadInput
from services.console.output import print_json

SHIPPED_MODELS = Path(__file__).resolve().parent.parent / "inference" / "starter"


def models(
    folder: Annotated[Path, typer.Option("--models", help="The registry that train-models writes to.")] = Path(
        "var/models"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")] = False,
) -> None:
    """List the models there are: the one that ships, and those that train-models has made.

    Example: perpflow models --json
    """
    if folder.exists() and not folder.is_dir():
        raise BadInput(f"--models {folder} is not a folder; name the registry that train-models writes to")
    found = [_describe(path) for path in [SHIPPED_MODELS / "manifest.json", *sorted(folder.glob("*/*/manifest.json"))]]
    if json:
        print_json(found)
        return
    for model in found:
        print(
            f"{model['name']:<12} {model['version']:<14} {model['feature_set']} {model['schema_hash'][:12]}  "
            f"window {model['window']}, {len(model['inputs'])} inputs, "
            f"sha256 {model['onnx_sha256'][:12]}  {model['folder']}"
        )


def _describe(path: Path) -> dict[str, Any]:
    try:
        manifest = orjson.loads(path.read_bytes())
        wanted = ("name", "version", "feature_set", "schema_hash", "window", "horizon_ns", "onnx_sha256", "metrics")
        facts = {key: manifest[key] for key in wanted}
        return {**facts, "inputs": [each["name"] for each in manifest["inputs"]], "folder": str(path.parent)}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path} is no model manifest ({error!r}); remove it or train the model again") from error
