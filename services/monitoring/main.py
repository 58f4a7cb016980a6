"""Wires the monitoring page: bus, settings and run folder from the environment."""

from __future__ import annotations

from functools import partial

import structlog

from libs.runtime.platform_bus import open_platform_bus
from libs.runtime.service import run_process
from libs.runtime.settings import PlatformSettings, load_settings
from libs.runtime.stop import StopSignal
from services.monitoring.app import MonitoringApp
from services.monitoring.core import SERVICE
from services.monitoring.settings import MonitoringSettings


def _run(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    settings = load_settings(MonitoringSettings)
    # uvicorn hands a signal on once it has stopped; without this the process would then die of it.
    stop = StopSignal().install()
    app = MonitoringApp(
        partial(open_platform_bus, platform),
        settings,
        run_dir=platform.run_dir,
        metrics_host=platform.metrics_host,
        metrics_port=platform.metrics_port,
        logger=logger,
        should_stop=stop.__bool__,
    )
    return app.serve()


def main() -> int:
    """Serve the page until asked to stop; return the exit code."""
    return run_process(SERVICE, _run)


if __name__ == "__main__":
    raise SystemExit(main())
