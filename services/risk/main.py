"""Runs risk as a service: intents, market, account and commands in; verdicts, control states and alerts out."""

from __future__ import annotations

import sys

from libs.runtime.errors import BadInput
from libs.runtime.service import CoreService, Input
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


def main() -> int:
    """Run until told to stop, watching the kill switch beside it; the answer is the exit code."""
    if sys.argv[1:] in ([], ["run"]):
        try:
            watch = KillSwitchWatch(load_settings(PlatformSettings), load_settings(RiskSettings))
        except BadInput:
            return SERVICE.main()  # which reads the same settings and says what is wrong with them
        watch.start()
    return SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
