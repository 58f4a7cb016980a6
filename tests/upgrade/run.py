"""Goes from the previous release's data to this build and back: `python -m tests.upgrade.run --help`."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from libs.bus.api import TopicPartition
from libs.bus.open import open_bus
from libs.clock import SYSTEM_CLOCK
from libs.runtime.listening import ReservedPort
from libs.runtime.snapshots import SnapshotPlace, read_snapshots
from libs.wire.topics import CORE_SERVICES, FORECASTS, ORDERS, journal_topic, state_topic
from tests.kit.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
# What stands for the previous release as long as none has a tag.
_UNTAGGED = "7fd9d96"
_SERVICES = ("recorder", "execution", "risk", "strategy", "inference", "features", "bars", "ingestion")
# A first start of the previous release compiles.
_SLOW_S = 900.0
_STOP_S = 60.0
# A state that is newer than the build, and a bus file.
_REFUSALS = ("newer than the", "is not a bus file of format")
_CHECK = Path(__file__).with_name("check.py")


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

    @property
    def bus(self) -> str:
        """The address of the bus."""
        return f"sqlite:{self.folder / 'bus.db'}"

    def count(self, topic: str) -> int:
        """Return the sum of a topic's end offsets. The file is only read: its format is the running build's."""
        with contextlib.closing(sqlite3.connect(f"file:{self.folder / 'bus.db'}?mode=ro", uri=True)) as file:
            of_topic = "SELECT partitions.id FROM partitions JOIN topics ON topics.id = topic_id WHERE name = ?"
            return sum(
                file.execute(f"SELECT ifnull(max(offset) + 1, 0) FROM log_{number}").fetchone()[0]
                for (number,) in file.execute(of_topic, (topic,)).fetchall()
            )

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
            "PERPFLOW_BUS": self.bus,
            "PERPFLOW_RUN_DIR": str(self.folder / "run"),
            "PERPFLOW_LOG_FORMAT": "json",
            **{f"PERPFLOW_{service.upper()}_{name}": value for name, value in own.get(service, {}).items()},
            **(store if service in ("recorder", "check") else {}),
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

    def create_topics(self) -> int:
        """Make the topics that this build adds; return the exit code."""
        return self._call("topics", [sys.executable, str(self._build / "infra/kafka/create_topics.py")])

    def check(self) -> None:
        """Hold topics, tables and orders against one another, by this build's code."""
        command = [sys.executable, str(_CHECK), self._session.bus, self._session.store_url]
        assert self._call("check", command) == 0, self.log("check")

    def replay(self, begins: Mapping[str, SnapshotPlace]) -> int:
        """Verify by this build's code what each core decided, on a copy of the bus; return how many outputs.

        A core named in `begins` is replayed from that snapshot on: what an older build decided before is its own.
        """
        copy = self._session.folder.with_name("replayed")
        outputs = 0
        for service in CORE_SERVICES:
            copy.mkdir()
            try:
                for file in self._session.folder.glob("bus.db*"):
                    # The sockets of its notifier lie in a folder beside it.
                    if file.is_file():
                        shutil.copy(file, copy)
                if service in begins:
                    _begin_at(begins[service], service, f"sqlite:{copy / 'bus.db'}")
                done = subprocess.run(
                    [sys.executable, "-m", f"services.{service}.main", "verify", "0"],
                    cwd=self._build,
                    env=self._session.environment(self._build, service) | {"PERPFLOW_BUS": f"sqlite:{copy / 'bus.db'}"},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    check=False,
                )
            finally:
                shutil.rmtree(copy)
            assert done.returncode == 0, f"replay of {service}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
            answer = json.loads(done.stdout)
            assert answer["difference"] is None, answer
            assert (answer["verified_from"] is not None) is (service in begins), answer
            outputs += answer["outputs"]
        return outputs

    def _call(self, name: str, command: list[str]) -> int:
        process = self._spawn(name, command)
        code = process.wait(_SLOW_S)
        del self.processes[name]
        return code

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
        # ClickHouse keeps its tables behind links.
        shutil.copytree(self._session.folder, backup, symlinks=True)
        self._trade(ROOT, "2-after", "this build over its data")
        refusals = self._try_back()
        if refusals:
            self.say(f"back on the upgraded data: {', '.join(refusals)} refuse what is newer by name")
            shutil.rmtree(self._session.folder)
            backup.rename(self._session.folder)
        self._trade(self._before, "4-back", "the previous release again" + (", from the backup" if refusals else ""))

    def _trade(self, build: Path, name: str, what: str) -> None:
        session = self._session
        with self._running(build, name) as running:
            assert running.create_topics() == 0, running.log("topics")
            before = {topic: session.count(topic) for topic in (FORECASTS, ORDERS)}
            begins = newest_snapshots(session.bus) if build == ROOT else {}
            running.start("exchange", *_SERVICES)

            def has_gone_on() -> bool:
                running.demand_alive()
                return all(session.count(topic) > count for topic, count in before.items())

            eventually(has_gone_on, within_s=_SLOW_S, every_s=0.5)
            running.stop()
            running.check()
            replayed = running.replay(begins)
        made = {topic: session.count(topic) - count for topic, count in before.items()}
        self.say(
            f"{what}: {made[FORECASTS]} forecasts, {made[ORDERS]} order events; topics, tables and orders agree, "
            f"{replayed} outputs replayed byte for byte"
        )

    def _try_back(self) -> list[str]:
        """Start the previous release on the upgraded data; return who refuses."""
        with self._running(self._before, "3-refused") as running:
            if running.create_topics():
                assert _is_refusal(running.log("topics")), running.log("topics")
                return ["the bus"]
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
                    assert _is_refusal(running.log(service)), running.log(service)
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


def newest_snapshots(address: str) -> dict[str, SnapshotPlace]:
    """Return where the newest snapshot of each core stands, of those that have one."""
    found = {}
    with open_bus(address) as bus:
        for service in CORE_SERVICES:
            state = TopicPartition(state_topic(service), 0)
            begin, end = bus.beginning_offsets([state])[state], bus.end_offsets([state])[state]
            for place, _ in read_snapshots(bus, service, 0, begin, end):
                found[service] = place
    return found


def _begin_at(place: SnapshotPlace, service: str, address: str) -> None:
    """Remove what a service read, noted and kept before one of its snapshots, so that its replay begins there."""
    with open_bus(address) as bus:
        bus.delete_before(
            {
                **place.inputs,
                TopicPartition(journal_topic(service), 0): place.journal,
                TopicPartition(state_topic(service), 0): place.offset,
            }
        )


def _is_refusal(log: str) -> bool:
    return any(words in log for words in _REFUSALS)


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
