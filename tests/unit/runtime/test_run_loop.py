"""The loop that every process runs, whatever it does in each step."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from libs.bus.api import BusUnavailable
from libs.clock import SimulatedClock
from libs.runtime.health import HealthServer, ServiceHealth
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.service import run_loop
from libs.runtime.settings import PlatformSettings


class LeavesSlowly:
    """Loses its bus in the first step; letting go of it takes twenty seconds, in which the process shows its age."""

    is_finished = False

    def __init__(self, health: ServiceHealth, metrics: ServiceMetrics, clock: SimulatedClock) -> None:
        self._health, self._metrics, self._clock = health, metrics, clock
        self.age_s: float | None = None

    def open(self) -> None:
        """Nothing to open."""

    def step(self, timeout_ms: int) -> int:  # noqa: ARG002
        raise BusUnavailable("Kafka at k:9092 does not answer")

    def close(self) -> None:
        raise AssertionError("a loop that failed was closed as if it had not")

    def release(self) -> None:
        self._clock.advance(20.0)
        self._health.beat_while_waiting()
        self.age_s = self._metrics.registry.get_sample_value("perpflow_heartbeat_age_seconds", {"service": "bars"})


@pytest.fixture
def _kept_signals() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("_kept_signals")
def test_a_process_that_lets_go_of_a_bus_that_is_away_does_not_hang(tmp_path: Path) -> None:
    clock, metrics = SimulatedClock(0), ServiceMetrics("bars")
    health = ServiceHealth("bars", tmp_path, metrics, clock)
    loop = LeavesSlowly(health, metrics, clock)
    platform = PlatformSettings(run_dir=tmp_path, metrics_port=0)
    with HealthServer(health, port=0) as server:
        with pytest.raises(BusUnavailable):
            run_loop("bars", platform, structlog.stdlib.get_logger(), server, loop)
        assert loop.age_s is not None and loop.age_s < 1.0
        # What was opened around the loop is closed after it: a bus, a retention pass.
        clock.advance(20.0)
        health.beat_while_waiting()
        assert metrics.registry.get_sample_value("perpflow_heartbeat_age_seconds", {"service": "bars"}) == 0
