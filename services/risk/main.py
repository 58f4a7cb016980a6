"""Runs risk as a service: intents, market, account and commands in; verdicts, control states and alerts out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import structlog

from libs.runtime.placement import Task
from libs.runtime.service import CoreService, OutputCheck, run_process
from libs.runtime.settings import PlatformSettings
from services.risk.building import build_compared_core, build_core
from services.risk.inputs import INPUTS
from services.risk.settings import RiskSettings
from services.risk.settings_record import record_limits
from services.risk.watching import KillSwitchWatch

SERVICE = CoreService(
    name="risk",
    inputs=INPUTS,
    settings_type=RiskSettings,
    build_core=build_core,
)


def run(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    """Run the tasks, each with the limits of its settings on record and the kill switch's watch beside it."""

    @contextmanager
    def guard(settings: RiskSettings, task: Task) -> Iterator[OutputCheck]:
        record_limits(platform, settings, logger)
        watch = KillSwitchWatch(platform, settings, task.group)
        watch.start()
        try:
            yield watch.check_outputs
        finally:
            watch.stop()

    return SERVICE.run(platform, logger, guard)


def main() -> int:
    """Run until asked to stop; return the exit code."""
    if sys.argv[1:] in ([], ["run"]):
        return run_process(SERVICE.name, run)
    return (replace(SERVICE, build_core=build_compared_core) if sys.argv[1:2] == ["compare"] else SERVICE).main()


if __name__ == "__main__":
    raise SystemExit(main())
