"""Positions: whatever the fills, quantity is their sum and money is conserved."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.accounts import Position
from libs.domain.orders import client_order_id_of
from tests.kit.builders import BTC

FILLS = st.lists(
    st.tuples(st.integers(-500, 500).filter(bool).map(lambda n: Decimal(n) / 1000), st.integers(1, 10**6).map(Decimal)),
    max_size=30,
)


@pytest.mark.slow
@given(FILLS)
def test_a_position_is_the_sum_of_its_fills(fills: list[tuple[Decimal, Decimal]]) -> None:
    position = Position(BTC)
    for quantity, price in fills:
        position, _ = position.apply_fill(quantity, price, Decimal(0))
    assert position.quantity == sum(quantity for quantity, _ in fills)


@pytest.mark.slow
@given(FILLS, st.integers(1, 10**6).map(Decimal))
def test_profit_is_what_the_cash_flows_say(fills: list[tuple[Decimal, Decimal]], last: Decimal) -> None:
    position = Position(BTC)
    cash = Decimal(0)
    for quantity, price in fills:
        position, _ = position.apply_fill(quantity, price, Decimal(1))
        cash -= quantity * price
    if position.quantity:
        cash += position.quantity * last
        position, _ = position.apply_fill(-position.quantity, last, Decimal(1))
    # The entry is rounded to eight decimals at every addition, so profit may be off by that times the size.
    assert abs(position.realised_pnl - cash) < Decimal("0.0001")
    assert position.entry_price == 0


def test_reducing_keeps_the_entry_and_crossing_takes_the_new_price() -> None:
    long, _ = Position(BTC).apply_fill(Decimal(2), Decimal(100), Decimal(0))
    reduced, realised = long.apply_fill(Decimal(-1), Decimal(110), Decimal(0))
    assert (reduced.entry_price, realised) == (100, 10)
    crossed, realised = reduced.apply_fill(Decimal(-3), Decimal(90), Decimal(0))
    assert (crossed.quantity, crossed.entry_price, realised) == (-2, 90, -10)


def test_client_order_ids_are_pure_and_valid_at_both_exchanges() -> None:
    import re

    one = client_order_id_of("intent/paper/1")
    assert one == client_order_id_of("intent/paper/1") != client_order_id_of("intent/paper/2")
    assert re.fullmatch(r"[.A-Z:/a-z0-9_-]{1,36}", one)
