"""What strategy reads."""

from __future__ import annotations

from libs.runtime.handler import Input
from libs.wire.topics import MARKET_EVENTS

INPUTS = (
    Input("bars.closed.v1"),
    Input("inference.forecasts.v1"),
    Input("risk.verdicts.v1"),
    Input("execution.orders.v1"),
    Input("execution.accounts.v1"),
    # Those that the hosted strategies handle, none of them for most.
    Input(MARKET_EVENTS, kinds=frozenset({"trade", "best_quote", "depth_snapshot", "depth_delta", "clock_tick"})),
)
