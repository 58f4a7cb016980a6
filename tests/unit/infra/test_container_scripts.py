"""What runs in every container before and beside its service: the entry point and the health checks."""

from __future__ import annotations

import fcntl
import os
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.kit.kafka import NoKafka, find_kafka
from tests.unit.infra.files import INFRA

FLAGS = "flags\t\t: fpu movbe f16c abm bmi1 avx2 bmi2 fma"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """The folders of an image: compiled cores, an interpreter that says what it was given, an empty cache."""
    (tmp_path / "cores" / "kernels").mkdir(parents=True)
    (tmp_path / "cores" / "kernels" / "core.nbi").write_text("compiled")
    (tmp_path / "cores" / "cpu").write_text("x86-64-v3\n")
    (tmp_path / "cores" / "key").write_text("0123456789abcdef\n")
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{FLAGS}\n")
    (tmp_path / "cache").mkdir()
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin" / "python"
    python.write_text('#!/bin/sh\necho "$NUMBA_CACHE_DIR|${NUMBA_CPU_NAME-own}|${PERPFLOW_REPLICA-none}|$*"\n')
    python.chmod(0o755)
    return tmp_path


def start(image: Path, *arguments: str, **variables: str) -> tuple[str, str, str, str]:
    """Run the entry point; return the folder of cores, the processor they are for, the replica, the arguments."""
    environment: Mapping[str, str] = {
        "PATH": f"{image / 'bin'}:{os.environ['PATH']}",
        "PERPFLOW_CORES": str(image / "cores"),
        "PERPFLOW_CORES_CACHE": str(image / "cache"),
        "PERPFLOW_CPUINFO": str(image / "cpuinfo"),
        **variables,
    }
    done = subprocess.run(
        [INFRA / "docker" / "start", *arguments], env=environment, capture_output=True, text=True, check=True
    )
    folder, cpu, replica, given = done.stdout.strip().split("|")
    return folder, cpu, replica, given


def test_a_service_finds_the_cores_of_its_image(image: Path) -> None:
    folder, cpu, _, given = start(image, "verify", "0", SERVICE="bars")
    assert (cpu, given) == ("x86-64-v3", "-m services.bars.main verify 0")
    assert (Path(folder) / "core.nbi").read_text() == "compiled"
    (Path(folder) / "core.nbi").write_text("compiled since")
    assert start(image, SERVICE="bars")[0] == folder
    assert (Path(folder) / "core.nbi").read_text() == "compiled since"


def test_an_older_processor_compiles_for_itself_in_a_folder_of_its_own(image: Path) -> None:
    (image / "cpuinfo").write_text(f"{FLAGS.replace(' avx2', '')}\n")
    folder, cpu, _, _ = start(image, SERVICE="bars")
    assert cpu == "own"
    assert folder != start(image, SERVICE="bars", PERPFLOW_CPUINFO=str(image / "other"))[0].removesuffix("-own")


def test_another_image_has_another_folder(image: Path) -> None:
    first = start(image, SERVICE="bars")[0]
    (image / "cores" / "key").write_text("fedcba9876543210\n")
    assert start(image, SERVICE="bars")[0] != first


@pytest.mark.parametrize(
    ("service", "module"),
    [
        ("risk", "services.risk.main"),
        ("outbox", "services.execution.outbox"),
        ("cli", "services.console"),
        ("training", "services.console"),
    ],
)
def test_each_image_starts_its_own_program(service: str, module: str, image: Path) -> None:
    assert start(image, "one", "two words", SERVICE=service)[3] == f"-m {module} one two words"


def test_replicas_take_the_lowest_number_that_no_other_holds(image: Path) -> None:
    shared = {"SERVICE": "bars", "PERPFLOW_PARTITIONS": "4"}
    assert start(image, **shared)[2] == "0"
    with (image / "cache" / ".replica-bars-0").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert start(image, **shared)[2] == "1"
    assert start(image, **shared)[2] == "0"
    assert start(image, **shared, PERPFLOW_REPLICA="7")[2] == "7"
    assert start(image, SERVICE="bars")[2] == "none"
    assert start(image, SERVICE="monitoring", PERPFLOW_PARTITIONS="4")[2] == "none"
    assert start(image, SERVICE="recorder")[2] == "0"


class Answers:
    """A service's health port: the status of each path, changed by a test."""

    def __init__(self) -> None:
        self.status = {"/live": 200, "/ready": 200}


@contextmanager
def a_health_port(answers: Answers) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answers.status[self.path])
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Not of interest."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def check(port: int, state: Path, victim: str = "services.nobody.") -> tuple[int, str]:
    """Run the health check; what it would end is named by `victim`, which no process of this machine is."""
    script = (INFRA / "docker" / "health").read_text().replace("^services\\.", f"^{victim}".replace(".", "\\."))
    done = subprocess.run(
        ["bash", "-c", script],
        env={**os.environ, "HEALTH_PORT": str(port), "PERPFLOW_HEALTH_STATE": str(state)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.strip()


def test_healthy_is_who_is_ready(tmp_path: Path) -> None:
    answers = Answers()
    with a_health_port(answers) as port:
        assert check(port, tmp_path / "state") == (0, "")
        answers.status["/ready"] = 503
        assert check(port, tmp_path / "state") == (1, "not ready")


@pytest.mark.slow
def test_who_makes_no_progress_in_three_checks_is_ended_and_who_only_waits_is_not(tmp_path: Path) -> None:
    state, answers = tmp_path / "state", Answers()
    name = f"services.hung{os.getpid()}."
    victim = subprocess.Popen(["python3", "-c", "import sys; sys.stdin.read()", f"{name}main"], stdin=subprocess.PIPE)
    try:
        with a_health_port(answers) as port:
            # Before it has answered once it is only starting.
            answers.status["/live"] = 503
            assert [check(port, state, name)[1] for _ in range(4)] == ["starting"] * 4
            answers.status |= {"/live": 200, "/ready": 503}
            assert [check(port, state, name)[1] for _ in range(4)] == ["not ready"] * 4
            answers.status["/live"] = 503
            assert [check(port, state, name)[1] for _ in range(2)] == ["", ""]
            assert victim.poll() is None
            assert check(port, state, name) == (1, "no progress: killed")
        assert victim.wait(timeout=60) == -9
    finally:
        victim.kill()
        victim.communicate()


@pytest.mark.slow
def test_brokers_health_is_its_answer_to_a_request() -> None:
    try:
        host, port = find_kafka().address.split(":")
    except NoKafka as reason:
        pytest.skip(str(reason))
    assert subprocess.run(["bash", INFRA / "kafka" / "health", host, port], check=False, timeout=60).returncode == 0


def test_what_is_no_broker_is_unhealthy() -> None:
    with a_health_port(Answers()) as port:
        done = subprocess.run(
            ["bash", INFRA / "kafka" / "health", "127.0.0.1", str(port)], check=False, timeout=60, capture_output=True
        )
    assert done.returncode == 1
    gone = subprocess.run(["bash", INFRA / "kafka" / "health", "127.0.0.1", "1"], check=False, capture_output=True)
    assert gone.returncode == 1
