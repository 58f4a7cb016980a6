"""Keeps the processes of a session alive: starts, restarts with backoff, collects their logs, stops them in order.

A process that shows no heartbeat within the budget of its state is hung: it is shown as such, killed and started again.
It gives up on a process that is refused for bad input (exit 2) at once, on one that keeps failing after a while, and on
the session when its bus is lost.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Literal

import orjson

from libs.bus.api import BusLost, BusUnavailable
from libs.bus.writer_lock import find_lock_holder, is_stopped
from libs.clock import SYSTEM_CLOCK, Clock, Deadline
from libs.runtime.errors import EXIT_BAD_INPUT, EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNAVAILABLE
from libs.runtime.health import BUDGETS_S, RUNNING_BUDGET_S, heartbeat_path
from libs.runtime.masking import SECRETS
from libs.runtime.metrics import read_announcement
from libs.runtime.service import CAUSE_BUS_LOST, CAUSE_DISK_FULL
from libs.runtime.stop import SUPERVISOR_VARIABLE
from services.console.log_files import LogFile, LogLimits
from services.console.plan import ProcessSpec, answers

STOP_GRACE_S = 15.0
_BACKOFF_S = (0.05, 0.5, 1.0, 2.0, 4.0)
# More failures than this within the window and the process is given up.
_MAX_FAILURES = 5
_FAILURE_WINDOW_S = 60.0
_LOOK_EVERY_S = 0.25
# What a look counts at most: where this process itself was not run, nobody else is to blame for the silence.
_LONGEST_LOOK_S = 0.5
# Shown as hung from here on, killed at the end of the budget.
_HUNG_AFTER_SHARE = 0.6
# Between the signal that has Python write where every thread stands, and the one that cannot be refused.
_TRACE_S = 0.5
_LAST_WORDS = ("Fatal Python error", "Segmentation fault")
SUPERVISOR = "supervisor"

State = Literal["starting", "running", "finished", "restarting", "stopping", "stopped", "failed"]


class GaveUp(Exception):
    """A process cannot be kept alive; `exit_code` is what the platform ends with."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(slots=True)
class _Child:
    spec: ProcessSpec
    process: subprocess.Popen[bytes] | None = None
    state: State = "starting"
    restarts: int = 0
    failures: deque[float] = field(default_factory=deque)
    restart_at: float = 0.0
    last_error: str = ""
    cause: str = ""
    has_crashed: bool = False
    pump: threading.Thread | None = None
    heartbeat_ns: int = 0
    silent_s: float = 0.0
    cpu_s: float = 0.0
    was_hung: bool = False

    @property
    def is_silent(self) -> bool:
        """Whether it has shown no heartbeat for most of what its state allows."""
        budget_s = BUDGETS_S.get(self.state)
        return self.process is not None and budget_s is not None and self.silent_s > budget_s * _HUNG_AFTER_SHARE


