"""What a service counts (Prometheus metrics), and what it announces in the run folder for others to find."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import orjson
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

T = TypeVar("T")

# Linux numbers processes up to 2^22.
_LARGEST_PID = 2**22
_LATENCY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class ByTopic(dict[str, T]):
    """A service's share of a metric labelled by service and topic, looked up once per topic rather than per record."""

    def __init__(self, metric: MetricWrapperBase, service: str) -> None:
        super().__init__()
        self._metric = metric
        self._service = service

    def __missing__(self, topic: str) -> T:
        found: T = self._metric.labels(self._service, topic)  # type: ignore[assignment]
        self[topic] = found
        return found


class LagGauge:
    """A task's part of its service's lag by topic: the tasks of a process share the gauges, so each adds and takes away
    its own."""

    def __init__(self, lag: Gauge, service: str) -> None:
        self._lag = lag
        self._service = service
        self._shown: Mapping[str, int] = {}

    def show(self, lags: Mapping[str, int]) -> None:
        """Replace what was shown of this task."""
        for topic in lags.keys() | self._shown.keys():
            self._lag.labels(self._service, topic).inc(lags.get(topic, 0) - self._shown.get(topic, 0))
        self._shown = lags

    def clear(self) -> None:
        """Take away what was shown."""
        self.show({})


class ServiceMetrics:
    """The metrics of one service, in a registry of its own; `own` are those that this service alone has."""

    def __init__(self, service: str, own: Iterable[Collector] = ()) -> None:
        self.registry = CollectorRegistry()
        for collector in own:
            self.registry.register(collector)
        labels = ("service", "topic")
        self.records_in = Counter("perpflow_records_in", "Records consumed", labels, registry=self.registry)
        self.records_out = Counter("perpflow_records_out", "Records committed", labels, registry=self.registry)
        self.duplicates = Counter("perpflow_duplicates", "Repeated ids dropped", labels, registry=self.registry)
        self.dead_letters = Counter("perpflow_dead_letters", "Records dead-lettered", labels, registry=self.registry)
        gap = ("service", "kind", "state")
        self.gaps = Counter("perpflow_gaps", "Gaps reported in what a venue sent", gap, registry=self.registry)
        feed = ("service", "instrument")
        self.message_age = Gauge(
            "perpflow_message_age_seconds",
            "Since the last message of a subscription",
            (*feed, "kind"),
            registry=self.registry,
        )
        self.reconnects = Counter(
            "perpflow_stream_reconnects",
            "Connections that took the place of another",
            (*feed, "stream"),
            registry=self.registry,
        )
        self.clock_offset = Gauge(
            "perpflow_clock_offset_seconds", "The venue's clock less ours", feed, registry=self.registry
        )
        self.book_levels = Gauge(
            "perpflow_book_levels",
            "Levels of the book that are known, 0 while it is not",
            (*feed, "side"),
            registry=self.registry,
        )
        self.transactions = Counter(
            "perpflow_transactions", "Transactions committed", ("service",), registry=self.registry
        )
        task = ("service", "partition")
        self.tasks_owned = Gauge("perpflow_tasks_owned", "Tasks that run here", task, registry=self.registry)
        self.tasks_taken = Counter("perpflow_tasks_taken", "Tasks taken over", task, registry=self.registry)
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


@cache
def package_version() -> str:
    """Return the installed version of perpflow."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("perpflow")
    except PackageNotFoundError:
        return "source"


def announce(run_dir: Path, service: str, **facts: Any) -> None:
    """Write ``RUN_DIR/SERVICE.json`` whole or not at all: pid and ports, for the supervisor and `perpflow status`."""
    run_dir.mkdir(parents=True, exist_ok=True)
    target = run_dir / f"{service}.json"
    draft = run_dir / f".{service}.{os.getpid()}"
    draft.write_bytes(orjson.dumps({"service": service, "pid": os.getpid(), **facts}))
    draft.replace(target)


def read_announcement(path: Path) -> dict[str, Any]:
    """Return what a process announced; empty where it has not, or is just writing: the next look sees it."""
    try:
        facts = orjson.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return facts if isinstance(facts, dict) else {}


def processes_of(supervised: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what a supervisor's announcement says of each process, by name; what is no such thing is left out."""
    services = supervised.get("services")
    known = services.items() if isinstance(services, dict) else ()
    return {name: facts for name, facts in known if isinstance(facts, dict)}


def is_alive(pid: object) -> bool:
    """Whether a process of that id exists; what is no process's id is none's."""
    if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid <= _LARGEST_PID:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
