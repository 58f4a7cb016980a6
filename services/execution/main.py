"""Runs execution as a service: verdicts, control and market in; commands, order events and account states out."""

from __future__ import annotations

import sys

import structlog

from libs.runtime.service import CoreService, run_process
from libs.runtime.settings import PlatformSettings, load_settings
from services.execution.building import build_core
from services.execution.inputs import INPUTS
from services.execution.settings import ExecutionSettings

SERVICE = CoreService(
    name="execution",
    inputs=INPUTS,
    settings_type=ExecutionSettings,
    build_core=build_core,
)


def run(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    """Run the shell; in testnet and live mode with the outbox beside it."""
    settings = load_settings(ExecutionSettings)
    if settings.mode == "paper":
        return SERVICE.run(platform, logger)
    # The door's libraries are loaded where there is a door.
    from services.execution.external import run_with_outbox

    return run_with_outbox(settings, platform, logger, SERVICE.run)


def main() -> int:
    """Run until told to stop; the answer is the exit code."""
    return run_process(SERVICE.name, run) if sys.argv[1:] in ([], ["run"]) else SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
