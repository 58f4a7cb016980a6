"""Reading the deployment files and finding the tools that check them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from libs.runtime.configuration import CONFIG_VARIABLE
from libs.runtime.settings import PlatformSettings, secret_file_variables, service_prefix, variables_of
from libs.wire.topics import OUTBOX
from services.console.registry import secret_variables, settings_models

yaml = pytest.importorskip("yaml", reason="PyYAML reads the deployment files: pip install pyyaml")

ROOT = Path(__file__).resolve().parents[3]
INFRA = ROOT / "infra"


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def find_tool(name: str, how: str) -> str:
    """Return the path of a tool, or skip with how to get it."""
    shared = Path(os.environ.get("PERPFLOW_SHARED", ROOT.parent / "shared"))
    places = (shutil.which(name), Path(sys.executable).parent / name, shared / "tools" / name)
    found = next((str(place) for place in places if place is not None and Path(place).is_file()), None)
    if found is None:
        pytest.skip(f"{name} is not here: {how}")
    return found


def run_tool(*command: str | Path) -> str:
    """Run a tool; fail with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT, check=False)
    assert done.returncode == 0, f"{command[0]}: {done.stdout}{done.stderr}"
    return done.stdout


def known_variables() -> set[str]:
    """Return every environment variable that some settings read, and those that name a secret's file."""
    return {variable for kind in settings_models().values() for variable in _read_by(kind)}


def _read_by(kind: type[BaseSettings]) -> set[str]:
    return {*variables_of(kind).values(), *secret_file_variables(kind).values()}


def unknown_variables(names: set[str]) -> set[str]:
    """Return those of perpflow's variables that nothing reads."""
    return {name for name in names if name.startswith("PERPFLOW_")} - known_variables() - {CONFIG_VARIABLE}


def settings_of(process: str) -> set[str]:
    """Return the variables that a process reads: its own settings and the platform's, the recorder's store too.

    The outbox has execution's; the job that creates the topics has the platform's alone.
    """
    models = settings_models()
    own = "execution" if process == OUTBOX else process
    kinds = ["platform", *([own] if own in models else []), *(["store"] if process == "recorder" else [])]
    return {variable for kind in kinds for variable in _read_by(models[kind])}


def foreign_settings(process: str, names: set[str]) -> set[str]:
    """Return those of perpflow's variables that are none of the process's business."""
    return {name for name in names if name.startswith("PERPFLOW_")} - settings_of(process) - {CONFIG_VARIABLE}


def foreign_secrets(service: str, names: set[str]) -> set[str]:
    """Return the secrets among `names` that are none of the service's business."""
    own = {name for name in names if name.startswith(service_prefix(service))}
    store = {"PERPFLOW_CLICKHOUSE_PASSWORD", "PERPFLOW_CLICKHOUSE_PASSWORD_FILE"} if service == "recorder" else set()
    platform = set(variables_of(PlatformSettings).values())
    secrets = secret_variables(settings_models())
    return names & (secrets | {f"{name}_FILE" for name in secrets}) - own - store - platform
