"""Runs a replica's share of a service's tasks: each in a thread and on a connection of its own.

The replicas of a service are members of one group on a topic without records, whose partitions stand for the tasks.
Membership only says who should run a task; that never two do is kept by its transactional id, which a new owner fences
before it reads anything::

    assigned    fence the last owner, restore the snapshot, replay the journal, go on; the other tasks go on meanwhile
    revoked     finish the batch in hand and write a snapshot within the budget, else leave it uncommitted
    lost        a commit is refused (`ProducerFenced`): drop the task, unless the group says that it is still ours
    standby     where asked for: follow the journals of other replicas' tasks, to go on at once when they are assigned

While a rebalance is under way every task goes on. A task that makes no progress, or that was revoked and does not end,
keeps `step` from returning, so that its process is found hung; one that fails ends the process.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

import structlog

from libs.bus.api import Bus, Consumer, OffsetGone, ProducerFenced, Waiting
from libs.clock import Clock
from libs.runtime.health import Heartbeat
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.opened import opened
from libs.runtime.placement import Placement, Task
from libs.wire.topics import tasks_topic

_POLL_MS = 250
_LOOK_MS = 20
# How soon a standby hears that it is to take over.
_FOLLOW_MS = 50
# How long a revoked task may take to finish what it has in hand and to write its snapshot.
REVOKED_BUDGET_S = 10.0
# How long a process that was asked to stop waits for its tasks; its supervisor waits longer.
STOP_BUDGET_S = 10.0
_SILENT_S = 1.0
# Where two replicas both think a task theirs, neither takes it back before the group has had time to tell.
_TAKE_BACK_S = 1.0


class TaskLoop(Protocol):
    """What a task's thread does: a `CoreShell`."""

    def follow(self, timeout_ms: int) -> int: ...

    def open(self) -> None: ...

    def step(self, timeout_ms: int) -> int: ...

    def close(self) -> None: ...

    def release(self) -> None: ...


OpenBus = Callable[[Waiting], Bus]
# Makes the loop of a task on a bus; the last argument is to be called at every record.
MakeLoop = Callable[[Task, Bus, Callable[[], None]], AbstractContextManager[TaskLoop]]


class RunningTask(Protocol):
    """A task that runs here. `error` is what ended it, if anything did; `is_fenced` where another owner took over;
    `left_at` is when the group took it from this replica."""

    task: Task
    is_ready: bool
    is_fenced: bool
    error: BaseException | None
    heartbeat: Heartbeat
    left_at: float | None

    @property
    def is_alive(self) -> bool: ...

    def stop(self) -> None:
        """Ask it to finish what it has in hand."""
        ...

    def abandon(self) -> None:
        """Have it leave what it has in hand at the next record."""
        ...

    def join(self, timeout_s: float) -> None: ...


# Starts a task; it runs beside its host.
StartTask = Callable[[Task, OpenBus, MakeLoop, Clock], RunningTask]


class _Abandoned(Exception):
    """The task's thread was told to leave what it has in hand."""


class _TaskThread:
    """A running task with its thread.

    A standby follows the task's owner until it is told to `take_over`.
    """

    def __init__(
        self, task: Task, open_bus: OpenBus, make_loop: MakeLoop, clock: Clock, *, is_standby: bool = False
    ) -> None:
        self.task = task
        self.is_ready = False
        self.is_fenced = False
        self.error: BaseException | None = None
        self.heartbeat = Heartbeat(None, clock)
        self.left_at: float | None = None
        self._open_bus = open_bus
        self._make_loop = make_loop
        self._owns = threading.Event()
        if not is_standby:
            self._owns.set()
        self._stopping = threading.Event()
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"task-{task.name}", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def take_over(self) -> None:
        """Make it the task's owner."""
        self._owns.set()

    def stop(self) -> None:
        self._stopping.set()

    def abandon(self) -> None:
        self._stopping.set()
        self._abandoned.set()

    def join(self, timeout_s: float) -> None:
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            with self._open_bus(self.heartbeat.waiting) as bus, self._make_loop(self.task, bus, self._beat) as loop:
                try:
                    while not self._owns.is_set():
                        if self._stopping.is_set():
                            loop.release()
                            return
                        loop.follow(_FOLLOW_MS)
                        self._beat()
                    loop.open()
                    self.is_ready = True
                    while not self._stopping.is_set():
                        loop.step(_POLL_MS)
                        self._beat()
                    loop.close()
                except BaseException:
                    loop.release()
                    raise
        except ProducerFenced:
            self.is_fenced = True
        except _Abandoned:
            return
        except BaseException as error:  # noqa: BLE001 - handed to the process's own thread, which ends with it
            self.error = error

    def _beat(self) -> None:
        self.heartbeat.beat()
        if self._abandoned.is_set():
            raise _Abandoned


