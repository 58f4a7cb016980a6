"""Finds a Kafka broker for tests, or starts one and ends exactly that process.

Looked for in this order: an address in `PERPFLOW_TEST_KAFKA`; an Apache Kafka under `KAFKA_HOME`; one under
`../shared/kafka`. The last two need Java 17 or later. Whichever it is gets printed; where there is none, tests skip
with the reason.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from libs.bus.api import BusUnavailable
from libs.bus.kafka import KafkaBus

REPOSITORY = Path(__file__).resolve().parents[2]
_START_TIMEOUT_S = 90.0
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


class NoKafka(Exception):
    """No broker was given and none can be started here; the text says why."""


@dataclass(frozen=True, slots=True)
class FoundKafka:
    """A broker that answers at `address` (HOST:PORT), and where it came from."""

    address: str
    origin: str


@functools.cache
def find_kafka() -> FoundKafka:
    """Return the one broker of this test process, started at the first call. Raises `NoKafka`."""
    given = os.environ.get("PERPFLOW_TEST_KAFKA")
    if given:
        with KafkaBus(given):
            return _print_origin(FoundKafka(given, "PERPFLOW_TEST_KAFKA"))
    shared = Path(os.environ.get("PERPFLOW_SHARED", REPOSITORY.parent / "shared"))
    homes = {"KAFKA_HOME": os.environ.get("KAFKA_HOME"), "../shared/kafka": str(shared / "kafka")}
    java = shutil.which("java")
    for origin, home in homes.items():
        if home and (Path(home) / "libs").is_dir():
            if java is None:
                raise NoKafka(f"Kafka lies at {home} but there is no java on the path: install Java 17 or later")
            return _print_origin(FoundKafka(_start(Path(home), java), f"{origin}: {home}"))
    raise NoKafka("no Kafka: set PERPFLOW_TEST_KAFKA=HOST:PORT or KAFKA_HOME=DIR")


def _print_origin(found: FoundKafka) -> FoundKafka:
    print(f"tests use Kafka at {found.address} ({found.origin})", file=sys.__stderr__, flush=True)
    return found


def _start(home: Path, java: str) -> str:
    directory = Path(tempfile.mkdtemp(prefix="perpflow-kafka-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    port, controller = _free_port(), _free_port()
    properties = directory / "server.properties"
    properties.write_text(_properties(directory, port, controller))
    config = next((home / place for place in ("log4j2.yaml", "config/log4j2.yaml") if (home / place).exists()), None)
    command = [java, "-XX:+UseSerialGC", "-Xms256m", "-Xmx512m", "-cp", f"{home}/libs/*"]
    if config is not None:
        command.insert(1, f"-Dlog4j2.configurationFile={config}")
    subprocess.run(
        [*command, "kafka.tools.StorageTool", "format", "-t", "perpflowTests00000000w", "-c", str(properties)],
        check=True,
        capture_output=True,
        timeout=_START_TIMEOUT_S,
    )
    log = directory / "broker.log"
    with log.open("wb") as output:
        broker = subprocess.Popen(
            [*command, "kafka.Kafka", str(properties)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )
    atexit.register(_end, broker)
    _await_answer(broker, f"127.0.0.1:{port}", log)
    return f"127.0.0.1:{port}"


def _properties(directory: Path, port: int, controller: int) -> str:
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{port}",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": directory / "data",
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        "broker.heartbeat.interval.ms": 250,
        "broker.session.timeout.ms": 1500,
        # What a broker does to topics by its own schedule, it does at once.
        "log.cleaner.backoff.ms": 500,
        "log.retention.check.interval.ms": 2_000,
        "log.segment.delete.delay.ms": 1_000,
    }
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _await_answer(broker: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while True:
        if broker.poll() is not None:
            raise NoKafka(f"the broker ended at once with {broker.returncode}: {log.read_text()[-2000:]}")
        try:
            with KafkaBus(address, connect_timeout_s=2.0):
                return
        except BusUnavailable:
            if time.monotonic() > deadline:
                raise


def _end(broker: subprocess.Popen[bytes]) -> None:
    broker.kill()
    broker.wait(timeout=20)


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
