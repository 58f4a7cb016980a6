"""Runs execution as a service: verdicts, control and market in; commands, order events and account states out."""

from __future__ import annotations

from libs.runtime.service import CoreService
from services.execution.building import build_core
from services.execution.inputs import INPUTS
from services.execution.settings import ExecutionSettings

SERVICE = CoreService(
    name="execution",
    inputs=INPUTS,
    settings_type=ExecutionSettings,
    build_core=build_core,
)


def main() -> int:
    """Run until asked to stop; return the exit code."""
    return SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
