"""What a process says of its own condition: its heartbeat, whether it is alive, and whether it is ready.

Alive means that it makes progress: its loop beats. Ready means that its bus, store and venue answer. The two differ on
purpose: a process that waits for a broker is alive but not ready, and restarting it would not help.

::

    starting    imports, compiling, opening and recovering; beats are rare
    running     the loop turns; a beat at least every few hundred milliseconds
    stopping    finishing what is in hand
    finished, stopped, failed    over
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, Gauge, generate_latest

from libs.clock import SYSTEM_CLOCK, Clock
from libs.domain.numbers import NANOSECONDS
from libs.runtime.errors import DependencyUnavailable
from libs.runtime.metrics import ServiceMetrics

# Seconds without a heartbeat after which a process in that state counts as hung.
RUNNING_BUDGET_S = 5.0
BUDGETS_S = {"starting": 180.0, "running": RUNNING_BUDGET_S, "stopping": 60.0}
_TOUCH_EVERY_S = 0.2
# How often the dependencies are asked, from a thread of their own: no answer to anybody waits for them.
_ASK_EVERY_S = 1.0
_BEAT_EVERY_S = 0.5
_LONGEST_WAIT_S = 60.0

Check = Callable[[], None]


def heartbeat_path(run_dir: Path, service: str) -> Path:
    """Return the file whose modification time is a process's last heartbeat."""
    return run_dir / f"{service}.heartbeat"


class Heartbeat:
    """Proof of progress for others to see: the time of a file. Costs next to nothing when called often."""

    def __init__(self, path: Path | None, clock: Clock = SYSTEM_CLOCK) -> None:
        """Without a path it is for this process alone."""
        self._path = path
        self._clock = clock
        self._touched_at = float("-inf")
        self._waits_until: float | None = None
        self.at = self._clock.monotonic_s()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    @contextlib.contextmanager
    def waiting(self, limit_s: float = _LONGEST_WAIT_S) -> Iterator[None]:
        """Count as alive while the block waits for somebody else: a broker, a lock. At most for `limit_s`."""
        outer = self._waits_until
        self._waits_until = self._clock.monotonic_s() + limit_s
        try:
            yield
        finally:
            self._waits_until = outer
            self.beat()

    def wait_longer(self, limit_s: float = _LONGEST_WAIT_S) -> None:
        """Let a wait that was declared last this long from now on; without one, do nothing."""
        if self._waits_until is not None:
            self._waits_until = max(self._waits_until, self._clock.monotonic_s() + limit_s)

    def wait_to_end(self, limit_s: float = _LONGEST_WAIT_S) -> None:
        """Count as alive from here on, as in `waiting`: what is closed may wait for others."""
        self._waits_until = self._clock.monotonic_s() + limit_s

    def beat_while_waiting(self) -> None:
        """Beat where a wait was declared and is not too long; called from a thread of its own."""
        until = self._waits_until
        if until is not None and self._clock.monotonic_s() < until:
            self.beat()

    def beat(self) -> None:
        """Say that progress was made."""
        now = self.at = self._clock.monotonic_s()
        if self._path is None or now - self._touched_at < _TOUCH_EVERY_S:
            return
        self._touched_at = now
        try:
            os.utime(self._path)
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                self._path.touch()

    @property
    def age_s(self) -> float:
        """Seconds since the last one."""
        return self._clock.monotonic_s() - self.at


