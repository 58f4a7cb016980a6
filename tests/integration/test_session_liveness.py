"""A whole session against hangs, a lost bus file, a second `up` and the death of its supervisor."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from libs.runtime.metrics import read_announcement
from tests.kit.platform import Platform
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(900)
# Spread: each service is stopped, hung or killed by its name.
SESSION = (
    *("up", "--market", "simulated", "--seed", "5", "--speed", "20", "--port", "0", "--session", "one"),
    *("--layout", "spread"),
)


class Running:
    """A session that runs until somebody ends it."""

    def __init__(self, folder: Path) -> None:
        self.platform = Platform(folder, XDG_STATE_HOME=str(folder))
        self.folder = folder / "var" / "sessions" / "one"
        self.output = folder / "output"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.console", *SESSION],
                cwd=folder,
                env=self.platform.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def state_of(self, service: str) -> object:
        return self.platform.status().get(service, {}).get("state")

    def pids(self) -> dict[str, int]:
        return {name: facts["pid"] for name, facts in self.platform.status().items() if facts["pid"] is not None}

    def await_running(self) -> None:
        eventually(
            lambda: (
                self.process.poll() is not None
                or (
                    len(self.platform.status()) == 11 and set(map(self.state_of, self.platform.status())) == {"running"}
                )
            ),
            within_s=200,
        )
        assert self.process.poll() is None, self.output.read_text()


@contextmanager
def a_session(folder: Path) -> Iterator[Running]:
    running = Running(folder)
    try:
        running.await_running()
        yield running
    finally:
        running.process.kill()
        running.process.wait()


def test_a_hung_risk_halts_trading_and_comes_back_a_second_up_changes_nothing_and_no_child_outlives_the_supervisor(
    tmp_path: Path,
) -> None:
    with a_session(tmp_path) as session:
        kept = (session.folder / "session.json").read_bytes()
        again = session.platform.call(*SESSION)
        assert again.returncode == 2, again.stderr
        assert "exists already" in again.stderr or "runs already" in again.stderr
        assert (session.folder / "session.json").read_bytes() == kept
        assert read_announcement(session.folder / "run" / "supervisor.json")["pid"] == session.process.pid

        risk = session.pids()["risk"]
        os.kill(risk, signal.SIGSTOP)
        eventually(lambda: session.state_of("risk") == "hung", within_s=60)
        eventually(lambda: session.state_of("risk") == "running" and session.pids()["risk"] != risk, within_s=100)
        eventually(lambda: accounts_of(session) == {"HALTED"}, within_s=100)

        children = session.pids()
        assert len(children) == 11
        os.kill(children["recorder"], signal.SIGSTOP)
        session.process.kill()
        session.process.wait()
        eventually(lambda: not [name for name, pid in children.items() if is_running(pid)], within_s=2.0)


def test_a_bus_file_that_is_removed_ends_the_session_with_one_line_and_is_not_made_anew(tmp_path: Path) -> None:
    with a_session(tmp_path) as session:
        bus = session.folder / "bus.db"
        bus.unlink()
        assert session.process.wait(timeout=100) == 3
        assert "stopped: the bus is lost" in " ".join(session.output.read_text().split())
        assert not bus.exists()
        told = session.platform.call("status", "--session", "one")
        assert "the bus is lost" in " ".join(told.stdout.split())
        assert not bus.exists()
        assert "Traceback" not in session.output.read_text() + told.stderr


def accounts_of(session: Running) -> set[str]:
    told = session.platform.call("status", "--session", "one", "--json")
    return {row["trading_state"] for row in json.loads(told.stdout)["accounts"] or ()}


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
