"""The GitHub workflows: linted, and about what is really here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from services.console.plan import RUNNABLE_SERVICES
from tests.unit.infra.files import ROOT, find_tool, read_yaml, run_tool

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def test_workflows_pass_their_linter() -> None:
    run_tool(find_tool("actionlint", "https://github.com/rhysd/actionlint"), "-no-color", *WORKFLOWS)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_may_only_read_unless_a_job_says_why_not_and_ends_by_itself(path: Path) -> None:
    workflow = read_yaml(path)
    assert workflow["permissions"] == {"contents": "read"}
    for name, job in workflow["jobs"].items():
        assert job["timeout-minutes"] <= 120, name


def test_every_image_is_released() -> None:
    release = read_yaml(ROOT / ".github" / "workflows" / "release.yml")
    assert set(release["jobs"]["images"]["strategy"]["matrix"]["service"]) == {*RUNNABLE_SERVICES, "outbox", "cli"}


def test_every_python_that_the_project_takes_is_checked() -> None:
    matrix = read_yaml(ROOT / ".github" / "workflows" / "check.yml")["jobs"]["check"]["strategy"]["matrix"]["python"]
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert wanted == ">=3.11,<3.14"
    assert matrix == ["3.11", "3.12", "3.13"]


def test_workflows_use_servers_of_the_versions_that_compose_runs() -> None:
    compose = (ROOT / "docker-compose.yml").read_text()
    job = read_yaml(ROOT / ".github" / "workflows" / "integration.yml")["jobs"]["servers"]
    pulled = [step["run"].split()[-1] for step in job["steps"] if step.get("run", "").startswith("docker pull")]
    assert len(pulled) == 1
    for image in (*(service["image"] for service in job["services"].values()), *pulled):
        assert f"image: {image}\n" in compose


def test_targets_that_workflows_make_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in WORKFLOWS:
        for line in re.findall(r"run: make PYTHON=python (.+)", path.read_text()):
            assert set(line.split()) <= targets, path.name
