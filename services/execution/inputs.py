"""What execution reads."""

from __future__ import annotations

from libs.runtime.handler import Input

_BOOKS = {"trade", "depth_snapshot", "depth_delta", "best_quote"}
MARKET_KINDS = frozenset({*_BOOKS, "mark_price", "funding_settled", "exchange_bar", "clock_tick"})

INPUTS = (
    Input("risk.verdicts.v1", kinds=frozenset({"order_approved"})),
    Input("execution.commands.v1"),
    Input("execution.reports.v1"),
    Input("control.commands.v1"),
    Input("control.states.v1"),
    Input(
        "market.events.v1",
        kinds=MARKET_KINDS,
    ),
)
