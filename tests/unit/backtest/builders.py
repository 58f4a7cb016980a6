"""Builders for backtest's tests."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from libs.domain.control import TradingState
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS, SCALE
from services.backtest.equity import EquityCurve, PriceHistory
from services.backtest.fills import FillList
from services.backtest.quiet_bars import QuietBars
from services.backtest.recorder import RunRecord, TradingStateChange
from services.backtest.round_trips import Fill

SECOND = NANOSECONDS
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND
START = 1_767_225_600 * SECOND


def a_fill(
    at: int,
    side: Side,
    quantity: str,
    price: str,
    *,
    fee: str = "0",
    realised: str = "0",
    decided: str | None = None,
) -> Fill:
    """Build a fill `at` seconds after the start."""
    return Fill(
        event_time=START + at * SECOND,
        client_order_id="pf-x",
        intent_id="intent/x",
        strategy="scripted",
        side=side,
        quantity=Decimal(quantity),
        price=Decimal(price),
        fee=Decimal(fee),
        realised_pnl=Decimal(realised),
        decision_price=None if decided is None else Decimal(decided),
    )


def a_curve(*points: tuple[int, str]) -> EquityCurve:
    """Build an equity curve of (seconds after the start, equity)."""
    curve = EquityCurve()
    for at, equity in points:
        curve.add(START + at * SECOND, Decimal(equity), Decimal(equity), Decimal(0))
    return curve


def a_price_history(*bars: tuple[int, int, int, int, int]) -> PriceHistory:
    """Build prices of bars (close in seconds after the start, open, high, low, close)."""
    history = PriceHistory()
    for at, *prices in bars:
        history.append(START + at * SECOND, *(price * SCALE for price in prices))
    return history


def a_halt(at: int, equity: str = "9000") -> TradingStateChange:
    """Build a halt `at` seconds after the start."""
    return TradingStateChange(START + at * SECOND, TradingState.HALTED, "drawdown passes", Decimal(equity))


def a_record(curve: EquityCurve, *fills: Fill) -> RunRecord:
    """Build the record of a run."""
    return RunRecord(equity=curve, fills=FillList(fills))


def note_handled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list that gets the places of the bars that the pipeline handles."""
    handled: list[int] = []
    handle = QuietBars._handle

    def note(self: QuietBars, bar: Any, place: int) -> None:
        handled.append(place)
        handle(self, bar, place)

    monkeypatch.setattr(QuietBars, "_handle", note)
    return handled
