"""What risk reads."""

from __future__ import annotations

from libs.runtime.handler import Input

INPUTS = (
    Input("control.commands.v1"),
    Input("strategy.intents.v1"),
    Input("execution.orders.v1"),
    Input("execution.accounts.v1"),
    Input("inference.forecasts.v1"),
    Input("bars.closed.v1"),
    Input("market.events.v1", frozenset({"best_quote", "mark_price", "clock_tick", "trade", "exchange_bar"})),
)