class Supervisor:
    """Owns the processes of one session. Used from one thread; two more look for hung processes and at the bus."""

    def __init__(
        self,
        run_dir: Path,
        log_dir: Path,
        print_line: Callable[[str, str], None],
        *,
        limits: LogLimits | None = None,
        writer_lock: Path | None = None,
        on_hung: Callable[[str], None] = lambda _name: None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """`print_line(service, line)` gets every log line; `on_hung(service)` who was killed for hanging, from
        within `watch`, and again where it raised `BusUnavailable`. `writer_lock` is what the processes queue on: a
        stopped stranger that holds it is killed."""
        self._clock = clock
        self._run_dir = run_dir
        self._log_dir = log_dir
        self._print_line = print_line
        self._limits = limits or LogLimits()
        self._writer_lock = writer_lock
        self._on_hung = on_hung
        self._children: dict[str, _Child] = {}
        self._hung: deque[str] = deque()
        self._lost_bus: BusLost | None = None
        self._bus_error = ""
        self._status_lock = threading.Lock()
        self._closing = threading.Event()
        self._heartbeats: threading.Thread | None = None
        log_dir.mkdir(parents=True, exist_ok=True)
        run_dir.mkdir(parents=True, exist_ok=True)
        self._own_log = LogFile(log_dir / f"{SUPERVISOR}.log", self._limits, clock)

    def start(self, specs: Iterable[ProcessSpec]) -> None:
        """Start processes."""
        for spec in specs:
            child = _Child(spec)
            self._children[spec.name] = child
            # What an earlier process of that name announced is no longer true.
            (self._run_dir / f"{spec.name}.json").unlink(missing_ok=True)
            self._launch(child)
        self.write_status()
        if self._heartbeats is None:
            self._heartbeats = threading.Thread(target=self._watch_heartbeats, name="heartbeats", daemon=True)
            self._heartbeats.start()

    @contextlib.contextmanager
    def watching_bus(self, ping: Callable[[], None]) -> Iterator[None]:
        """Ask the bus twice a second while the block lasts: where it is lost, `watch` gives up."""
        ending = threading.Event()
        thread = threading.Thread(target=self._watch_bus, args=(ping, ending), name="bus", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()

    def _launch(self, child: _Child) -> None:
        child.silent_s = 0.0
        child.has_crashed = False
        child.state = "starting"
        child.process = subprocess.Popen(
            child.spec.command,
            env={**child.spec.environment, "PERPFLOW_LOG_FORMAT": "json", SUPERVISOR_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A process group of its own: Ctrl-C reaches the supervisor alone, which then stops the rest in order.
            start_new_session=True,
        )
        assert child.process.stdout is not None
        child.pump = threading.Thread(
            target=self._pump, args=(child, child.process.stdout), name=f"log-{child.spec.name}", daemon=True
        )
        child.pump.start()

    def _pump(self, child: _Child, stream: IO[bytes]) -> None:
        with stream, LogFile(self._log_dir / f"{child.spec.name}.log", self._limits, self._clock) as log:
            is_kept = True
            for each in stream:
                # A process masks its own words; what a library prints past them is masked here.
                line = SECRETS.mask(each.decode(errors="surrogateescape")).encode(errors="surrogateescape")
                try:
                    log.write(line)
                    is_kept = True
                except OSError as error:
                    if is_kept:
                        self._print_line(child.spec.name, f"the log cannot be written: {error.strerror}")
                    is_kept = False
                self._read_line(child, line)

    def _read_line(self, child: _Child, line: bytes) -> None:
        text = line.decode(errors="replace").rstrip()
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            entry = None
        if isinstance(entry, dict) and entry.get("level") in ("error", "critical"):
            child.last_error = str(entry.get("reason") or entry.get("exception") or entry.get("event"))
            child.cause = str(entry.get("cause", ""))
        elif entry is None and text and not child.has_crashed:
            # What follows a crash's first line is where each thread stood.
            child.last_error = text
            child.has_crashed = text.startswith(_LAST_WORDS)
        self._print_line(child.spec.name, text)

    def _say(self, name: str, text: str) -> None:
        at = datetime.fromtimestamp(self._clock.now_ns() / 1e9, UTC)
        line = {"timestamp": f"{at:%Y-%m-%dT%H:%M:%SZ}", "process": name, "event": text}
        # A full disk must not keep the processes from being watched.
        with contextlib.suppress(OSError):
            self._own_log.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        self._print_line(name, text)

    def watch(self) -> None:
        """Look at every process once; restart what died. Raises `GaveUp`."""
        if self._lost_bus is not None:
            raise GaveUp(str(self._lost_bus), EXIT_UNAVAILABLE)
        now = self._clock.monotonic_s()
        changed = False
        for child in self._children.values():
            if child.process is None:
                if child.state == "restarting" and now >= child.restart_at:
                    self._launch(child)
                    changed = True
                continue
            code = child.process.poll()
            if code is None:
                if child.state == "starting" and self._is_ready(child):
                    child.silent_s = 0.0
                    child.state = "running"
                    changed = True
                continue
            changed = True
            self._on_exit(child, code, now)
        if changed:
            self.write_status()
        while self._hung:
            try:
                self._on_hung(self._hung[0])
            except BusLost:
                raise
            except BusUnavailable:
                # Said by the thread that asks the bus.
                return
            self._hung.popleft()

    def _is_ready(self, child: _Child) -> bool:
        assert child.process is not None
        if child.spec.ready_url is not None:
            return answers(child.spec.ready_url)
        facts = read_announcement(self._run_dir / f"{child.spec.name}.json")
        return facts.get("pid") == child.process.pid and facts.get("state") in ("running", "finished", "stopped")

    def _on_exit(self, child: _Child, code: int, now: float) -> None:
        if child.pump is not None:
            child.pump.join(timeout=2.0)
        child.process = None
        if child.was_hung:
            child.was_hung = False
            child.last_error = "it hung: no heartbeat"
        if code == EXIT_OK and child.spec.ends_by_itself:
            child.state = "finished"
            return
        if code == EXIT_BAD_INPUT:
            child.state = "failed"
            raise GaveUp(f"{child.spec.name}: {child.last_error or 'bad input'}", EXIT_BAD_INPUT)
        if child.cause == CAUSE_BUS_LOST:
            child.state = "failed"
            self.note_bus_error(child.last_error)
            raise GaveUp(child.last_error, EXIT_UNAVAILABLE)
        if child.cause == CAUSE_DISK_FULL:
            child.state = "failed"
            raise GaveUp(f"{child.spec.name}: {child.last_error}", EXIT_UNAVAILABLE)
        if code == EXIT_UNAVAILABLE and self._bus_error:
            # The bus is away: a process that cannot do without it fails until it is back.
            self._restart_later(child, code, _BACKOFF_S[-1])
            return
        child.failures.append(now)
        while child.failures and now - child.failures[0] > _FAILURE_WINDOW_S:
            child.failures.popleft()
        if len(child.failures) > _MAX_FAILURES:
            child.state = "failed"
            exit_code = EXIT_UNAVAILABLE if code == EXIT_UNAVAILABLE else EXIT_CHECK_FAILED
            log = self._log_dir / f"{child.spec.name}.log"
            raise GaveUp(
                f"{child.spec.name} failed {len(child.failures)} times within {_FAILURE_WINDOW_S:.0f} s: "
                f"{child.last_error or f'exit code {code}'} (log: {log})",
                exit_code,
            )
        self._restart_later(child, code, _BACKOFF_S[min(len(child.failures), len(_BACKOFF_S)) - 1])

    def _restart_later(self, child: _Child, code: int, pause_s: float) -> None:
        child.restarts += 1
        child.state = "restarting"
        child.restart_at = self._clock.monotonic_s() + pause_s
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._say(child.spec.name, f"ended with {cause}; restart {child.restarts}")

    def _watch_heartbeats(self) -> None:
        looked_at = self._clock.monotonic_s()
        stranger: tuple[int, float] | None = None
        while not self._closing.wait(_LOOK_EVERY_S):
            now = self._clock.monotonic_s()
            passed_s = min(now - looked_at, _LONGEST_LOOK_S)
            looked_at = now
            was_silent = [child.is_silent for child in self._children.values()]
            for child in list(self._children.values()):
                self._look_at(child, passed_s)
            stranger = self._look_at_lock(stranger, passed_s)
            if was_silent != [child.is_silent for child in self._children.values()]:
                self.write_status()

    def _look_at(self, child: _Child, passed_s: float) -> None:
        process, budget_s = child.process, BUDGETS_S.get(child.state)
        if process is None or child.state not in ("starting", "running") or budget_s is None:
            child.silent_s = 0.0
            return
        try:
            heartbeat_ns = heartbeat_path(self._run_dir, child.spec.name).stat().st_mtime_ns
        except FileNotFoundError:
            heartbeat_ns = 0
        if heartbeat_ns != child.heartbeat_ns:
            child.heartbeat_ns = heartbeat_ns
            child.silent_s = 0.0
            return
        child.silent_s += self._silence_of(child, process.pid, passed_s)
        if child.silent_s > budget_s + _TRACE_S:
            process.kill()
        elif child.silent_s > budget_s and not child.was_hung:
            child.was_hung = True
            self._say(child.spec.name, f"hangs: no heartbeat for {budget_s:g} s while {child.state}; it is killed")
            self._hung.append(child.spec.name)
            process.send_signal(signal.SIGABRT)

    @staticmethod
    def _silence_of(child: _Child, pid: int, passed_s: float) -> float:
        """Return how much of the time counts: all of it where the loop's thread rests, where it works or waits for a
        processor only what it worked. A machine that is short of processors makes nobody hang."""
        state, cpu_s = _main_thread_of(pid)
        used_s, child.cpu_s = cpu_s - child.cpu_s, cpu_s
        return min(max(used_s, 0.0), passed_s) if state == "R" or used_s > 0 else passed_s

    def _look_at_lock(self, known: tuple[int, float] | None, passed_s: float) -> tuple[int, float] | None:
        """Kill a process that is none of ours and was stopped while it held the writers up. `known` is the suspect."""
        holder = None if self._writer_lock is None else find_lock_holder(self._writer_lock)
        if holder is None or holder in self.pids().values() or holder == os.getpid() or not is_stopped(holder):
            return None
        silent_s = passed_s + (known[1] if known is not None and known[0] == holder else 0.0)
        if silent_s <= RUNNING_BUDGET_S * _HUNG_AFTER_SHARE:
            return holder, silent_s
        self._say(SUPERVISOR, f"process {holder} was stopped while it held the bus's writer lock; it is killed")
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(holder, signal.SIGKILL)
        return None

    def _watch_bus(self, ping: Callable[[], None], ending: threading.Event) -> None:
        while not ending.wait(2 * _LOOK_EVERY_S):
            reason = ""
            try:
                ping()
            except BusLost as error:
                self._lost_bus = error
                reason = str(error)
            except BusUnavailable as error:
                reason = str(error)
            self.note_bus_error(reason)
            if self._lost_bus is not None:
                return

    def note_bus_error(self, reason: str) -> None:
        """Log, and keep in the status, why the bus does not answer; empty where it does."""
        if reason == self._bus_error:
            return
        self._bus_error = reason
        self._say(SUPERVISOR, reason or "the bus answers again")
        self.write_status()

    @property
    def bus_error(self) -> str:
        """Why the bus did not answer when last asked; empty where it did."""
        return self._bus_error

    def states(self) -> dict[str, State]:
        """Return where each process stands."""
        return {name: child.state for name, child in self._children.items()}

    def pids(self) -> dict[str, int]:
        """Return the pids of those alive."""
        processes = {name: child.process for name, child in list(self._children.items())}
        return {name: process.pid for name, process in processes.items() if process is not None}

    def restarts(self) -> int:
        """Return how often processes were restarted."""
        return sum(child.restarts for child in self._children.values())

    def write_status(self) -> None:
        """Write ``supervisor.json`` for `perpflow status` and the page."""
        with self._status_lock:
            draft = self._run_dir / ".supervisor"
            try:
                draft.write_bytes(orjson.dumps(self._status()))
                draft.replace(self._run_dir / "supervisor.json")
            except OSError as error:
                # A full disk must not keep the processes from being stopped in order.
                self._print_line(SUPERVISOR, f"the status cannot be written to {self._run_dir}: {error.strerror}")

    def _status(self) -> Mapping[str, object]:
        pids = self.pids()
        return {
            "pid": os.getpid(),
            "bus": self._bus_error,
            "services": {
                name: {
                    "pid": pids.get(name),
                    "state": "hung" if child.is_silent else child.state,
                    "restarts": child.restarts,
                }
                for name, child in list(self._children.items())
            },
        }

    def stop(self, names: Iterable[str] | None = None) -> None:
        """Ask processes to finish, all at once, and wait; kill what does not within the grace."""
        chosen = [self._children[name] for name in (list(self._children) if names is None else list(names))]
        alive = [child for child in chosen if child.process is not None]
        for child in alive:
            child.state = "stopping"
        self.write_status()
        for child in chosen:
            if child.process is None and child.state != "finished":
                child.state = "stopped"
        for child in alive:
            assert child.process is not None
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
        deadline = Deadline(STOP_GRACE_S)
        for child in alive:
            assert child.process is not None
            try:
                code = child.process.wait(timeout=max(0.1, deadline.left_s))
            except subprocess.TimeoutExpired:
                self._say(child.spec.name, f"did not stop within {STOP_GRACE_S:.0f} s and was killed")
                child.process.kill()
                code = child.process.wait()
            if child.pump is not None:
                child.pump.join(timeout=2.0)
            child.process = None
            child.state = "stopped" if code == EXIT_OK else "failed"
        self.write_status()

    def close(self) -> None:
        """Stop what still runs, then stop looking."""
        self.stop()
        self._closing.set()
        if self._heartbeats is not None:
            self._heartbeats.join()
        self._own_log.close()


def _main_thread_of(pid: int) -> tuple[str, float]:
    """Return state and processor seconds of a process's main thread, as Linux tells them; at rest where it does not."""
    try:
        fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "S", 0.0
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
