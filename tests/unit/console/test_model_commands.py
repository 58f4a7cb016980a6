"""`perpflow models`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from libs.runtime.errors import BadInput
from services.console.main import app


def perpflow(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_model_that_ships_is_listed(tmp_path: Path) -> None:
    (model,) = json.loads(perpflow("models", "--models", str(tmp_path), "--json"))
    assert model["name"] == "starter"
    assert len(model["onnx_sha256"]) == 64
    assert "rsi_14" in model["inputs"]


def test_a_registry_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("")
    with pytest.raises(BadInput, match=r"--models .*models is not a folder"):
        perpflow("models", "--models", str(tmp_path / "models"))


@pytest.mark.parametrize("content", [b"{}", b"{", b"\xff\xfe"])
def test_a_damaged_manifest_is_named(content: bytes, tmp_path: Path) -> None:
    broken = tmp_path / "mine" / "1" / "manifest.json"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(content)
    with pytest.raises(BadInput, match=r"manifest\.json is no model manifest"):
        perpflow("models", "--models", str(tmp_path))
