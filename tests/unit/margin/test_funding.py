"""Funding: the exchange's rate and what it costs."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from libs.domain.accounts import Position
from libs.margin.brackets import MarginError
from libs.margin.funding import (
    funding_cost,
    funding_cost_from_history,
    funding_payment,
    funding_rate,
    settle_funding,
)


@pytest.mark.parametrize(
    ("premium", "rate"),
    [
        ("0", "0.0001"),
        ("0.0001", "0.0001"),
        ("0.0006", "0.0001"),
        ("0.001", "0.0005"),
        ("-0.0004", "0.0001"),
        ("-0.001", "-0.0005"),
    ],
)
def test_rate_clamps_the_interest_to_half_a_permille_around_the_premium(premium: str, rate: str) -> None:
    assert funding_rate(Decimal(premium)) == Decimal(rate)


def test_shorter_intervals_divide_the_rate() -> None:
    assert funding_rate(Decimal(0), 4) == Decimal("0.00005")
    assert funding_rate(Decimal(0), 1) == Decimal("0.0000125")


def test_cap_and_floor_bind() -> None:
    assert funding_rate(Decimal("0.05"), cap=Decimal("0.02"), floor=Decimal("-0.02")) == Decimal("0.02")
    assert funding_rate(Decimal("-0.05"), cap=Decimal("0.02"), floor=Decimal("-0.02")) == Decimal("-0.02")
    assert funding_rate(Decimal(0), cap=Decimal(0), floor=Decimal(0)) == 0


def test_longs_pay_a_positive_rate_and_shorts_receive_it() -> None:
    assert funding_payment(Decimal("0.5"), Decimal(60000), Decimal("0.0001")) == 3
    assert funding_payment(Decimal("-0.5"), Decimal(60000), Decimal("0.0001")) == -3


def test_cost_per_hour_day_and_month() -> None:
    cost = funding_cost(Decimal(1), Decimal(60000), Decimal("0.0001"))
    assert (cost.per_settlement, cost.hourly, cost.daily, cost.monthly) == (6, Decimal("0.75"), 18, 540)
    four_hourly = funding_cost(Decimal(1), Decimal(60000), Decimal("0.0001"), 4)
    assert (four_hourly.hourly, four_hourly.daily, four_hourly.monthly) == (Decimal("1.5"), 36, 1080)


def test_history_costs_its_mean() -> None:
    rates = [Decimal("0.0001"), Decimal("0.0003"), Decimal("-0.0001")]
    assert funding_cost_from_history(Decimal(1), Decimal(60000), rates) == funding_cost(
        Decimal(1), Decimal(60000), Decimal("0.0001")
    )


def test_impossible_inputs_are_refused() -> None:
    with pytest.raises(MarginError, match="interval_hours: 0"):
        funding_rate(Decimal(0), 0)
    with pytest.raises(MarginError, match="interval_hours: 25"):
        funding_cost(Decimal(1), Decimal(1), Decimal(0), 25)
    assert funding_cost(Decimal(1), Decimal(1), Decimal(1), 24).daily == 1
    with pytest.raises(MarginError, match="floor: 2 lies above the cap 1"):
        funding_rate(Decimal(0), cap=Decimal(1), floor=Decimal(2))
    with pytest.raises(MarginError, match="rates: there are none"):
        funding_cost_from_history(Decimal(1), Decimal(1), [])


def test_a_settlement_is_booked_on_the_position_and_returned_rounded() -> None:
    held = Position("BTCUSDT.BINANCE", Decimal("-0.5"), funding_paid=Decimal(1))
    after, paid = settle_funding(held, Decimal("60000.12345678"), Decimal("0.00012345"))
    assert paid == Decimal("-3.70350762")
    assert after == replace(held, funding_paid=Decimal(1) + paid)