class ServiceHealth:
    """The condition of one process. `beat` from its loop, which waits for others inside `waiting`; everything else may
    be asked from any thread.

    `watch` names a dependency and how to ask it: the check returns, or raises with the reason, within a second or two.
    It is called from `ask`'s thread.
    """

    def __init__(
        self,
        service: str,
        run_dir: Path | None,
        metrics: ServiceMetrics,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.service = service
        self.state = "starting"
        self.since = clock.now_ns() / NANOSECONDS
        self.metrics = metrics
        self._heartbeat = Heartbeat(None if run_dir is None else heartbeat_path(run_dir, service), clock)
        self.beat = self._heartbeat.beat
        self.waiting = self._heartbeat.waiting
        self._checks: dict[str, Check] = {}
        self._answers: dict[str, str] = {}
        self._dependency_up = Gauge(
            "perpflow_dependency_up",
            "Whether a dependency answers: bus, store, venue",
            ("service", "dependency"),
            registry=metrics.registry,
        )
        age = Gauge(
            "perpflow_heartbeat_age_seconds",
            "Seconds since the loop last made progress",
            ("service",),
            registry=metrics.registry,
        )
        age.labels(service).set_function(lambda: self._heartbeat.age_s)
        ready = Gauge("perpflow_ready", "Whether the process is ready", ("service",), registry=metrics.registry)
        ready.labels(service).set_function(lambda: float(self.readiness()[0]))

    def beat_while_waiting(self) -> None:
        """Beat where a wait was declared and is not too long, not counting the time in which a dependency was away.

        Called from a thread of its own.
        """
        if any(self._answers.values()):
            self._heartbeat.wait_longer()
        self._heartbeat.beat_while_waiting()

    def end(self, state: str) -> None:
        """Enter a last state: what is closed from here on may wait for a broker."""
        self.state = state
        self._heartbeat.wait_to_end()

    def watch(self, dependency: str, check: Check) -> None:
        """Be ready only while this dependency answers."""
        self._checks[dependency] = check
        self._dependency_up.labels(self.service, dependency).set(1)

    def liveness(self) -> tuple[bool, dict[str, Any]]:
        """Say whether the process makes progress, with the facts."""
        age_s = self._heartbeat.age_s
        budget_s = BUDGETS_S.get(self.state, float("inf"))
        return age_s <= budget_s, {**self._facts(), "heartbeat_age_s": round(age_s, 3)}

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        """Say whether the process can do its work now: it runs, and every dependency answered when last asked.

        Whether there is work does not matter: a quiet market is not unready.
        """
        answers = self._answers
        has_asked = answers.keys() >= self._checks.keys()
        is_able = self.state == "running" and self.liveness()[0] and has_asked and not any(answers.values())
        return is_able, {
            **self._facts(),
            "dependencies": {name: reason or "ok" for name, reason in answers.items()},
        }

    def reason_of(self, dependency: str) -> str:
        """Return why a dependency did not answer when last asked; empty where it did, or was not asked yet."""
        return self._answers.get(dependency, "")

    def ask(self) -> None:
        """Ask every dependency once."""
        answers = {name: self._reason(check) for name, check in list(self._checks.items())}
        for name, reason in answers.items():
            self._dependency_up.labels(self.service, name).set(0 if reason else 1)
        self._answers = answers

    def _facts(self) -> dict[str, Any]:
        return {"service": self.service, "state": self.state, "since": self.since}

    @staticmethod
    def _reason(check: Check) -> str:
        try:
            check()
        except Exception as error:  # noqa: BLE001 - whatever keeps a dependency from answering is the answer
            return str(error) or type(error).__name__
        return ""


class HealthServer:
    """Serves ``/live`` and ``/ready`` (JSON, 200 or 503) and ``/metrics`` from a thread; ``/health`` is ``/ready``.

    It beats for a process that waits: close it last, when nothing is left that might wait for others.
    """

    def __init__(self, health: ServiceHealth, host: str = "127.0.0.1", port: int = 0) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(health.metrics.registry))
                elif self.path == "/live":
                    self._say(*health.liveness())
                elif self.path in ("/ready", "/health"):
                    self._say(*health.readiness())
                else:
                    self._answer(404, "text/plain", b"known here: /live, /ready, /metrics\n")

            def _say(self, is_good: bool, facts: dict[str, Any]) -> None:
                self._answer(200 if is_good else 503, "application/json", orjson.dumps(facts))

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                # The client may have disconnected meanwhile.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.send_response(status)
                    self.send_header("Content-Type", content_type)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Health requests are not logged."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise DependencyUnavailable(
                f"port {port} on {host} cannot be bound ({error.strerror}); "
                "free it or set PERPFLOW_METRICS_PORT to another (0 takes a free one)"
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self.health = health
        self._closing = threading.Event()
        self._threads = [
            threading.Thread(target=self._server.serve_forever, name="health", daemon=True),
            threading.Thread(target=self._ask, name="dependencies", daemon=True),
            threading.Thread(target=self._beat, name="heartbeat", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._closing.is_set():
            self.health.ask()
            self._closing.wait(_ASK_EVERY_S)

    def _beat(self) -> None:
        while not self._closing.wait(_BEAT_EVERY_S):
            self.health.beat_while_waiting()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop serving and asking."""
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        for thread in self._threads:
            thread.join()
