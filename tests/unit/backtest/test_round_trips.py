from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.accounts import Position
from libs.domain.market import Side
from services.backtest.round_trips import FundingPayment, excursions, find_round_trips, held_ns
from tests.unit.backtest.builders import SECOND, START, a_fill, a_price_history


def test_round_trip_is_from_flat_to_flat_net_of_fees() -> None:
    fills = [
        a_fill(0, Side.BUY, "1", "100", fee="0.05"),
        a_fill(1, Side.BUY, "1", "110", fee="0.05"),
        a_fill(2, Side.SELL, "2", "120", fee="0.1", realised="30"),
    ]
    (trip,), is_open = find_round_trips(fills)
    assert not is_open
    assert (trip.side, trip.quantity, trip.entry_price, trip.exit_price) == (Side.BUY, 2, 105, 120)
    assert (trip.fees, trip.pnl) == (Decimal("0.20"), Decimal("29.80"))


def test_turn_closes_one_trip_and_opens_the_next_splitting_the_fee_by_quantity() -> None:
    fills = [
        a_fill(0, Side.BUY, "1", "100", fee="0.1"),
        a_fill(1, Side.SELL, "3", "90", fee="0.3", realised="-10"),
        a_fill(2, Side.BUY, "2", "80", fee="0.2", realised="20"),
    ]
    (first, second), is_open = find_round_trips(fills)
    assert not is_open
    assert (first.fees, first.pnl) == (Decimal("0.2"), Decimal("-10.2"))
    assert (second.side, second.quantity, second.entry_price) == (Side.SELL, 2, 90)
    assert second.fees == pytest.approx(Decimal("0.4"))


def test_funding_counts_in_the_trip_that_was_open_when_it_was_paid() -> None:
    fills = [
        a_fill(0, Side.BUY, "1", "100"),
        a_fill(20, Side.SELL, "2", "110", realised="10"),
        a_fill(40, Side.BUY, "1", "105", realised="5"),
    ]
    funding = [FundingPayment(START + at * SECOND, Decimal(amount)) for at, amount in ((10, "3"), (30, "-1"))]
    (first, second), _ = find_round_trips(fills, funding)
    assert (first.funding, first.pnl, second.funding, second.pnl) == (3, 7, -1, 6)


def test_trip_that_is_still_open_is_said_and_not_counted() -> None:
    trips, is_open = find_round_trips([a_fill(0, Side.SELL, "1", "100")])
    assert (trips, is_open) == ([], True)


@pytest.mark.slow
@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5), st.integers(90, 110)), max_size=30))
def test_trips_and_the_open_rest_hold_all_profit_and_fees(steps: list[tuple[bool, int, int]]) -> None:
    position, fills, realised_before_fees = Position("X.Y"), [], Decimal(0)
    for at, (is_buy, quantity, price) in enumerate(steps):
        side = Side.BUY if is_buy else Side.SELL
        position, realised = position.apply_fill(Decimal(quantity * side.sign), Decimal(price), Decimal(quantity))
        realised_before_fees += realised
        fills.append(a_fill(at, side, str(quantity), str(price), fee=str(quantity), realised=str(realised)))
    trips, is_open = find_round_trips(fills)
    assert is_open == bool(position.quantity)
    if not is_open:
        total = sum((trip.pnl for trip in trips), Decimal(0))
        assert float(total) == pytest.approx(float(realised_before_fees - position.fees_paid), abs=1e-6)


def test_time_in_the_market_is_measured_from_the_fills() -> None:
    fills = [a_fill(10, Side.BUY, "1", "1"), a_fill(30, Side.SELL, "1", "1"), a_fill(90, Side.SELL, "1", "1")]
    assert held_ns(fills, START, START + 100 * SECOND) == 30 * SECOND
    assert held_ns(fills, START + 20 * SECOND, START + 100 * SECOND) == 20 * SECOND
    assert held_ns([], START, START + 100 * SECOND) == 0


def test_slippage_is_the_cost_against_the_price_decided_on() -> None:
    assert a_fill(0, Side.BUY, "2", "101", decided="100").slippage == 2
    assert a_fill(0, Side.SELL, "2", "101", decided="100").slippage == -2
    assert a_fill(0, Side.SELL, "2", "101").slippage == 0


def test_excursions_are_the_worst_and_best_price_while_the_trip_was_open() -> None:
    fills = [a_fill(60, Side.BUY, "2", "100"), a_fill(180, Side.SELL, "2", "105", realised="10")]
    trips, _ = find_round_trips(fills)
    prices = a_price_history((60, 90, 200, 50, 100), (120, 100, 112, 97, 101), (180, 101, 106, 99, 105))
    assert excursions(trips, prices) == [(6, 24)]
    short, _ = find_round_trips([a_fill(60, Side.SELL, "2", "100"), a_fill(180, Side.BUY, "2", "105")])
    assert excursions(short, prices) == [(24, 6)]
