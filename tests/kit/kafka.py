"""Finds a Kafka broker for tests, or starts one and ends exactly that process.

Looked for in this order: an address in `PERPFLOW_TEST_KAFKA`; a container by testcontainers, where a Docker engine
answers and has or can pull the image of docker-compose.yml; an Apache Kafka under `KAFKA_HOME`; one under
`../shared/kafka`. The last two need Java 17 or later. Whichever it is gets printed; where there is none, tests skip
with the reason.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from libs.bus.api import BusDenied, BusUnavailable
from libs.bus.kafka import KafkaBus
from libs.bus.security import KafkaSecurity
from libs.clock import Deadline
from libs.runtime.listening import ReservedPort

REPOSITORY = Path(__file__).resolve().parents[2]
# A broker that was killed reads its logs first, which takes minutes on a busy machine.
_START_TIMEOUT_S = 300.0
_SET_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)
_NO_SECURITY = KafkaSecurity()
# A test's broker lives for seconds: the second compiler takes more time than it saves. What measures, or runs for
# minutes, takes `LONG_LIFE`, by the variable that Kafka's own scripts read.
_SHORT_LIFE = "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"
LONG_LIFE = {"KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC"}
# A small broker that does at once what it does to topics by its own schedule.
_IN_HASTE = {
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "broker.heartbeat.interval.ms": 250,
    "broker.session.timeout.ms": 1500,
    "log.cleaner.backoff.ms": 500,
    "log.retention.check.interval.ms": 2_000,
    "log.segment.delete.delay.ms": 1_000,
}


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
    container = start_kafka_container()
    if container is not None:
        return _print_origin(container)
    home = _home()
    if home is None:
        raise NoKafka("no Kafka: set PERPFLOW_TEST_KAFKA=HOST:PORT or KAFKA_HOME=DIR, or start a Docker engine")
    java = shutil.which("java")
    if java is None:
        raise NoKafka(f"Kafka lies at {home} but there is no java on the path: install Java 17 or later")
    return _print_origin(FoundKafka(_start(home, java), str(home)))


def start_kafka_container() -> FoundKafka | None:
    """Start a broker in a container that ends with this process; None where no engine answers or has the image."""
    try:
        from docker.errors import DockerException
        from testcontainers.core.config import testcontainers_config
        from testcontainers.core.container import DockerContainer
    except ImportError:
        return None
    compose = (REPOSITORY / "docker-compose.yml").read_text()
    image = next(line.split("image: ")[1] for line in compose.splitlines() if "image: apache/kafka" in line)
    # Its own watcher is one more image to pull; the container is stopped when this process ends.
    testcontainers_config.ryuk_disabled = True
    with ReservedPort() as port:
        number = port.number
    address = f"127.0.0.1:{number}"
    lines = (REPOSITORY / "infra" / "kafka" / "broker.env").read_text().splitlines()
    environment = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    environment |= {f"KAFKA_{name.replace('.', '_').upper()}": str(value) for name, value in _IN_HASTE.items()}
    environment["KAFKA_ADVERTISED_LISTENERS"] = f"PLAINTEXT://{address}"
    broker: DockerContainer | None = None
    with suppress(DockerException, OSError):
        broker = DockerContainer(image, env=environment).with_bind_ports(9092, number).start()
    if broker is None:
        # The client of an engine that does not answer leaves its sockets to the garbage collector, which would warn of
        # them in the middle of any test.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()
        return None
    atexit.register(broker.stop)
    deadline = Deadline(_START_TIMEOUT_S)
    while True:
        try:
            with KafkaBus(address, connect_timeout_s=2.0):
                return FoundKafka(address, f"testcontainers, {image}")
        except BusUnavailable:
            if deadline.is_over:
                raise


def _home() -> Path | None:
    shared = Path(os.environ.get("PERPFLOW_SHARED", REPOSITORY.parent / "shared"))
    for home in (os.environ.get("KAFKA_HOME"), str(shared / "kafka")):
        if home and (Path(home) / "libs").is_dir():
            return Path(home)
    return None


def _print_origin(found: FoundKafka) -> FoundKafka:
    print(f"tests use Kafka at {found.address} ({found.origin})", file=sys.__stderr__, flush=True)
    return found


def _start(home: Path, java: str) -> str:
    broker = KafkaBroker(home, java)
    atexit.register(broker.close)
    return broker.address


@contextmanager
def a_kafka(
    properties: Mapping[str, object] | None = None, security: KafkaSecurity | None = None
) -> Iterator[KafkaBroker]:
    """Run a broker of a test's own; `properties` with their listeners go over the usual ones. Raises `NoKafka`."""
    java, home = shutil.which("java"), _home()
    if java is None or home is None:
        raise NoKafka("no Kafka of a test's own: set KAFKA_HOME=DIR and install Java 17 or later")
    broker = KafkaBroker(home, java, properties or {}, security or KafkaSecurity())
    try:
        yield broker
    finally:
        broker.close()


