"""Alive means progress, ready means that what the process needs answers; the two are told apart."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from libs.bus.api import BusUnavailable
from libs.clock import SimulatedClock
from libs.kernels import njit
from libs.runtime.compiling import COMPILING_BUDGET_S, declared_compiling
from libs.runtime.health import HealthServer, ServiceHealth, heartbeat_path
from libs.runtime.metrics import ServiceMetrics


class World:
    """A process's health on a clock of the test's own, with a bus that answers or not."""

    def __init__(self, run_dir: Path) -> None:
        self.clock = SimulatedClock(0)
        self.is_bus_up = True
        self.metrics = ServiceMetrics("bars")
        self.health = ServiceHealth("bars", run_dir, self.metrics, self.clock)
        self.health.watch("bus", self.check_bus)
        self.health.ask()
        self.health.state = "running"

    def check_bus(self) -> None:
        if not self.is_bus_up:
            raise BusUnavailable("Kafka at k:9092 does not answer")

    def sample(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(name, {"service": "bars", **labels})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_loop_that_makes_no_progress_is_not_alive_and_not_ready(world: World) -> None:
    world.clock.advance(4.9)
    assert world.health.liveness()[0] and world.health.readiness()[0]
    world.clock.advance(0.2)
    assert not world.health.liveness()[0]
    assert not world.health.readiness()[0]
    assert world.sample("perpflow_ready") == 0
    world.health.beat()
    assert world.health.liveness()[0]


def test_starting_has_a_budget_of_its_own(world: World) -> None:
    world.health.state = "starting"
    world.clock.advance(120)
    assert world.health.liveness()[0]
    assert not world.health.readiness()[0]
    world.clock.advance(120)
    assert not world.health.liveness()[0]


def test_a_loop_that_waits_for_the_broker_is_alive_for_a_minute(world: World) -> None:
    with world.health.waiting():
        for _ in range(59):
            world.clock.advance(1)
            world.health.beat_while_waiting()
            assert world.health.liveness()[0]
        for _ in range(10):
            world.clock.advance(1)
            world.health.beat_while_waiting()
        assert not world.health.liveness()[0]
    assert world.health.liveness()[0]


def test_a_loop_that_waits_is_alive_as_long_as_the_broker_is_away_and_a_minute_more(world: World) -> None:
    def pass_seconds(seconds: int) -> None:
        for _ in range(seconds):
            world.clock.advance(1.0)
            world.health.beat_while_waiting()

    with world.health.waiting():
        world.is_bus_up = False
        world.health.ask()
        pass_seconds(300)
        assert world.health.liveness()[0]
        world.is_bus_up = True
        world.health.ask()
        pass_seconds(59)
        assert world.health.liveness()[0]
        pass_seconds(10)
        assert not world.health.liveness()[0]


def test_a_dependency_that_does_not_answer_makes_unready_with_its_reason_but_not_dead(world: World) -> None:
    world.health.ask()
    assert world.health.readiness()[0]
    world.is_bus_up = False
    world.health.ask()
    is_ready, facts = world.health.readiness()
    assert not is_ready
    assert facts["dependencies"] == {"bus": "Kafka at k:9092 does not answer"}
    assert world.health.liveness()[0]
    assert world.sample("perpflow_dependency_up", dependency="bus") == 0
    world.is_bus_up = True
    world.health.ask()
    assert world.health.readiness()[0]
    assert world.sample("perpflow_dependency_up", dependency="bus") == 1


def test_a_process_is_not_ready_before_its_dependencies_were_asked(world: World) -> None:
    world.health.watch("venue", lambda: None)
    assert not world.health.readiness()[0]
    world.health.ask()
    assert world.health.readiness()[0]


def test_a_heartbeat_is_the_time_of_a_file_and_comes_back_when_somebody_removed_it(
    world: World, tmp_path: Path
) -> None:
    path = heartbeat_path(tmp_path, "bars")
    assert path.is_file()
    path.unlink()
    world.clock.advance(1)
    world.health.beat()
    assert path.is_file()


def test_endpoints_tell_live_from_ready(world: World) -> None:
    world.is_bus_up = False
    world.health.ask()
    server = HealthServer(world.health)
    try:
        assert get(server.port, "/live")[0] == 200
        status, facts = get(server.port, "/ready")
        assert status == 503 and facts["dependencies"]["bus"].startswith("Kafka at k:9092")
        assert get(server.port, "/health")[0] == 503
        world.clock.advance(60)
        assert get(server.port, "/live")[0] == 503
    finally:
        server.close()


def get(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


@pytest.mark.slow
def test_a_kernel_that_compiles_counts_as_waiting_with_a_budget_of_its_own(world: World) -> None:
    entered: list[float] = []

    @contextmanager
    def waiting(limit_s: float) -> Iterator[None]:
        entered.append(limit_s)
        with world.health.waiting(limit_s):
            yield

    @njit
    def inner(number: int) -> int:
        return number + 1

    @njit
    def outer(number: int) -> int:
        return int(inner(number)) * 2

    with declared_compiling(waiting):
        assert outer(1) == 4
        assert outer(2) == 6
    assert entered == [COMPILING_BUDGET_S]
    assert COMPILING_BUDGET_S > 60
