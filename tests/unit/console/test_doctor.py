"""`perpflow doctor` on servers and containers, and `perpflow --version`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from libs.version import VERSION
from services.console.containers import examine_compose
from tests.unit.console.conftest import Perpflow

ROOT = Path(__file__).resolve().parents[3]


def tools(monkeypatch: pytest.MonkeyPatch, folder: Path, **bodies: str) -> None:
    for name, body in bodies.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_version_is_the_distributions(perpflow: Perpflow) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == VERSION
    assert perpflow("--version") == (0, f"perpflow {VERSION}\n")


def test_a_bus_and_a_store_that_do_not_answer_are_missing(perpflow: Perpflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_BUS", "kafka:127.0.0.1:1")
    monkeypatch.setenv("PERPFLOW_CLICKHOUSE", "http://127.0.0.1:1")
    code, out = perpflow("doctor", "--json")
    found = {row["name"]: row for row in json.loads(out)}
    assert code == 3
    for name in ("bus", "clickhouse"):
        assert (found[name]["is_good"], found[name]["is_needed"]) == (False, True)
        assert "127.0.0.1:1" in found[name]["detail"]


def test_an_image_without_the_clients_of_venues_asks_none(tmp_path: Path) -> None:
    # A process of its own: modules imported anew here would stay behind in other tests.
    program = (
        "import sys; sys.modules['httpx'] = None; sys.argv = ['perpflow', 'doctor', '--json']; "
        "from services.console.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "PERPFLOW_VAR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    (venue,) = [row for row in json.loads(done.stdout) if row["name"] == "venue"]
    assert not venue["is_good"] and not venue["is_needed"]
    assert venue["detail"].startswith("not asked: httpx")


@pytest.mark.parametrize(
    ("docker", "is_good", "said"),
    [
        ("case $1 in compose) echo v2.26.1 ;; *) echo 20.10.24 ;; esac", True, "Compose 2.26.1, engine 20.10.24"),
        ("case $1 in compose) echo v2.26.1 ;; *) exit 1 ;; esac", False, "the engine does not answer"),
        ("echo 2.17.3", False, "Compose 2.17.3 is too old; install 2.24 or later"),
        ("exit 1", False, "docker-compose is missing; install the plugin"),
    ],
)
def test_compose_is_there_or_what_is_wrong_with_it_is_said(
    docker: str, is_good: bool, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tools(monkeypatch, tmp_path, docker=docker)
    found, detail = examine_compose()
    assert (found, said in detail) == (is_good, True), detail


def test_a_machine_without_docker_lacks_nothing_that_is_needed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools(monkeypatch, tmp_path)
    assert examine_compose()[0] is False
    with pytest.raises(FileNotFoundError):
        subprocess.run(["docker"], check=False)
