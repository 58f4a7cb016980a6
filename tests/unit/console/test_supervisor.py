"""The supervisor restarts what dies, gives up on what cannot live, and stops everything it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.bus.api import BusUnavailable, TopicSpec
from libs.bus.sqlite import SqliteBus
from libs.bus.writer_lock import find_lock_holder, writer_lock_path
from libs.runtime.child import child_command
from services.console.plan import ProcessSpec
from services.console.supervisor import GaveUp, Supervisor
from tests.kit.waiting import eventually

# A worker beats until `stop` or `hang` is set.
WORKER = """
import json, os, pathlib, sys, signal, threading
from libs.runtime.health import Heartbeat, heartbeat_path
run_dir = pathlib.Path(os.environ["PERPFLOW_RUN_DIR"])
heartbeat = Heartbeat(heartbeat_path(run_dir, "worker"))
(run_dir / "worker.json").write_text(json.dumps({"pid": os.getpid(), "state": "running"}))
stop, hang = threading.Event(), threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
def beat():
    while not stop.wait(0.05) and not hang.is_set():
        heartbeat.beat()
threading.Thread(target=beat, daemon=True).start()
"""


REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def lines() -> list[tuple[str, str]]:
    return []


@pytest.fixture
def supervisor(tmp_path: Path, lines: list[tuple[str, str]]) -> Iterator[Supervisor]:
    made = Supervisor(tmp_path / "run", tmp_path / "logs", lambda service, line: lines.append((service, line)))
    yield made
    made.close()


def worker(tmp_path: Path, code: str, *, ends_by_itself: bool = False) -> ProcessSpec:
    environment = {**os.environ, "PERPFLOW_RUN_DIR": str(tmp_path / "run"), "PYTHONPATH": str(REPOSITORY)}
    return ProcessSpec("worker", (sys.executable, "-c", WORKER + code), environment, ends_by_itself)


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


@pytest.mark.slow
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


def status_of(tmp_path: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((tmp_path / "run" / "supervisor.json").read_text())
    return facts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("hang", "trace"),
    [
        ("threading.Thread(target=lambda: (stop.wait(0.5), os.kill(os.getpid(), signal.SIGSTOP))).start()", False),
        ("threading.Thread(target=lambda: (stop.wait(0.5), hang.set())).start(); import faulthandler; "
         "faulthandler.enable()", True),
        ("import faulthandler; faulthandler.enable(); hang.set()\n    while True: pass", True),
    ],
    ids=["stopped", "rests without progress", "works without progress"],
)  # fmt: skip
def test_a_process_without_heartbeat_is_shown_as_hung_then_killed_and_started_again(
    tmp_path: Path, lines: list[tuple[str, str]], hang: str, *, trace: bool
) -> None:
    hung: list[str] = []
    supervisor = Supervisor(
        tmp_path / "run", tmp_path / "logs", lambda service, line: lines.append((service, line)), on_hung=hung.append
    )
    try:
        once = f"first = not (run_dir / 'been').exists(); (run_dir / 'been').touch()\nif first:\n    {hang}\n"
        supervisor.start([worker(tmp_path, once + "stop.wait()")])
        eventually(lambda: supervisor.states() == {"worker": "running"}, step=supervisor.watch, within_s=60)
        first = supervisor.pids()["worker"]
        eventually(
            lambda: status_of(tmp_path)["services"]["worker"]["state"] == "hung", step=supervisor.watch, within_s=60
        )
        assert supervisor.pids()["worker"] == first
        eventually(lambda: supervisor.pids().get("worker", first) != first, step=supervisor.watch, within_s=60)
        eventually(lambda: supervisor.states() == {"worker": "running"}, step=supervisor.watch, within_s=60)
    finally:
        supervisor.close()
    assert hung == ["worker"]
    assert supervisor.restarts() == 1
    assert any("hangs: no heartbeat for 5 s" in line for _, line in lines)
    log = "".join(path.read_text() for path in (tmp_path / "logs").glob("worker.log"))
    assert ("Fatal Python error: Aborted" in log) == trace


@pytest.mark.slow
def test_a_stranger_that_was_stopped_while_it_held_the_writer_lock_is_killed(
    tmp_path: Path, lines: list[tuple[str, str]]
) -> None:
    bus_file = tmp_path / "bus.db"
    code = (
        "import os, signal, sys; from libs.bus.sqlite import SqliteBus\n"
        f"with SqliteBus({str(bus_file)!r}) as bus, bus._log._writer_lock(): os.kill(os.getpid(), signal.SIGSTOP)"
    )
    stranger = subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY)
    supervisor = Supervisor(
        tmp_path / "run",
        tmp_path / "logs",
        lambda service, line: lines.append((service, line)),
        writer_lock=writer_lock_path(bus_file),
    )
    try:
        eventually(lambda: find_lock_holder(writer_lock_path(bus_file)) == stranger.pid, within_s=60)
        supervisor.start([worker(tmp_path, "stop.wait()")])
        with SqliteBus(bus_file) as bus:
            bus.create_topics([TopicSpec("a")])
        assert stranger.wait(timeout=60) == -signal.SIGKILL
    finally:
        supervisor.close()
        stranger.kill()
        stranger.wait()
    assert find_lock_holder(writer_lock_path(bus_file)) is None


def test_a_crash_leaves_where_every_thread_stood_in_the_log_and_its_name_as_the_reason(
    tmp_path: Path, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.console.supervisor._BACKOFF_S", (0.0,))
    (tmp_path / "crashing.py").write_text("import ctypes\nctypes.string_at(0)\n")
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{tmp_path}"}
    supervisor.start([ProcessSpec("crashing", child_command("crashing"), environment)])
    with pytest.raises(GaveUp, match="Fatal Python error: Segmentation fault"):
        eventually(lambda: False, step=supervisor.watch, within_s=100)
    assert 'crashing.py", line 2' in (tmp_path / "logs" / "crashing.log").read_text()


@pytest.mark.slow
def test_no_process_outlives_a_killed_supervisor_not_even_one_that_heeds_no_signal(tmp_path: Path) -> None:
    (tmp_path / "deaf.py").write_text(
        "import os, pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(tmp_path)!r}, 'pid').write_text(str(os.getpid()))\n"
        "while True: time.sleep(60)\n"
    )
    code = (
        "import os, pathlib, time; from libs.runtime.child import child_command\n"
        "from services.console.plan import ProcessSpec; from services.console.supervisor import Supervisor\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "made = Supervisor(folder / 'run', folder / 'logs', lambda service, line: None)\n"
        "made.start([ProcessSpec('deaf', child_command('deaf'), dict(os.environ))])\n"
        "while True: time.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY}:{tmp_path}"}
    supervisor = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment)
    try:
        eventually(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), within_s=60)
    finally:
        supervisor.kill()
        supervisor.wait()
    child = int((tmp_path / "pid").read_text())
    eventually(lambda: not Path(f"/proc/{child}").exists() or is_zombie(child), within_s=2.0)


def is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_lost_bus_ends_the_session_and_nothing_is_started_again(
    tmp_path: Path, supervisor: Supervisor, lines: list[tuple[str, str]]
) -> None:
    path = tmp_path / "bus.db"
    with SqliteBus(path) as bus, supervisor.watching_bus(bus.ping):
        bus.create_topics([TopicSpec("a")])
        supervisor.start([worker(tmp_path, "stop.wait()")])
        eventually(lambda: supervisor.states() == {"worker": "running"}, step=supervisor.watch)
        path.unlink()
        with pytest.raises(GaveUp, match=r"bus is lost: .*bus\.db was removed") as gave_up:
            eventually(lambda: False, step=supervisor.watch)
    assert gave_up.value.exit_code == 3
    assert "bus is lost" in status_of(tmp_path)["bus"]
    assert not path.exists()


def test_a_broker_that_is_away_is_said_in_the_status_and_the_session_goes_on(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    answers: list[Exception | None] = [BusUnavailable("Kafka at k:9092 does not answer")]

    def ping() -> None:
        if answers[0] is not None:
            raise answers[0]

    supervisor.start([worker(tmp_path, "stop.wait()")])
    with supervisor.watching_bus(ping):
        eventually(lambda: status_of(tmp_path)["bus"] == "Kafka at k:9092 does not answer", step=supervisor.watch)
        answers[0] = None
        eventually(lambda: status_of(tmp_path)["bus"] == "", step=supervisor.watch)
    assert supervisor.restarts() == 0


@pytest.mark.slow
def test_a_process_that_fails_for_want_of_the_bus_is_started_again_until_the_bus_is_back(
    tmp_path: Path, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.console.supervisor._BACKOFF_S", (0.0,))

    def ping() -> None:
        raise BusUnavailable("Kafka at k:9092 does not answer")

    with supervisor.watching_bus(ping):
        eventually(lambda: supervisor.bus_error)
        supervisor.start([worker(tmp_path, "sys.exit(3)")])
        eventually(lambda: supervisor.restarts() > 6, step=supervisor.watch, within_s=60)


@pytest.mark.slow
def test_what_is_due_after_a_hang_waits_for_the_bus(tmp_path: Path) -> None:
    tries: list[str] = []

    def on_hung(name: str) -> None:
        tries.append(name)
        if len(tries) < 3:
            raise BusUnavailable("Kafka at k:9092 does not answer")

    supervisor = Supervisor(tmp_path / "run", tmp_path / "logs", lambda _service, _line: None, on_hung=on_hung)
    try:
        supervisor.start([worker(tmp_path, "stop.wait(0.5); hang.set(); threading.Event().wait()")])
        eventually(lambda: tries == ["worker"] * 3, step=supervisor.watch, within_s=60)
        for _ in range(3):
            supervisor.watch()
        assert len(tries) == 3
    finally:
        supervisor.close()
