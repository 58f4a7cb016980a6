"""Runs risk as a service: intents, market, account and commands in; verdicts, control states and alerts out."""

from __future__ import annotations

import sys
from dataclasses import replace

import structlog

from libs.runtime.service import CoreService, run_process
from libs.runtime.settings import PlatformSettings
from services.risk.building import build_compared_core, build_core
from services.risk.guarding import guarded
from services.risk.inputs import INPUTS
from services.risk.settings import RiskSettings

SERVICE = CoreService(
    name="risk",
    inputs=INPUTS,
    settings_type=RiskSettings,
    build_core=build_core,
)


def run(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    """Run the tasks, each with the limits of its settings on record and the kill switch's watch beside it."""

    return SERVICE.run(platform, logger, lambda settings, task: guarded(platform, settings, task, logger))


def main() -> int:
    """Run until asked to stop; return the exit code."""
    if sys.argv[1:] in ([], ["run"]):
        return run_process(SERVICE.name, run)
    return (replace(SERVICE, build_core=build_compared_core) if sys.argv[1:2] == ["compare"] else SERVICE).main()


if __name__ == "__main__":
    raise SystemExit(main())
