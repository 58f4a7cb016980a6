"""Funding: the exchange's rate, what a position pays, and what holding it costs per hour, day and month. Exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from libs.domain.accounts import Position
from libs.domain.numbers import quantize_e8
from libs.margin.brackets import EXACT, ZERO, MarginError

INTEREST_PER_8_HOURS = Decimal("0.0001")
CLAMP = Decimal("0.0005")
DAYS_PER_MONTH = 30


@dataclass(frozen=True, slots=True)
class FundingCost:
    """What a position pays in quote units, negative where it receives; a month has 30 days."""

    per_settlement: Decimal
    hourly: Decimal
    daily: Decimal
    monthly: Decimal


def funding_rate(
    premium: Decimal,
    interval_hours: int = 8,
    interest: Decimal = INTEREST_PER_8_HOURS,
    cap: Decimal | None = None,
    floor: Decimal | None = None,
) -> Decimal:
    """Return the rate of one settlement: [P + clamp(I - P, -0.05 %, +0.05 %)] / (8 / N), within floor and cap.

    `premium` is the time-weighted average premium index, N the interval in hours, I the interest per 8 hours (Binance
    funding rate introduction). Raises `MarginError` for an interval that is not 1 to 24 hours or a floor above the cap.
    """
    _check_interval(interval_hours)
    if cap is not None and floor is not None and floor > cap:
        raise MarginError(f"floor: {floor} lies above the cap {cap}")
    clamped = max(-CLAMP, min(CLAMP, EXACT.subtract(interest, premium)))
    rate = EXACT.divide(EXACT.multiply(EXACT.add(premium, clamped), Decimal(interval_hours)), Decimal(8))
    if cap is not None:
        rate = min(rate, cap)
    return rate if floor is None else max(rate, floor)


def _check_interval(interval_hours: int) -> None:
    if not 1 <= interval_hours <= 24:
        raise MarginError(f"interval_hours: {interval_hours} must be 1 to 24")


def funding_payment(signed_quantity: Decimal, mark_price: Decimal, rate: Decimal) -> Decimal:
    """Return what a position pays at one settlement, notional at the mark x rate; longs pay when the rate is
    positive.
    """
    return EXACT.multiply(EXACT.multiply(signed_quantity, mark_price), rate)


def settle_funding(position: Position, mark_price: Decimal, rate: Decimal) -> tuple[Position, Decimal]:
    """Return the position after a settlement and what it paid (below zero: received), rounded to 1e-8."""
    paid = quantize_e8(funding_payment(position.quantity, mark_price, rate))
    return replace(position, funding_paid=position.funding_paid + paid), paid


def funding_cost(signed_quantity: Decimal, mark_price: Decimal, rate: Decimal, interval_hours: int = 8) -> FundingCost:
    """Return what holding a position costs if the rate of one settlement stayed as it is."""
    _check_interval(interval_hours)
    payment = funding_payment(signed_quantity, mark_price, rate)
    daily = EXACT.divide(EXACT.multiply(payment, Decimal(24)), Decimal(interval_hours))
    return FundingCost(
        per_settlement=payment,
        hourly=EXACT.divide(payment, Decimal(interval_hours)),
        daily=daily,
        monthly=EXACT.multiply(daily, Decimal(DAYS_PER_MONTH)),
    )


def funding_cost_from_history(
    signed_quantity: Decimal, mark_price: Decimal, rates: Sequence[Decimal], interval_hours: int = 8
) -> FundingCost:
    """Return what holding a position costs at the mean of past settlements' rates. Raises `MarginError` where none."""
    if not rates:
        raise MarginError("rates: there are none; give the rate of at least one settlement")
    mean = EXACT.divide(sum(rates, ZERO), Decimal(len(rates)))
    return funding_cost(signed_quantity, mark_price, mean, interval_hours)
