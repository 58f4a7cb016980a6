"""A replica of a service in a session: the host that it has in production, its tasks stepped one after the other.

Where the host gives each task a thread, the scheduler steps them here; who owns a task is settled by the same group,
the same fencing and the same recovery.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import structlog

from libs.bus.api import Consumer, ProducerFenced
from libs.clock import Clock
from libs.runtime.health import Heartbeat
from libs.runtime.hosting import MakeLoop, OpenBus, TaskHost, TaskLoop
from libs.runtime.placement import Placement, Task
from libs.wire.topics import tasks_topic
from services.simulation.bus import RoughBus
from services.simulation.silent_metrics import SilentMetrics

Opens = Callable[[Task, RoughBus], TaskLoop]


class SteppedTask:
    """A task of a replica without a thread: `step` once per turn of its process. A task that was asked to stop closes
    at its next turn."""

    def __init__(self, task: Task, open_bus: OpenBus, make_loop: MakeLoop, clock: Clock) -> None:
        self.task = task
        self.is_ready = self.is_fenced = False
        self.is_alive = True
        self.error: BaseException | None = None
        # One that is not stepped is no hung one: its process is not.
        self.heartbeat: Heartbeat = _Stepped(None, clock)
        self.left_at: float | None = None
        self._is_stopping = False
        self._context = make_loop(task, open_bus(nullcontext), lambda: None)
        self._loop = self._context.__enter__()
        self._run(self._loop.open)
        self.is_ready = self.is_alive

    def step(self) -> int:
        """Handle one batch, or close; return how many records it had."""
        if not self.is_alive:
            return 0
        if self._is_stopping:
            self._run(self._loop.close)
            self.is_alive = False
            return 1
        return self._run(lambda: self._loop.step(0))

    def stop(self) -> None:
        self._is_stopping = True

    def abandon(self) -> None:
        self._is_stopping = True
        if self.is_alive:
            self.is_alive = False
            self._loop.release()

    def join(self, _timeout_s: float) -> None:
        if self.is_alive:
            self.step()

    def _run(self, act: Callable[[], int | None]) -> int:
        try:
            return act() or 0
        except ProducerFenced:
            self.is_fenced = True
        except Exception as error:  # noqa: BLE001 - handed to the host, which ends with it
            self.error = error
        self.is_alive = False
        self._loop.release()
        return 1


class _Stepped(Heartbeat):
    @property
    def age_s(self) -> float:
        return 0.0


class Replica:
    """One process of a service that shares its tasks with others. `note_owner` is told of each task that starts."""

    def __init__(
        self,
        service: str,
        name: str,
        placement: Placement,
        open_bus: Callable[[], RoughBus],
        make_loop: Opens,
        metrics: SilentMetrics,
        logger: structlog.stdlib.BoundLogger,
        clock: Clock,
        note_owner: Callable[[Task], None],
    ) -> None:
        self._tasks: list[SteppedTask] = []
        self._note_owner = note_owner
        self._members: Consumer | None = None
        self._view = open_bus()

        def make(task: Task, bus: object, _beat: Callable[[], None]) -> AbstractContextManager[TaskLoop]:
            assert isinstance(bus, RoughBus), "a replica's own view"
            return nullcontext(make_loop(task, bus))

        self._host = TaskHost(
            service,
            placement,
            name,
            lambda _waiting: open_bus(),  # type: ignore[arg-type,return-value]
            make,
            self._view,  # type: ignore[arg-type]
            metrics,
            logger,
            clock,
            start_task=self._start,
        )
        self._topic = tasks_topic(service)

    def _start(self, task: Task, open_bus: OpenBus, make_loop: MakeLoop, clock: Clock) -> SteppedTask:
        started = SteppedTask(task, open_bus, make_loop, clock)
        self._tasks = [*(each for each in self._tasks if each.is_alive), started]
        self._note_owner(task)
        return started

    @property
    def running(self) -> frozenset[str]:
        """The names of the tasks that run here, those that it is about to give up included."""
        return frozenset(each.task.name for each in self._tasks if each.is_alive)

    def open(self) -> None:
        """Join the group and get this replica's share of tasks ready."""
        self._host.open()

    def step(self, timeout_ms: int) -> int:
        """Let every task handle a batch, then follow the group; return how much was done."""
        before = self.running
        handled = sum(each.step() for each in self._tasks)
        self._host.step(timeout_ms)
        return handled + (self.running != before)

    def expire(self) -> None:
        """Let the broker notice that it is gone."""
        self._view.expire_members()

    def close(self) -> None:
        """Finish every task and leave."""
        self._host.close()
