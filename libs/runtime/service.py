"""How a service's process begins, runs and ends. `CoreService` and `SourceService` are all a service's main needs.

A process knows five words: ``run`` (or nothing), ``verify`` (replay the session through this very core, JSON on
stdout), ``compare`` (replay it under other settings and say which decisions change), ``state`` (replay it up to a
market time in ns and say what the core holds there) and ``check`` (read the settings and build the core, to fail
early). A partition may follow the word.
"""

from __future__ import annotations

import dataclasses
import errno
import faulthandler
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import orjson
import structlog
from prometheus_client.registry import Collector
from pydantic_settings import BaseSettings

from libs.bus.api import Bus, BusDenied, BusError, BusFull, BusInvalid, BusLost, BusUnavailable, NewRecord
from libs.clock import SystemClock
from libs.domain.events import Core
from libs.runtime.compiling import declared_compiling
from libs.runtime.configuration import Configuration, read_configuration
from libs.runtime.errors import (
    EXIT_BAD_INPUT,
    EXIT_CHECK_FAILED,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    BadInput,
    DependencyUnavailable,
)
from libs.runtime.handler import Input
from libs.runtime.health import HealthServer, ServiceHealth
from libs.runtime.hosting import TaskHost
from libs.runtime.log import configure_logging, log_uncaught_errors
from libs.runtime.metrics import ServiceMetrics, announce
from libs.runtime.placement import Placement, Task, replica_name
from libs.runtime.platform_bus import open_platform_bus, session_placement
from libs.runtime.settings import PlatformSettings, load_settings, service_prefix
from libs.runtime.shell import CoreShell
from libs.runtime.source import EventSource, SourceShell
from libs.runtime.stop import StopRequested, StopSignal
from libs.runtime.verify import compare_decisions, read_state, verify_service
from libs.wire.topics import OUTBOX

__all__ = ["CoreService", "Input", "Loop", "SourceService", "run_loop", "run_process"]

SettingsT = TypeVar("SettingsT", bound=BaseSettings)

POLL_TIMEOUT_MS = 250
# What an error line says under `cause` where starting again would not help; the supervisor reads it.
CAUSE_DISK_FULL = "disk_full"
CAUSE_BUS_LOST = "bus_lost"


class Loop(Protocol):
    """What a process does over and over."""

    def open(self) -> None:
        """Get ready; called once."""
        ...

    def step(self, timeout_ms: int) -> int:
        """Do what is due within the time; return how much it was."""
        ...

    @property
    def is_finished(self) -> bool:
        """Whether there will be nothing more to do."""
        ...

    def close(self) -> None:
        """Finish what is in hand and let go."""
        ...

    def release(self) -> None:
        """Let go after an error, without writing anything."""
        ...


OutputCheck = Callable[[Sequence[NewRecord]], None]


def _no_guard(_settings: object, _task: Task) -> AbstractContextManager[OutputCheck | None]:
    return nullcontext()