class KafkaBroker:
    """One node in a folder of its own, which goes with it. `{port}` in a property is the port of `address`."""

    def __init__(
        self,
        home: Path,
        java: str,
        properties: Mapping[str, object] | None = None,
        security: KafkaSecurity = _NO_SECURITY,
    ) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="perpflow-kafka-"))
        # Java's server sockets set SO_REUSEADDR too.
        self._ports = (ReservedPort(), ReservedPort())
        port, controller = (each.number for each in self._ports)
        self.address = f"127.0.0.1:{port}"
        self._security = security
        config = self.directory / "server.properties"
        config.write_text(_properties(self.directory, port, controller, properties or {}))
        self._command = _java_command(home, java)
        self._config = config
        self._log = self.directory / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        shutil.copytree(_formatted_storage(home, java), self.directory / "data")
        self.start()

    def start(self) -> None:
        """Start it, again after a `kill`, and wait for its first answer."""
        self.launch()
        assert self._process is not None
        _await_answer(self._process, self.address, self._log, self._security)

    def launch(self) -> None:
        """Start it and wait for nothing. It ends with the thread that calls this."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [*self._command, "kafka.Kafka", str(self._config)],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=_die_with_parent if sys.platform == "linux" else None,
            )

    def configure(self, properties: Mapping[str, object]) -> None:
        """Set properties for its next start."""
        with self._config.open("a") as config:
            # The last line of a name counts.
            config.writelines(f"{name}={value}\n" for name, value in properties.items())

    def kill(self) -> None:
        """Kill it, as a crash would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=20)

    def close(self) -> None:
        """End it and remove its folder."""
        self.kill()
        for port in self._ports:
            port.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def _java_command(home: Path, java: str) -> list[str]:
    options = os.environ.get("KAFKA_JVM_PERFORMANCE_OPTS", _SHORT_LIFE).split()
    logs = next((home / place for place in ("log4j2.yaml", "config/log4j2.yaml") if (home / place).exists()), None)
    if logs is not None:
        options.append(f"-Dlog4j2.configurationFile={logs}")
    return [java, *options, "-Xms256m", "-Xmx512m", "-cp", f"{home}/libs/*"]


@functools.cache
def _formatted_storage(home: Path, java: str) -> Path:
    """Return a folder as an empty broker has it, the same for all: it names the node and the cluster, no port."""
    directory = Path(tempfile.mkdtemp(prefix="perpflow-kafka-"))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    config = directory / "server.properties"
    config.write_text(_properties(directory, 1, 2, {}))
    words = ("kafka.tools.StorageTool", "format", "-t", "perpflowTests00000000w", "-c", str(config))
    subprocess.run([*_java_command(home, java), *words], check=True, capture_output=True, timeout=_START_TIMEOUT_S)
    return directory / "data"


def _properties(directory: Path, port: int, controller: int, more: Mapping[str, object]) -> str:
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
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "group.initial.rebalance.delay.ms": 0,
        **_IN_HASTE,
    }
    for name, value in more.items():
        settings[name] = str(value).replace("{port}", str(port)).replace("{controller}", str(controller))
    return "".join(f"{name}={value}\n" for name, value in settings.items())


def _await_answer(broker: subprocess.Popen[bytes], address: str, log: Path, security: KafkaSecurity) -> None:
    deadline = Deadline(_START_TIMEOUT_S)
    while True:
        if broker.poll() is not None:
            raise NoKafka(f"the broker ended at once with {broker.returncode}: {log.read_text()[-2000:]}")
        try:
            with KafkaBus(address, connect_timeout_s=2.0, security=security):
                return
        except (BusUnavailable, BusDenied):
            # Before it has read its credentials a broker may refuse the right ones.
            if deadline.is_over:
                raise


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
