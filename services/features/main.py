"""Runs features as a service: on Kafka as a Faust app, elsewhere in the ordinary shell, around the same core."""

from __future__ import annotations

import sys

import structlog

from libs.runtime.service import CoreService, run_process
from libs.runtime.settings import PlatformSettings
from services.features.building import build_core
from services.features.inputs import INPUTS
from services.features.settings import FeaturesSettings

SERVICE = CoreService(name="features", inputs=INPUTS, settings_type=FeaturesSettings, build_core=build_core)


def run(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    """Run on the engine that the bus calls for."""
    if not platform.bus.startswith("kafka:"):
        return SERVICE.run(platform, logger)
    from services.features.faust_app import run_faust

    return run_faust(platform, logger)


def main() -> int:
    """Run until asked to stop; return the exit code."""
    return run_process(SERVICE.name, run) if sys.argv[1:] in ([], ["run"]) else SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
