"""What a service says of itself: Prometheus metrics and health on one port."""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from libs.runtime.errors import DependencyUnavailable

_LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class ServiceMetrics:
    """The metrics of one service, in a registry of its own."""

    def __init__(self, service: str) -> None:
        self.registry = CollectorRegistry()
        labels = ("service", "topic")
        self.records_in = Counter("perpflow_records_in", "Records consumed", labels, registry=self.registry)
        self.records_out = Counter("perpflow_records_out", "Records committed", labels, registry=self.registry)
        self.duplicates = Counter("perpflow_duplicates", "Repeated ids dropped", labels, registry=self.registry)
        self.dead_letters = Counter("perpflow_dead_letters", "Records put aside", labels, registry=self.registry)
        self.transactions = Counter(
            "perpflow_transactions", "Transactions committed", ("service",), registry=self.registry
        )
        self.lag = Gauge("perpflow_lag_records", "Records not yet consumed", labels, registry=self.registry)
        self.hop_latency = Histogram(
            "perpflow_hop_latency_seconds",
            "From a record's making to its handling here",
            labels,
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.handle_seconds = Histogram(
            "perpflow_handle_seconds",
            "Decoding and handling one batch",
            ("service",),
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.commit_seconds = Histogram(
            "perpflow_commit_seconds",
            "Committing one batch",
            ("service",),
            buckets=_LATENCY_BUCKETS,
            registry=self.registry,
        )
        info = Gauge("perpflow_build_info", "Always 1", ("service", "version"), registry=self.registry)
        info.labels(service, package_version()).set(1)


def package_version() -> str:
    """Return the installed version of perpflow."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("perpflow")
    except PackageNotFoundError:
        return "source"


class HealthServer:
    """Serves ``/health`` (JSON, 200 or 503) and ``/metrics`` on 127.0.0.1 or the host given, from a thread."""

    def __init__(
        self, metrics: ServiceMetrics, health: Callable[[], dict[str, Any]], host: str = "127.0.0.1", port: int = 0
    ) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(metrics.registry))
                elif self.path in ("/health", "/healthz", "/ready"):
                    state = health()
                    status = 200 if state.get("state") == "running" else 503
                    self._answer(status, "application/json", json.dumps(state).encode())
                else:
                    self._answer(404, "text/plain", b"known here: /health, /metrics\n")

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                # Whoever asked may have gone meanwhile.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.send_response(status)
                    self.send_header("Content-Type", content_type)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Requests for health are not news."""

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise DependencyUnavailable(
                f"port {port} on {host} cannot be bound ({error.strerror}); "
                "free it or set PERPFLOW_METRICS_PORT to another (0 takes a free one)"
            ) from error
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def announce(run_dir: Path, service: str, **facts: Any) -> None:
    """Write ``RUN_DIR/SERVICE.json`` whole or not at all: pid and ports, for the supervisor and `perpflow status`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    target = run_dir / f"{service}.json"
    draft = run_dir / f".{service}.{os.getpid()}"
    draft.write_text(json.dumps({"service": service, "pid": os.getpid(), **facts}))
    draft.replace(target)


def read_announcement(path: Path) -> dict[str, Any]:
    """Return what a process announced; empty where it has not, or is just writing: the next look sees it."""
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def is_alive(pid: object) -> bool:
    """Whether a process of that id exists."""
    if not isinstance(pid, int):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
