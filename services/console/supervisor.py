"""Keeps the processes of a session alive: starts, restarts with backoff, collects their logs, stops them in order.

It gives up on a process that is refused for bad input (exit 2) at once, and on one that keeps failing after a while.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import orjson

from libs.runtime.errors import EXIT_BAD_INPUT, EXIT_CHECK_FAILED, EXIT_OK, EXIT_UNAVAILABLE
from libs.runtime.metrics import read_announcement
from libs.runtime.service import FAULT_BUS_LOST, FAULT_DISK_FULL
from libs.runtime.stop import SUPERVISOR_VARIABLE
from services.console.plan import ProcessSpec, answers

STOP_GRACE_S = 15.0
_BACKOFF_S = (0.05, 0.5, 1.0, 2.0, 4.0)
# More failures than this within the window and the process is given up.
_MAX_FAILURES = 5
_FAILURE_WINDOW_S = 60.0

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
    fault: str = ""
    pump: threading.Thread | None = None


class Supervisor:
    """Owns the processes of one session."""

    def __init__(self, run_dir: Path, log_dir: Path, print_line: Callable[[str, str], None]) -> None:
        """`print_line(service, line)` is told every log line."""
        self._run_dir = run_dir
        self._log_dir = log_dir
        self._print_line = print_line
        self._children: dict[str, _Child] = {}
        log_dir.mkdir(parents=True, exist_ok=True)
        run_dir.mkdir(parents=True, exist_ok=True)

    def start(self, specs: Iterable[ProcessSpec]) -> None:
        """Start processes."""
        for spec in specs:
            child = _Child(spec)
            self._children[spec.name] = child
            # What an earlier process of that name announced is no longer true.
            (self._run_dir / f"{spec.name}.json").unlink(missing_ok=True)
            self._launch(child)
        self.write_status()

    def _launch(self, child: _Child) -> None:
        child.process = subprocess.Popen(
            child.spec.command,
            env={**child.spec.environment, "PERPFLOW_LOG_FORMAT": "json", SUPERVISOR_VARIABLE: str(os.getpid())},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            # A process group of its own: Ctrl-C reaches the supervisor alone, which then stops the rest in order.
            start_new_session=True,
        )
        child.state = "starting"
        assert child.process.stdout is not None
        child.pump = threading.Thread(
            target=self._pump, args=(child, child.process.stdout), name=f"log-{child.spec.name}", daemon=True
        )
        child.pump.start()

    def _pump(self, child: _Child, stream: IO[bytes]) -> None:
        with stream, (self._log_dir / f"{child.spec.name}.log").open("ab") as log:
            is_kept = True
            for line in stream:
                try:
                    log.write(line)
                    log.flush()
                except OSError as error:
                    if is_kept:
                        self._print_line(child.spec.name, f"the log cannot be written: {error.strerror}")
                    is_kept = False
                text = line.decode(errors="replace").rstrip()
                try:
                    entry = orjson.loads(line)
                except orjson.JSONDecodeError:
                    entry = None
                if isinstance(entry, dict) and entry.get("level") in ("error", "critical"):
                    child.last_error = str(entry.get("reason") or entry.get("exception") or entry.get("event"))
                    child.fault = str(entry.get("fault", ""))
                elif entry is None and text:
                    child.last_error = text
                self._print_line(child.spec.name, text)

    def watch(self) -> None:
        """Look at every process once; restart what died. Raises `GaveUp`."""
        now = time.monotonic()
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
                    child.state = "running"
                    changed = True
                continue
            changed = True
            self._on_exit(child, code, now)
        if changed:
            self.write_status()

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
        if code == EXIT_OK and child.spec.ends_by_itself:
            child.state = "finished"
            return
        if code == EXIT_BAD_INPUT:
            child.state = "failed"
            raise GaveUp(f"{child.spec.name}: {child.last_error or 'bad input'}", EXIT_BAD_INPUT)
        if child.fault in (FAULT_DISK_FULL, FAULT_BUS_LOST):
            child.state = "failed"
            raise GaveUp(f"{child.spec.name}: {child.last_error}", EXIT_UNAVAILABLE)
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
        child.restarts += 1
        child.state = "restarting"
        child.restart_at = now + _BACKOFF_S[min(len(child.failures), len(_BACKOFF_S)) - 1]
        cause = f"signal {-code}" if code < 0 else f"exit code {code}"
        self._print_line(child.spec.name, f"ended with {cause}; restart {child.restarts}")

    def states(self) -> dict[str, State]:
        """Return where each process stands."""
        return {name: child.state for name, child in self._children.items()}

    def pids(self) -> dict[str, int]:
        """Return the pids of those alive."""
        return {name: child.process.pid for name, child in self._children.items() if child.process is not None}

    def restarts(self) -> int:
        """Return how often processes were restarted."""
        return sum(child.restarts for child in self._children.values())

    def write_status(self) -> None:
        """Write ``supervisor.json`` for `perpflow status` and the page."""
        facts = {
            "pid": os.getpid(),
            "services": {
                name: {
                    "pid": None if child.process is None else child.process.pid,
                    "state": child.state,
                    "restarts": child.restarts,
                }
                for name, child in self._children.items()
            },
        }
        draft = self._run_dir / ".supervisor"
        try:
            draft.write_text(json.dumps(facts))
            draft.replace(self._run_dir / "supervisor.json")
        except OSError as error:
            # A full disk must not keep the processes from being stopped in order.
            self._print_line("supervisor", f"the status cannot be written to {self._run_dir}: {error.strerror}")

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
        deadline = time.monotonic() + STOP_GRACE_S
        for child in alive:
            assert child.process is not None
            try:
                code = child.process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._print_line(child.spec.name, f"did not stop within {STOP_GRACE_S:.0f} s and was killed")
                child.process.kill()
                code = child.process.wait()
            if child.pump is not None:
                child.pump.join(timeout=2.0)
            child.process = None
            child.state = "stopped" if code == EXIT_OK else "failed"
        self.write_status()
