"""Runs the simulated exchange as a service."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import structlog

from libs.runtime.placement import replica_name
from libs.runtime.service import run_process
from libs.runtime.settings import PlatformSettings, load_settings
from libs.runtime.stop import StopSignal
from services.exchange.server import SERVICE, serve
from services.exchange.settings import ExchangeSettings


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until asked to stop; the answer is the exit code. ``--port`` goes before PERPFLOW_EXCHANGE_PORT."""
    parser = argparse.ArgumentParser(prog="python -m services.exchange.main", description=__doc__)
    parser.add_argument(
        "--port", type=int, choices=range(65536), metavar="PORT", help="listen here; 0 takes a free port"
    )
    port = parser.parse_args(arguments).port

    def body(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
        settings = load_settings(ExchangeSettings)
        stop = StopSignal().install()
        if port is not None:
            settings = ExchangeSettings.model_validate({**settings.model_dump(), "port": port})
        return serve(settings, platform.run_dir, logger, stop, replica_name(SERVICE, platform.replica))

    return run_process(SERVICE, body)


if __name__ == "__main__":
    raise SystemExit(main())
