"""Runs execution as a service: verdicts, control and market in; commands, order events and account states out."""

from __future__ import annotations

from libs.runtime.service import CoreService, Input
from services.execution.building import build_core
from services.execution.settings import ExecutionSettings

SERVICE = CoreService(
    name="execution",
    inputs=(
        Input("risk.verdicts.v1", kinds=frozenset({"order_approved"})),
        Input("execution.commands.v1"),
        Input("execution.reports.v1"),
        Input("control.commands.v1"),
        Input("control.states.v1"),
        Input(
            "market.events.v1",
            kinds=frozenset(
                {
                    "trade",
                    "depth_snapshot",
                    "depth_delta",
                    "best_quote",
                    "mark_price",
                    "funding_settled",
                    "exchange_bar",
                    "clock_tick",
                }
            ),
        ),
    ),
    settings_type=ExecutionSettings,
    build_core=build_core,
)


def main() -> int:
    """Run until told to stop; the answer is the exit code."""
    return SERVICE.main()


if __name__ == "__main__":
    raise SystemExit(main())
