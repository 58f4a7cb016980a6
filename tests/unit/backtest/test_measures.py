from __future__ import annotations

import itertools
import math
import statistics
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.accounts import Position
from libs.domain.market import Side
from services.backtest.measures import (
    exposure_share,
    max_drawdown,
    points_from,
    round_trips,
    sample_equity,
    sharpe_ratio,
)
from tests.unit.backtest.builders import MINUTE, SECOND, START, a_fill, a_point


def test_round_trip_is_from_flat_to_flat_net_of_fees() -> None:
    fills = [
        a_fill(0, Side.BUY, "1", "100", fee="0.05"),
        a_fill(1, Side.BUY, "1", "110", fee="0.05"),
        a_fill(2, Side.SELL, "2", "120", fee="0.1", realised="30"),
    ]
    (trade,), is_open = round_trips(fills)
    assert not is_open
    assert (trade.side, trade.quantity, trade.entry_price, trade.exit_price) == (Side.BUY, 2, 105, 120)
    assert (trade.fees, trade.pnl) == (Decimal("0.20"), Decimal("29.80"))


def test_turn_closes_one_trip_and_opens_the_next_splitting_the_fee_by_quantity() -> None:
    fills = [
        a_fill(0, Side.BUY, "1", "100", fee="0.1"),
        a_fill(1, Side.SELL, "3", "90", fee="0.3", realised="-10"),
        a_fill(2, Side.BUY, "2", "80", fee="0.2", realised="20"),
    ]
    (first, second), is_open = round_trips(fills)
    assert not is_open
    assert (first.fees, first.pnl) == (Decimal("0.2"), Decimal("-10.2"))
    assert (second.side, second.quantity, second.entry_price) == (Side.SELL, 2, 90)
    assert second.fees == pytest.approx(Decimal("0.4"))


def test_trip_that_is_still_open_is_said_and_not_counted() -> None:
    trades, is_open = round_trips([a_fill(0, Side.SELL, "1", "100")])
    assert (trades, is_open) == ([], True)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 5), st.integers(90, 110)), max_size=30))
def test_trips_and_the_open_rest_hold_all_profit_and_fees(steps: list[tuple[bool, int, int]]) -> None:
    position, fills, realised_before_fees = Position("X.Y"), [], Decimal(0)
    for at, (is_buy, quantity, price) in enumerate(steps):
        side = Side.BUY if is_buy else Side.SELL
        position, realised = position.apply_fill(Decimal(quantity * side.sign), Decimal(price), Decimal(quantity))
        realised_before_fees += realised
        fills.append(a_fill(at, side, str(quantity), str(price), fee=str(quantity), realised=str(realised)))
    trades, is_open = round_trips(fills)
    assert is_open == bool(position.quantity)
    if not is_open:
        total = sum((trade.pnl for trade in trades), Decimal(0))
        assert float(total) == pytest.approx(float(realised_before_fees - position.fees_paid), abs=1e-6)


def test_equity_is_sampled_at_the_end_of_each_step() -> None:
    points = [a_point(0, "100"), a_point(30, "101"), a_point(90, "99"), a_point(200, "105")]
    assert sample_equity(points, MINUTE) == [Decimal(101), Decimal(99), Decimal(99), Decimal(105)]
    assert sample_equity([], MINUTE) == []


def test_sharpe_ratio_agrees_with_the_textbook() -> None:
    equity = [Decimal(value) for value in ("100", "101", "100.5", "102", "101.2")]
    returns = [float(after / before) - 1 for before, after in itertools.pairwise(equity)]
    expected = statistics.mean(returns) / statistics.stdev(returns) * math.sqrt(365 * 24 * 60)
    assert sharpe_ratio(equity, MINUTE) == pytest.approx(expected)


@pytest.mark.parametrize("values", [[], ["100"], ["100", "101"], ["100", "100", "100"]])
def test_sharpe_ratio_is_not_defined_without_varying_returns(values: list[str]) -> None:
    assert sharpe_ratio([Decimal(value) for value in values], MINUTE) is None


def test_drawdown_is_the_deepest_fall_from_a_peak() -> None:
    points = [a_point(at, equity) for at, equity in enumerate(("100", "120", "90", "130", "104"))]
    share, amount = max_drawdown(points)
    assert share == pytest.approx(0.25)
    assert amount == 30


def test_exposure_is_the_share_of_time_with_a_position() -> None:
    points = [a_point(0, "1"), a_point(10, "1", "0.5"), a_point(30, "1"), a_point(40, "1")]
    assert exposure_share(points) == pytest.approx(0.5)
    assert exposure_share([]) == 0.0


def test_points_begin_with_what_was_in_force_at_the_start() -> None:
    points = [a_point(-500, "100"), a_point(-20, "101"), a_point(40, "102")]
    begun = points_from(points, START)
    assert [(point.event_time, point.equity) for point in begun] == [(START, 101), (START + 40 * SECOND, 102)]
