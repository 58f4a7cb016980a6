"""A host looks after its tasks as long as they live, those that the group took from it too."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from libs.bus.memory import MemoryBus
from libs.clock import Clock, SimulatedClock
from libs.runtime.health import Heartbeat
from libs.runtime.hosting import REVOKED_BUDGET_S, MakeLoop, OpenBus, TaskHost
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import Placement, Task, place_evenly
from libs.wire.topics import tasks_topic

PLACEMENT = Placement(2, place_evenly(["AUSDT.BINANCE", "BUSDT.BINANCE"], 2))
TOPIC = tasks_topic("features")


class HangingTask:
    """Never ends by itself, and makes no progress once it was asked to stop."""

    def __init__(self, task: Task, _open_bus: OpenBus, _make_loop: MakeLoop, clock: Clock) -> None:
        self.task = task
        self.is_ready = True
        self.is_fenced = False
        self.error: BaseException | None = None
        self.left_at: float | None = None
        self.is_alive = True
        self.is_abandoned = False
        self.heartbeat = Heartbeat(None, clock)

    def stop(self) -> None:
        """It hangs."""

    def abandon(self) -> None:
        self.is_abandoned = True

    def join(self, timeout_s: float) -> None:
        """It does not end."""


@pytest.mark.timeout(60)
def test_a_revoked_task_that_hangs_is_shown_as_a_hung_process_until_it_ends() -> None:
    clock = SimulatedClock(0)
    started: list[HangingTask] = []

    def start(task: Task, open_bus: OpenBus, make_loop: MakeLoop, clock: Clock) -> HangingTask:
        started.append(HangingTask(task, open_bus, make_loop, clock))
        return started[-1]

    with MemoryBus() as bus:
        bus.create_topics(PLACEMENT.topics())
        host = TaskHost(
            "features",
            PLACEMENT,
            "features-0",
            lambda _waiting: bus,
            lambda _task, _bus, _beat: pytest.fail("no loop is made"),
            bus,
            ServiceMetrics("features"),
            configure_logging("features", level="critical"),
            clock,
            start_task=start,
        )
        host.open()
        assert host.step(1) == 2
        with closing(bus.consumer([TOPIC], group=TOPIC, member_id="features-1")) as other:
            while host.step(1) == 2:
                other.poll(1, 1)
            (hanging,) = (each for each in started if each.left_at is not None)
            # Within its budget it may be quiet: it writes its snapshot.
            assert host.step(1) == 1
            clock.advance(REVOKED_BUDGET_S + 1.0)
            for each in started:
                if each is not hanging:
                    each.heartbeat.beat()
            stepping = threading.Thread(target=lambda: host.step(1))
            stepping.start()
            stepping.join(0.5)
            assert stepping.is_alive() and hanging.is_abandoned
            hanging.is_alive = False
            stepping.join()
        for each in started:
            each.is_alive = False
        host.close()
