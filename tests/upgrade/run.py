"""Goes from the previous release's data to this build and back: `python -m tests.upgrade.run --help`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from libs.bus.api import Bus
from libs.bus.open import open_bus
from libs.clock import SYSTEM_CLOCK
from libs.runtime.listening import ReservedPort
from libs.runtime.snapshots import partitions_of
from libs.store import Store
from libs.wire.topics import FORECASTS, ORDERS
from services.console.summary import summarise_topics
from tests.kit.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
# What stands for the previous release as long as none has a tag.
_UNTAGGED = "7fd9d96"
_SERVICES = ("recorder", "execution", "risk", "strategy", "inference", "features", "bars", "ingestion")
# A first start of the previous release compiles.
_SLOW_S = 900.0
_STOP_S = 60.0
_REFUSAL = "newer than the"


class Session:
    """A session's folder: bus, tables and exchange, and the ports that its processes talk through."""

    def __init__(self, folder: Path, ports: Mapping[str, int], speed: float) -> None:
        self.folder = folder
        self._ports = ports
        self._speed = speed
        self.password = secrets.token_hex(16)

    @property
    def store_url(self) -> str:
        """The address of the tables."""
        return f"http://127.0.0.1:{self._ports['clickhouse']}"

    def open(self) -> Bus:
        """Open the bus."""
        return open_bus(f"sqlite:{self.folder / 'bus.db'}")

    def open_store(self) -> Store:
        """Open the tables."""
        return Store(self.store_url, "perpflow", user="perpflow", password=self.password)

    def environment(self, build: Path, service: str) -> dict[str, str]:
        """Return what a process of a build gets; no setting but its own and the platform's."""
        kept = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")
        own = {
            "exchange": {"PORT": str(self._ports["exchange"]), "SEED": "7", "SPEED": f"{self._speed:g}"},
            "ingestion": {
                "MARKET": "simulated",
                "SPEED": f"{self._speed:g}",
                "EXCHANGE_URL": f"http://127.0.0.1:{self._ports['exchange']}",
            },
            "inference": {"MARKET": "simulated"} if "market:" in _settings_of(build, "inference") else {},
            "execution": {"MODE": "paper"},
        }
        store = {
            "PERPFLOW_CLICKHOUSE": self.store_url,
            "PERPFLOW_CLICKHOUSE_USER": "perpflow",
            "PERPFLOW_CLICKHOUSE_PASSWORD": self.password,
        }
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "PYTHONPATH": str(build),
            "OMP_NUM_THREADS": "1",
            "PERPFLOW_BUS": f"sqlite:{self.folder / 'bus.db'}",
            "PERPFLOW_RUN_DIR": str(self.folder / "run"),
            "PERPFLOW_LOG_FORMAT": "json",
            **{f"PERPFLOW_{service.upper()}_{name}": value for name, value in own.get(service, {}).items()},
            **(store if service == "recorder" else {}),
        }


def _settings_of(build: Path, service: str) -> str:
    return (build / "services" / service / "settings.py").read_text()


