"""Runs risk as a service: intents, market, account and commands in; verdicts, control states and alerts out."""

from __future__ import annotations

import sys

import structlog

from libs.runtime.service import CoreService, Input, run_process
from libs.runtime.settings import PlatformSettings, load_settings
from services.risk.building import build_core
from services.risk.settings import RiskSettings
from services.risk.watching import KillSwitchWatch

SERVICE = CoreService(
    name="risk",
    inputs=(
        Input("control.commands.v1"),
        Input("strategy.intents.v1"),
        Input("execution.orders.v1"),
        Input("execution.accounts.v1"),
        Input("inference.forecasts.v1"),
        Input("bars.closed.v1"),
        Input(
            "market.events.v1",
            kinds=frozenset({"best_quote", "mark_price", "clock_tick", "trade", "exchange_bar"}),
        ),
    ),
    settings_type=RiskSettings,
    build_core=build_core,
)


def run(platform: PlatformSettings, logger: structlog.stdlib.BoundLogger) -> int:
    """Run the shell with the kill switch's watch beside it."""
    KillSwitchWatch(platform, load_settings(RiskSettings)).start()
    return SERVICE.run(platform, logger)


def main() -> int:
    """Run until told to stop; the answer is the exit code."""
    return run_process(SERVICE.name, run) if sys.argv[1:] in ([], ["run"]) else SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
