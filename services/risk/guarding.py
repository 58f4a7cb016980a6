"""What stands beside a task of risk while it runs: its limits on record, and the kill switch's watch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from libs.runtime.placement import Task
from libs.runtime.service import OutputCheck
from libs.runtime.settings import PlatformSettings
from services.risk.settings import RiskSettings
from services.risk.settings_record import record_limits
from services.risk.watching import KillSwitchWatch


@contextmanager
def guarded(
    platform: PlatformSettings, settings: RiskSettings, task: Task, logger: structlog.stdlib.BoundLogger
) -> Iterator[OutputCheck]:
    """Put the limits of the settings on record and watch the kill switch; yields what checks the task's outputs."""
    record_limits(platform, settings, logger)
    watch = KillSwitchWatch(platform, settings, task.group)
    watch.start()
    try:
        yield watch.check_outputs
    finally:
        watch.stop()