class _CoreLoop(CoreShell):
    def __init__(self, *arguments: Any, enter_guard: Callable[[], OutputCheck | None], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._enter_guard = enter_guard

    def open(self) -> None:
        # Before it is opened it may be following another owner, which has a guard of its own.
        self._check_outputs = self._enter_guard()
        super().open()

    @property
    def is_finished(self) -> bool:
        return False


def run_process(service: str, body: Callable[[PlatformSettings, structlog.stdlib.BoundLogger], int]) -> int:
    """Run a process's body and turn its errors into one clear line and an exit code."""
    # What a process writes is for this user alone.
    os.umask(0o077)
    faulthandler.enable()
    logger = configure_logging(service)
    log_uncaught_errors(logger)
    try:
        platform = load_settings(PlatformSettings)
        logger = configure_logging(service, platform.log_format, platform.log_level)
        return body(platform, logger)
    except BadInput as error:
        logger.error("bad input", reason=str(error))
        return EXIT_BAD_INPUT
    except (BusDenied, BusInvalid) as error:
        logger.error("bad input", reason=str(error))
        return EXIT_BAD_INPUT
    except BusLost as error:
        logger.error("unavailable", reason=str(error), cause=CAUSE_BUS_LOST)
        return EXIT_UNAVAILABLE
    except BusFull as error:
        logger.error("unavailable", reason=str(error), cause=CAUSE_DISK_FULL)
        return EXIT_UNAVAILABLE
    except (BusUnavailable, DependencyUnavailable) as error:
        logger.error("unavailable", reason=str(error))
        return EXIT_UNAVAILABLE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        reason = f"the disk is full: {error.filename or 'see df'}; free some space and start again"
        logger.error("unavailable", reason=reason, cause=CAUSE_DISK_FULL)
        return EXIT_UNAVAILABLE
    except BusError as error:
        logger.error("bus refused", reason=str(error))
        return EXIT_CHECK_FAILED


def run_loop(
    service: str,
    platform: PlatformSettings,
    logger: structlog.stdlib.BoundLogger,
    server: HealthServer,
    loop: Loop,
    **facts: Any,
) -> int:
    """Open a loop, announce the process, step until asked to stop or finished, and close.

    `server` is closed by the caller, once everything that the loop uses is.
    An unexpected error is logged with its traceback and leaves everything uncommitted; the supervisor starts anew.
    """
    stop = StopSignal().install()
    health = server.health

    def enter(state: str) -> None:
        health.state = state
        health.beat()
        announce(platform.run_dir, service, metrics_port=server.port, state=state, **facts)

    enter("starting")
    try:
        with stop.interrupting():
            loop.open()
        enter("running")
        with declared_compiling(health.waiting):
            while not stop and not loop.is_finished:
                loop.step(POLL_TIMEOUT_MS)
                health.beat()
        final = "finished" if loop.is_finished else "stopped"
        health.end("stopping")
        loop.close()
        enter(final)
        logger.info(final)
        return EXIT_OK
    except StopRequested:
        # Opening may wait for something that never comes; nothing has been handled yet.
        health.end("stopping")
        loop.release()
        enter("stopped")
        logger.info("stopped while starting")
        return EXIT_OK
    except (BadInput, BusError, DependencyUnavailable):
        health.end("failed")
        loop.release()
        raise
    except Exception as error:
        health.end("failed")
        loop.release()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        logger.exception("unexpected error; nothing of this batch was committed")
        return EXIT_CHECK_FAILED


@dataclasses.dataclass(frozen=True, slots=True)
class CoreService(Generic[SettingsT]):
    """A service that is a core behind the shell."""

    name: str
    inputs: Sequence[Input]
    settings_type: type[SettingsT]
    build_core: Callable[[SettingsT], Core]
    collectors: Sequence[Collector] = ()
    """Metrics of the service's own, beside those that every service has."""

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run, verify, compare, tell the state or check, by the process's arguments."""
        words = list(sys.argv[1:] if arguments is None else arguments)
        at = int(words.pop(1)) if len(words) == 3 and words[0] == "state" and words[1].isdecimal() else 0
        bodies: dict[str, Callable[[PlatformSettings, structlog.stdlib.BoundLogger], int]]
        partition = int(words.pop()) if len(words) == 2 and words[1].isdecimal() else 0
        bodies = {
            "run": self.run,
            "verify": lambda platform, _logger: self._verify(platform, partition),
            "compare": lambda platform, _logger: self._compare(platform, partition),
            "state": lambda platform, _logger: self._state(platform, partition, at),
            "check": self._check,
        }
        body = bodies.get(words[0] if words else "run")
        if body is None or len(words) > 1:
            known = "run, verify, compare, state TIME_NS PARTITION or check"
            sys.stderr.write(f"{self.name}: {' '.join(words)!r} is not known; say {known}\n")
            return EXIT_BAD_INPUT
        return run_process(self.name, body)

    def load_settings(self, placement: Placement, task: Task) -> SettingsT:
        """Return the settings of a task: the service's, and those of the task's own account before them."""
        prefix = service_prefix("execution" if self.name == OUTBOX else self.name)
        overrides = placement.account_settings(task, prefix)
        if not overrides:
            return load_settings(self.settings_type)
        return load_settings(self.settings_type, Configuration({**read_configuration().variables, **overrides}))

    def _check(self, platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
        placement = session_placement(platform)
        for task in placement.tasks(self.name)[: None if placement.accounts else 1]:
            self.build_core(self.load_settings(placement, task))
        logger.info("settings are good")
        return EXIT_OK

    def run(
        self,
        platform: PlatformSettings,
        logger: structlog.stdlib.BoundLogger,
        guard: Callable[[SettingsT, Task], AbstractContextManager[OutputCheck | None]] = _no_guard,
    ) -> int:
        """Run this replica's tasks until asked to stop. `guard` is entered around each task that it owns, with the
        task's settings, and gives what checks its outputs; a main that needs more around the tasks calls this inside
        `run_process`."""
        placement = session_placement(platform)
        name = replica_name(self.name, platform.replica)
        settings_of = {task: self.load_settings(placement, task) for task in placement.tasks(self.name)}
        is_alone = placement.partitions == 1 and platform.replica is None
        # Where there is one core, what it refuses is said before anything is opened.
        built = {task: self.build_core(settings) for task, settings in settings_of.items() if is_alone}
        health = ServiceHealth(name, platform.run_dir, ServiceMetrics(self.name, self.collectors))

        @contextmanager
        def open_task(task: Task, bus: Bus, on_progress: Callable[[], None]) -> Iterator[_CoreLoop]:
            settings = settings_of[task]
            core = built[task] if is_alone else self.build_core(settings)
            with ExitStack() as entered:
                yield _CoreLoop(
                    self.name,
                    core,
                    self.inputs,
                    bus,
                    health.metrics,
                    logger,
                    batch_max_records=platform.batch_max_records,
                    snapshot_every_records=platform.snapshot_every_records,
                    snapshot_every_s=platform.snapshot_every_s,
                    clock=SystemClock(),
                    on_progress=on_progress,
                    task=task,
                    enter_guard=lambda: entered.enter_context(guard(settings, task)),
                )

        with (
            HealthServer(health, platform.metrics_host, platform.metrics_port) as server,
            open_platform_bus(platform, waiting=health.waiting) as bus,
        ):
            health.watch("bus", bus.ping)
            if is_alone:
                with open_task(next(iter(settings_of)), bus, health.beat) as only:
                    return run_loop(name, platform, logger, server, only)
            host = TaskHost(
                self.name,
                placement,
                None if platform.replica is None else f"{self.name}-{platform.replica}",
                lambda waiting: open_platform_bus(platform, waiting=waiting),
                open_task,
                bus,
                health.metrics,
                logger,
                SystemClock(),
                on_progress=health.beat,
                has_standby=platform.standby,
            )
            return run_loop(name, platform, logger, server, host)

    def _task(self, placement: Placement, partition: int) -> Task:
        task = placement.task(self.name, partition)
        if task is None:
            raise BadInput(f"{self.name} has no task in partition {partition}; name one that has")
        return task

    def _verify(self, platform: PlatformSettings, partition: int) -> int:
        placement = session_placement(platform)
        task = self._task(placement, partition)
        with open_platform_bus(platform) as bus:
            core = self.build_core(self.load_settings(placement, task))
            result = verify_service(self.name, core, self.inputs, bus, task)
        sys.stdout.write(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE).decode())
        return EXIT_OK if result.difference is None else EXIT_CHECK_FAILED

    def _state(self, platform: PlatformSettings, partition: int, at: int) -> int:
        placement = session_placement(platform)
        task = self._task(placement, partition)
        with open_platform_bus(platform) as bus:
            core = self.build_core(self.load_settings(placement, task))
            result = read_state(self.name, core, self.inputs, bus, at, task)
        sys.stdout.write(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE).decode())
        return EXIT_OK

    def _compare(self, platform: PlatformSettings, partition: int) -> int:
        placement = session_placement(platform)
        task = self._task(placement, partition)
        with open_platform_bus(platform) as bus:
            core = self.build_core(self.load_settings(placement, task))
            result = compare_decisions(self.name, core, self.inputs, bus, task)
        sys.stdout.write(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE).decode())
        return EXIT_OK


@dataclasses.dataclass(frozen=True, slots=True)
class SourceService(Generic[SettingsT]):
    """A service that publishes a source of market events."""

    name: str
    settings_type: type[SettingsT]
    build_source: Callable[[SettingsT, Path], EventSource]

    def main(self) -> int:
        """Run until the source ends or the process is asked to stop."""
        return run_process(self.name, self._run)

    def _run(self, platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
        source = self.build_source(load_settings(self.settings_type), platform.run_dir)
        health = ServiceHealth(self.name, platform.run_dir, ServiceMetrics(self.name))
        with (
            HealthServer(health, platform.metrics_host, platform.metrics_port) as server,
            open_platform_bus(platform, waiting=health.waiting) as bus,
        ):
            health.watch("bus", bus.ping)
            health.watch("venue", source.check_venue)
            loop = SourceShell(
                self.name,
                source,
                bus,
                health.metrics,
                logger,
                clock=SystemClock(),
                batch_max_records=platform.batch_max_records,
            )
            return run_loop(self.name, platform, logger, server, loop)