class TaskHost:
    """A replica of a service as a loop: `open`, `step` over and over, `close`.

    `member_id` makes it a static member, which gets its tasks again at once when it comes back; without one it is a
    dynamic member, whose tasks wait for the session timeout when it dies. With `has_standby` it follows the tasks that
    it does not own.
    """

    def __init__(
        self,
        service: str,
        placement: Placement,
        member_id: str | None,
        open_bus: OpenBus,
        make_loop: MakeLoop,
        bus: Bus,
        metrics: ServiceMetrics,
        logger: structlog.stdlib.BoundLogger,
        clock: Clock,
        on_progress: Callable[[], None] = lambda: None,
        start_task: StartTask = _TaskThread,
        *,
        has_standby: bool = False,
    ) -> None:
        self._service = service
        self._placement = placement
        self._has_standby = has_standby
        self._member_id = member_id
        self._open_bus = open_bus
        self._make_loop = make_loop
        self._bus = bus
        self._owned = metrics.tasks_owned
        self._taken = metrics.tasks_taken
        self._logger = logger
        self._clock = clock
        self._on_progress = on_progress
        self._start_task = start_task
        self._members: Consumer | None = None
        self._running: dict[int, RunningTask] = {}
        self._leaving: list[RunningTask] = []
        self._standby: dict[int, _TaskThread] = {}
        self._lost_at: dict[int, float] = {}

    @property
    def is_finished(self) -> bool:
        """There is always more to do."""
        return False

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions whose tasks run here and are ready."""
        return frozenset(number for number, each in self._running.items() if each.is_ready)

    def open(self) -> None:
        """Join the group and get this replica's share of tasks ready."""
        topic = tasks_topic(self._service)
        self._members = self._bus.consumer([topic], group=topic, member_id=self._member_id)
        while True:
            self._turn(_LOOK_MS)
            self._on_progress()
            if self._members.has_share and len(self.partitions) == len(self._running):
                return

    def step(self, timeout_ms: int) -> int:
        """Follow the group and look after the tasks; return how many run here.

        Raises what ended a task. Does not return while a task makes no progress.
        """
        self._turn(timeout_ms)
        while self._has_silent_task():
            self._turn(_LOOK_MS)
        return len(self._running)

    def _turn(self, timeout_ms: int) -> None:
        members = opened(self._members)
        members.poll(1, timeout_ms)
        for each in self._every_task():
            each.heartbeat.beat_while_waiting()
        self._drop_ended()
        if members.has_share:
            self._follow({at.partition for at in members.assignment()})

    def _follow(self, wanted: set[int]) -> None:
        for number in self._running.keys() - wanted:
            each = self._running.pop(number)
            self._logger.info("task revoked", task=each.task.name)
            each.stop()
            each.left_at = self._clock.monotonic_s()
            self._leaving.append(each)
            self._owned.labels(self._service, number).set(0)
        leaving = {each.task.partition for each in self._leaving}
        now = self._clock.monotonic_s()
        for number in sorted(wanted - self._running.keys() - leaving):
            task = self._placement.task(self._service, number)
            if task is None or now - self._lost_at.get(number, float("-inf")) < _TAKE_BACK_S:
                continue
            standby = self._standby.pop(number, None)
            self._logger.info("task assigned", task=task.name, followed=standby is not None)
            if standby is None:
                self._running[number] = self._start_task(task, self._open_bus, self._make_loop, self._clock)
            else:
                self._running[number] = standby
                standby.take_over()
            self._owned.labels(self._service, number).set(1)
            self._taken.labels(self._service, number).inc()
        if self._has_standby:
            self._stand_by(wanted | leaving)

    def _stand_by(self, elsewhere: set[int]) -> None:
        for task in self._placement.tasks(self._service):
            number = task.partition
            if number not in elsewhere and number not in self._running and number not in self._standby:
                self._standby[number] = _TaskThread(task, self._open_bus, self._make_loop, self._clock, is_standby=True)

    def _every_task(self) -> list[RunningTask]:
        return [*self._running.values(), *self._leaving, *self._standby.values()]

    def _drop_ended(self) -> None:
        for number, each in list(self._running.items()):
            if each.is_alive:
                continue
            del self._running[number]
            self._owned.labels(self._service, number).set(0)
            if each.error is not None:
                raise each.error
            self._lost_at[number] = self._clock.monotonic_s()
            self._logger.warning("task lost: another owner took over", task=each.task.name)
        for number, each in list(self._standby.items()):
            if not each.is_alive:
                del self._standby[number]
                # What it was to follow next has been removed: another begins at a later snapshot.
                if each.error is not None and not isinstance(each.error, OffsetGone):
                    raise each.error
        now = self._clock.monotonic_s()
        for each in list(self._leaving):
            if not each.is_alive:
                self._leaving.remove(each)
                if each.error is not None:
                    raise each.error
            elif each.left_at is not None and now - each.left_at > REVOKED_BUDGET_S:
                each.abandon()

    def _has_silent_task(self) -> bool:
        now = self._clock.monotonic_s()
        at_work = [each for each in self._running.values() if each.is_ready]
        # A revoked task may hang in its last commit: the group may give it back, and nobody would run it.
        overdue = [each for each in self._leaving if each.left_at is not None and now - each.left_at > REVOKED_BUDGET_S]
        return any(each.heartbeat.age_s > _SILENT_S for each in (*at_work, *overdue))

    def close(self) -> None:
        """Finish every task, then leave. Raises what ended a task."""
        every = self._every_task()
        for each in every:
            each.stop()
        until = self._clock.monotonic_s() + STOP_BUDGET_S
        for each in every:
            each.join(max(0.0, until - self._clock.monotonic_s()))
        self.release()
        for each in every:
            if each.error is not None:
                raise each.error

    def release(self) -> None:
        """Leave everything uncommitted and let go."""
        every = self._every_task()
        for each in every:
            each.abandon()
        for each in every:
            each.join(_SILENT_S)
        if self._members is not None:
            self._members.close()
