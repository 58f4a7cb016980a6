"""The supervisor restarts what dies, gives up on what cannot live, and stops everything it started."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.console.plan import ProcessSpec
from services.console.supervisor import GaveUp, Supervisor
from tests.kit.waiting import eventually

ANNOUNCE = """
import json, os, pathlib, sys, signal, threading
run_dir = pathlib.Path(os.environ["PERPFLOW_RUN_DIR"])
(run_dir / "worker.json").write_text(json.dumps({"pid": os.getpid(), "state": "running"}))
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
"""


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, lines: list[tuple[str, str]]) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path / "run", tmp_path / "logs", lambda service, line: lines.append((service, line)))
    yield made
    made.stop()


def worker(tmp_path: Path, code: str, *, ends_by_itself: bool = False) -> ProcessSpec:
    environment = {**os.environ, "PERPFLOW_RUN_DIR": str(tmp_path / "run")}
    return ProcessSpec("worker", (sys.executable, "-c", ANNOUNCE + code), environment, ends_by_itself)


def test_a_killed_process_is_started_again(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.start([worker(tmp_path, "stop.wait()")])
    eventually(lambda: supervisor.states() == {"worker": "running"}, step=supervisor.watch)
    first = supervisor.pids()["worker"]
    os.kill(first, signal.SIGKILL)
    eventually(lambda: supervisor.pids().get("worker", first) != first, step=supervisor.watch)
    eventually(lambda: supervisor.states() == {"worker": "running"}, step=supervisor.watch)
    assert supervisor.restarts() == 1
    status = json.loads((tmp_path / "run" / "supervisor.json").read_text())
    assert status["services"]["worker"] == {"pid": supervisor.pids()["worker"], "state": "running", "restarts": 1}


def test_a_process_that_ends_by_itself_is_finished_and_not_restarted(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.start([worker(tmp_path, "", ends_by_itself=True)])
    eventually(lambda: supervisor.states() == {"worker": "finished"}, step=supervisor.watch)
    assert supervisor.restarts() == 0


def test_bad_input_is_given_up_at_once_with_its_own_words(tmp_path: Path, supervisor: Supervisor) -> None:
    said = json.dumps({"level": "error", "event": "bad input", "reason": "PERPFLOW_X=1: no such thing"})
    supervisor.start([worker(tmp_path, f"print('''{said}'''); sys.exit(2)")])
    with pytest.raises(GaveUp, match="worker: PERPFLOW_X=1: no such thing") as gave_up:
        eventually(lambda: False, step=supervisor.watch)
    assert gave_up.value.exit_code == 2


def test_a_process_that_keeps_failing_is_given_up_with_the_reason(
    tmp_path: Path, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.console.supervisor._BACKOFF_S", (0.0,))
    supervisor.start([worker(tmp_path, "print('no room on the disk'); sys.exit(3)")])
    with pytest.raises(GaveUp, match=r"failed 6 times.*no room on the disk") as gave_up:
        eventually(lambda: False, step=supervisor.watch, within_s=30)
    assert gave_up.value.exit_code == 3


def test_stopping_ends_exactly_the_processes_that_were_started(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.start([worker(tmp_path, "stop.wait()")])
    eventually(lambda: supervisor.states() == {"worker": "running"}, step=supervisor.watch)
    pid = supervisor.pids()["worker"]
    supervisor.stop()
    assert supervisor.states() == {"worker": "stopped"}
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_logs_are_kept_and_passed_on(tmp_path: Path, supervisor: Supervisor, lines: list[tuple[str, str]]) -> None:
    supervisor.start([worker(tmp_path, "print('hello')", ends_by_itself=True)])
    eventually(lambda: supervisor.states() == {"worker": "finished"}, step=supervisor.watch)
    assert ("worker", "hello") in lines
    assert (tmp_path / "logs" / "worker.log").read_text() == "hello\n"
