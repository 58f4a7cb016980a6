"""What strategy reads."""

from __future__ import annotations

from libs.runtime.handler import Input

INPUTS = (
    Input("bars.closed.v1"),
    Input("inference.forecasts.v1"),
    Input("risk.verdicts.v1"),
    Input("execution.orders.v1"),
    Input("execution.accounts.v1"),
)
