"""How a service's process begins, runs and ends. `CoreService` and `SourceService` are all a service's main needs.

A process knows four words: ``run`` (or nothing), ``verify`` (replay the session through this very core, JSON on
stdout), ``compare`` (replay it under other settings and say which decisions change) and ``check`` (read the settings
and build the core, to fail early).
"""

from __future__ import annotations

import dataclasses
import errno
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import orjson
import structlog
from pydantic_settings import BaseSettings

from libs.bus.api import BusError, BusFull, BusUnavailable, NewRecord
from libs.bus.open import open_bus
from libs.clock import SystemClock
from libs.domain.events import Core
from libs.runtime.errors import (
    EXIT_BAD_INPUT,
    EXIT_CHECK_FAILED,
    EXIT_OK,
    EXIT_UNAVAILABLE,
    BadInput,
    DependencyUnavailable,
)
from libs.runtime.handler import Input
from libs.runtime.log import configure_logging
from libs.runtime.metrics import HealthServer, ServiceMetrics, announce
from libs.runtime.settings import PlatformSettings, load_settings
from libs.runtime.shell import CoreShell
from libs.runtime.source import Source, SourceShell
from libs.runtime.stop import StopRequested, StopSignal, stop_with_supervisor
from libs.runtime.verify import compare_decisions, verify_service

__all__ = ["CoreService", "Input", "Loop", "SourceService", "run_loop", "run_process"]

SettingsT = TypeVar("SettingsT", bound=BaseSettings)

POLL_TIMEOUT_MS = 250
FAULT_DISK_FULL = "disk_full"


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


class _CoreLoop(CoreShell):
    @property
    def is_finished(self) -> bool:
        return False


def run_process(service: str, body: Callable[[PlatformSettings, structlog.stdlib.BoundLogger], int]) -> int:
    """Run a process's body and turn its errors into one clear line and an exit code."""
    logger = configure_logging(service)
    stop_with_supervisor(os.environ)
    try:
        platform = load_settings(PlatformSettings)
        logger = configure_logging(service, platform.log_format, platform.log_level)
        return body(platform, logger)
    except BadInput as error:
        logger.error("bad input", reason=str(error))
        return EXIT_BAD_INPUT
    except BusFull as error:
        # Starting again would not help, which the supervisor learns from `fault`.
        logger.error("unavailable", reason=str(error), fault=FAULT_DISK_FULL)
        return EXIT_UNAVAILABLE
    except (BusUnavailable, DependencyUnavailable) as error:
        logger.error("unavailable", reason=str(error))
        return EXIT_UNAVAILABLE
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        reason = f"the disk is full: {error.filename or 'see df'}; free some room and start again"
        logger.error("unavailable", reason=reason, fault=FAULT_DISK_FULL)
        return EXIT_UNAVAILABLE
    except BusError as error:
        logger.error("bus refused", reason=str(error))
        return EXIT_CHECK_FAILED


def run_loop(
    service: str,
    platform: PlatformSettings,
    logger: structlog.stdlib.BoundLogger,
    metrics: ServiceMetrics,
    loop: Loop,
    **facts: Any,
) -> int:
    """Open a loop, announce the process, step until asked to stop or finished, and close.

    An unexpected error is logged with its traceback and leaves everything uncommitted; the supervisor starts anew.
    """
    stop = StopSignal().install()
    state: dict[str, Any] = {"state": "starting", "service": service, "since": time.time()}
    health = HealthServer(metrics, lambda: dict(state), platform.metrics_host, platform.metrics_port)
    announce(platform.run_dir, service, metrics_port=health.port, state="starting", **facts)
    try:
        with stop.interrupting():
            loop.open()
        state["state"] = "running"
        announce(platform.run_dir, service, metrics_port=health.port, state="running", **facts)
        while not stop and not loop.is_finished:
            loop.step(POLL_TIMEOUT_MS)
        final = "finished" if loop.is_finished else "stopped"
        state["state"] = "stopping"
        loop.close()
        announce(platform.run_dir, service, metrics_port=health.port, state=final, **facts)
        logger.info(final)
        return EXIT_OK
    except StopRequested:
        # Opening may wait for something that never comes; nothing has been handled yet.
        loop.release()
        announce(platform.run_dir, service, metrics_port=health.port, state="stopped", **facts)
        logger.info("stopped while starting")
        return EXIT_OK
    except (BadInput, BusError, DependencyUnavailable):
        state["state"] = "failed"
        loop.release()
        raise
    except Exception as error:
        state["state"] = "failed"
        loop.release()
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            raise
        logger.exception("unexpected error; nothing of this batch was committed")
        return EXIT_CHECK_FAILED
    finally:
        health.close()


