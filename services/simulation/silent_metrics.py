"""Metrics that nobody reads: counting them would take a tenth of a simulation's time."""

from __future__ import annotations

from libs.runtime.metrics import ServiceMetrics


class _Silent:
    """Stands for every metric and every share of one."""

    def labels(self, *_values: str) -> _Silent:
        return self

    def inc(self, amount: float = 1) -> None:
        pass

    def set(self, value: float) -> None:
        pass

    def observe(self, amount: float) -> None:
        pass


class SilentMetrics(ServiceMetrics):
    """What a shell and the recorder take for a service's metrics. It has no registry, so that both may declare more."""

    def __init__(self) -> None:
        silent = _Silent()
        self.registry = None  # type: ignore[assignment]
        self.records_in = self.records_out = self.duplicates = self.dead_letters = silent  # type: ignore[assignment]
        self.transactions = self.lag = self.tasks_owned = self.tasks_taken = silent  # type: ignore[assignment]
        self.hop_latency = self.handle_seconds = self.commit_seconds = silent  # type: ignore[assignment]