class Running:
    """The processes of one build over a session."""

    def __init__(self, build: Path, session: Session, name: str) -> None:
        self._build = build
        self._session = session
        self._logs = session.folder.with_name(f"{session.folder.name}-logs") / name
        self._logs.mkdir(parents=True, exist_ok=True)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, *services: str) -> None:
        """Start services."""
        for service in services:
            self._spawn(service, [sys.executable, "-m", f"services.{service}.main"])

    def create_topics(self) -> None:
        """Make the topics that this build adds."""
        process = self._spawn("topics", [sys.executable, str(self._build / "infra/kafka/create_topics.py")])
        assert process.wait(_SLOW_S) == 0, self.log("topics")
        del self.processes["topics"]

    def _spawn(self, service: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self._logs / f"{service}.log").open("ab") as log:
            self.processes[service] = subprocess.Popen(
                command,
                cwd=self._build,
                env=self._session.environment(self._build, service),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        return self.processes[service]

    def log(self, service: str) -> str:
        """Return the end of what a service wrote."""
        return (self._logs / f"{service}.log").read_text()[-2000:]

    def demand_alive(self) -> None:
        """Fail where one has ended."""
        ended = {name: process.returncode for name, process in self.processes.items() if process.poll() is not None}
        assert not ended, f"{ended}: {self.log(next(iter(ended)))}"

    def stop(self) -> None:
        """Ask all to finish, writers first; each must end with exit code 0."""
        for service in reversed(list(self.processes)):
            process = self.processes.pop(service)
            process.send_signal(signal.SIGTERM)
            assert process.wait(_STOP_S) == 0, f"{service} ended with {process.returncode}: {self.log(service)}"

    def kill(self) -> None:
        """End what is left."""
        for process in self.processes.values():
            process.kill()
            process.wait()


class Upgrade:
    """The phases, in order."""

    def __init__(self, before: Path, session: Session) -> None:
        self._before = before
        self._session = session
        self._started = SYSTEM_CLOCK.monotonic_s()

    def say(self, text: str) -> None:
        """Print a line for whoever waits."""
        print(f"{SYSTEM_CLOCK.monotonic_s() - self._started:6.0f} s  {text}", flush=True)

    def run(self) -> None:
        """From the previous release to this build and back. Raises `AssertionError`."""
        self._trade(self._before, "1-before", "the previous release")
        backup = self._session.folder.with_name("backup")
        shutil.rmtree(backup, ignore_errors=True)
        shutil.copytree(self._session.folder, backup)
        self._trade(ROOT, "2-after", "this build over its data")
        refusals = self._try_back()
        if refusals:
            self.say(f"back on the upgraded data: {', '.join(refusals)} refuse a newer state by name")
            shutil.rmtree(self._session.folder)
            backup.rename(self._session.folder)
        self._trade(self._before, "4-back", "the previous release again" + (", from the backup" if refusals else ""))

    def _trade(self, build: Path, name: str, what: str) -> None:
        with self._running(build, name) as running:
            running.create_topics()
            with self._session.open() as bus:
                before = {topic: _end(bus, topic) for topic in (FORECASTS, ORDERS)}
                running.start("exchange", *_SERVICES)

                def has_gone_on() -> bool:
                    running.demand_alive()
                    return all(_end(bus, topic) > end for topic, end in before.items())

                eventually(has_gone_on, within_s=_SLOW_S, every_s=0.5)
                running.stop()
                made = {topic: _end(bus, topic) - end for topic, end in before.items()}
        self._check()
        self.say(f"{what}: {made[FORECASTS]} forecasts, {made[ORDERS]} order events; topics, tables and orders agree")

    def _try_back(self) -> list[str]:
        """Start the previous release on the upgraded data; return who refuses."""
        with self._running(self._before, "3-refused") as running:
            running.create_topics()
            refused = []
            for service in ("bars", "features", "inference", "strategy", "risk", "execution"):
                running.start(service)
                process = running.processes.pop(service)
                announced = self._session.folder / "run" / f"{service}.json"

                def is_decided(process: subprocess.Popen[bytes] = process, announced: Path = announced) -> bool:
                    return process.poll() is not None or _announces(announced, process.pid)

                eventually(is_decided, within_s=_SLOW_S, every_s=0.2)
                if process.poll() is None:
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(_STOP_S) == 0, running.log(service)
                else:
                    assert _REFUSAL in running.log(service), running.log(service)
                    refused.append(service)
        return refused

    @contextlib.contextmanager
    def _running(self, build: Path, name: str) -> Iterator[Running]:
        running = Running(build, self._session, name)
        try:
            with self._serving_tables():
                yield running
        finally:
            running.kill()

    @contextlib.contextmanager
    def _serving_tables(self) -> Iterator[None]:
        """Serve the tables with this build's server: which ClickHouse there is, is not the release's business."""
        folder = self._session.folder
        password = folder / "password"
        password.touch(0o600)
        password.write_text(self._session.password)
        port = self._session.store_url.rpartition(":")[2]
        with (folder / "clickhouse.log").open("ab") as log:
            server = subprocess.Popen(
                [
                    *(sys.executable, "-m", "infra.local.clickhouse", "--path", str(folder / "clickhouse")),
                    *(
                        "--port",
                        port,
                        "--port-file",
                        str(folder / "run" / "clickhouse"),
                        "--password-file",
                        str(password),
                    ),
                ],
                cwd=ROOT,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            eventually(lambda: (folder / "run" / "clickhouse").exists(), within_s=_SLOW_S)
            yield
        finally:
            server.terminate()
            server.wait(_STOP_S)
            (folder / "run" / "clickhouse").unlink()

    def _check(self) -> None:
        with (
            self._serving_tables(),
            self._session.open() as bus,
            contextlib.closing(self._session.open_store()) as store,
        ):
            summary = summarise_topics(bus)
            rows = store.count_rows(summary["first_offsets"])
        broken = {name: count for name, count in summary["invariants"].items() if count}
        assert not broken, broken
        missing = {
            name: count - rows.get(name, 0) for name, count in summary["topics"].items() if rows.get(name, 0) < count
        }
        assert not missing, f"not in the tables: {missing}"


def _end(bus: Bus, topic: str) -> int:
    return sum(bus.end_offsets(partitions_of(bus, [topic])).values())


def _announces(path: Path, pid: int) -> bool:
    with contextlib.suppress(OSError, ValueError):
        facts = json.loads(path.read_text())
        return facts.get("pid") == pid and facts.get("state") == "running"
    return False


def _git(*words: str) -> str:
    return subprocess.run(("git", *words), cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def _find_release(given: str | None) -> str:
    """Return the commit of the previous release. Raises `CalledProcessError` where the history has it not."""
    named = given or (_git("tag", "--list", "v*", "--sort=-v:refname").splitlines() or [_UNTAGGED])[0]
    return _git("rev-parse", "--verify", f"{named}^{{commit}}")


def main() -> int:
    """Run the phases; 0 when all held, or the repository's history is not here."""
    parser = argparse.ArgumentParser(prog="python -m tests.upgrade.run", description=__doc__)
    parser.add_argument("--from", dest="release", metavar="REF", help="the previous release; the last tag by default")
    parser.add_argument("--speed", type=float, default=30.0, help="market seconds per second")
    given = parser.parse_args()
    try:
        release = _find_release(given.release)
    except (OSError, subprocess.CalledProcessError):
        print(f"skipped: the repository's history has no {given.release or 'previous release'} here")
        return 0
    folder = ROOT / "var" / "upgrade"
    # Kept, with what was compiled in it.
    before = folder / release[:12]
    if not before.exists():
        before.mkdir(parents=True)
        with subprocess.Popen(("git", "archive", release), cwd=ROOT, stdout=subprocess.PIPE) as archive:
            subprocess.run(("tar", "-x", "-C", before), stdin=archive.stdout, check=True)
    for name in ("session", "session-logs", "backup"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "session" / "run").mkdir(parents=True)
    with contextlib.ExitStack() as reserved:
        ports = {name: reserved.enter_context(ReservedPort()).number for name in ("exchange", "clickhouse")}
        upgrade = Upgrade(before, Session(folder / "session", ports, given.speed))
        upgrade.say(f"from {_git('log', '-1', '--format=%h of %as', release)} to {_git('log', '-1', '--format=%h')}")
        upgrade.run()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