@dataclasses.dataclass(frozen=True, slots=True)
class CoreService(Generic[SettingsT]):
    """A service that is a core behind the shell."""

    name: str
    inputs: Sequence[Input]
    settings_type: type[SettingsT]
    build_core: Callable[[SettingsT], Core]

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run, verify, compare or check, by the process's arguments."""
        words = list(sys.argv[1:] if arguments is None else arguments)
        bodies: dict[str, Callable[[PlatformSettings, structlog.stdlib.BoundLogger], int]]
        bodies = {"run": self.run, "verify": self._verify, "compare": self._compare, "check": self._check}
        body = bodies.get(words[0] if words else "run")
        if body is None or len(words) > 1:
            sys.stderr.write(f"{self.name}: {' '.join(words)!r} is not known; say run, verify, compare or check\n")
            return EXIT_BAD_INPUT
        return run_process(self.name, body)

    def _build(self) -> Core:
        return self.build_core(load_settings(self.settings_type))

    def _check(self, _platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
        self._build()
        logger.info("settings are good")
        return EXIT_OK

    def run(
        self,
        platform: PlatformSettings,
        logger: structlog.stdlib.BoundLogger,
        check_outputs: Callable[[Sequence[NewRecord]], None] | None = None,
    ) -> int:
        """Run the shell until told to stop; a main that needs more around it calls this inside `run_process`."""
        core = self._build()
        metrics = ServiceMetrics(self.name)
        with open_bus(platform.bus, prefix=platform.topic_prefix) as bus:
            loop = _CoreLoop(
                self.name,
                core,
                self.inputs,
                bus,
                metrics,
                logger,
                batch_max_records=platform.batch_max_records,
                snapshot_every_records=platform.snapshot_every_records,
                check_outputs=check_outputs,
                clock=SystemClock(),
            )
            return run_loop(self.name, platform, logger, metrics, loop)

    def _verify(self, platform: PlatformSettings, _logger: structlog.stdlib.BoundLogger) -> int:
        with open_bus(platform.bus, prefix=platform.topic_prefix) as bus:
            result = verify_service(self.name, self._build(), self.inputs, bus)
        sys.stdout.write(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE).decode())
        return EXIT_OK if result.difference is None else EXIT_CHECK_FAILED

    def _compare(self, platform: PlatformSettings, _logger: structlog.stdlib.BoundLogger) -> int:
        with open_bus(platform.bus, prefix=platform.topic_prefix) as bus:
            result = compare_decisions(self.name, self._build(), self.inputs, bus)
        sys.stdout.write(orjson.dumps(result, option=orjson.OPT_APPEND_NEWLINE).decode())
        return EXIT_OK


@dataclasses.dataclass(frozen=True, slots=True)
class SourceService(Generic[SettingsT]):
    """A service that publishes a source of market events."""

    name: str
    settings_type: type[SettingsT]
    build_source: Callable[[SettingsT, Path], Source]

    def main(self) -> int:
        """Run until the source ends or the process is asked to stop."""
        return run_process(self.name, self._run)

    def _run(self, platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
        source = self.build_source(load_settings(self.settings_type), platform.run_dir)
        metrics = ServiceMetrics(self.name)
        with open_bus(platform.bus, prefix=platform.topic_prefix) as bus:
            loop = SourceShell(
                self.name,
                source,
                bus,
                metrics,
                logger,
                clock=SystemClock(),
                batch_max_records=platform.batch_max_records,
            )
            return run_loop(self.name, platform, logger, metrics, loop)
