"""Builders for backtest's tests."""

from __future__ import annotations

from decimal import Decimal

from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from services.backtest.measures import EquityPoint, Fill

SECOND = NANOSECONDS
MINUTE = 60 * SECOND
START = 1_767_225_600 * SECOND


def a_fill(at: int, side: Side, quantity: str, price: str, *, fee: str = "0", realised: str = "0") -> Fill:
    """Build a fill `at` seconds after the start."""
    return Fill(
        event_time=START + at * SECOND,
        client_order_id="pf-x",
        intent_id="intent/x",
        side=side,
        quantity=Decimal(quantity),
        price=Decimal(price),
        fee=Decimal(fee),
        realised_pnl=Decimal(realised),
    )


def a_point(at: int, equity: str, position: str = "0") -> EquityPoint:
    """Build the account `at` seconds after the start."""
    return EquityPoint(START + at * SECOND, Decimal(equity), Decimal(equity), Decimal(position))
