"""The difference between a session and its backtest, split: by hand, and always summing to it."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.market import Side
from libs.domain.orders import OrderEvent, OrderStatus
from services.backtest.drift import TradingOutcome, split_drift
from tests.kit.builders import an_account
from tests.kit.golden import examples

ORDER = next(event for event in examples().values() if isinstance(event, OrderEvent))
SECOND = 10**9


def price_at(event_time: int) -> Decimal:
    """A market that rises by 1 USDT a second from 100."""
    return Decimal(100) + Decimal(event_time) / SECOND


def a_fill(
    intent_id: str, at_s: int, price: str, side: Side = Side.BUY, quantity: str = "2", fee: str = "0"
) -> OrderEvent:
    return replace(
        ORDER, intent_id=intent_id, event_time=at_s * SECOND, side=side, last_quantity=Decimal(quantity),
        last_price=Decimal(price), fee=Decimal(fee), status=OrderStatus.FILLED,
    )  # fmt: skip


def an_outcome(*fills: OrderEvent, end: str = "1000", start: str = "1000", funding: str = "0") -> TradingOutcome:
    outcome = TradingOutcome()
    outcome.see(an_account(balance=start), price_at)
    for fill in fills:
        outcome.see(fill, price_at)
    outcome.end_equity, outcome.funding = Decimal(end), Decimal(funding)
    return outcome


def test_each_cause_has_its_term() -> None:
    # Same order: filled 3 s later (the market 3 higher) and 0.5 further from the market; and one that only it had.
    session = an_outcome(
        a_fill("a", 8, "108.5", fee="0.3"), a_fill("b", 9, "109", Side.SELL, "1", fee="0.1"),
        end="1003.1", start="1001", funding="0.25",
    )  # fmt: skip
    backtest = an_outcome(a_fill("a", 5, "105", fee="0.2"), end="1029.8")
    found = split_drift(session, backtest, Decimal(120))
    assert found.difference == Decimal("-26.7")
    assert {name: str(amount.normalize()) for name, amount in found.terms.items()} == {
        "start": "1",
        "decisions": "-11",
        "order_timing": "-6",
        "fills": "-1",
        "fees": "-0.2",
        "funding": "-0.25",
        "valuation": "-9.25",
    }
    assert (found.matched_orders, found.only_in_session, found.only_in_backtest) == (1, ["b"], [])
    assert found.mean_delay_ms == 3000.0


def test_equal_runs_have_no_difference() -> None:
    outcome = an_outcome(a_fill("a", 1, "101"))
    found = split_drift(outcome, an_outcome(a_fill("a", 1, "101")), Decimal(90))
    assert found.difference == 0
    assert set(found.terms.values()) == {Decimal(0)}
    assert found.mean_delay_ms == 0.0
    assert found.other_verdicts == []


FILLS = st.lists(
    st.builds(
        a_fill,
        st.sampled_from("abc"),
        st.integers(0, 60),
        st.integers(90, 130).map(str),
        st.sampled_from(Side),
        st.integers(1, 9).map(str),
        st.integers(0, 3).map(str),
    )
)


@settings(deadline=None)
@given(FILLS, FILLS, st.decimals(0, 5000, places=8), st.decimals(0, 5000, places=8))
def test_terms_sum_to_the_difference(
    lived: list[OrderEvent], made: list[OrderEvent], end: Decimal, other_end: Decimal
) -> None:
    found = split_drift(an_outcome(*lived, end=str(end)), an_outcome(*made, end=str(other_end)), Decimal(111))
    assert found.difference == end - other_end
    assert sum(found.terms.values()) == found.difference
