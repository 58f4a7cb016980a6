"""The account: when it is published, what funding costs, what the mark is."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from libs.domain.accounts import VenueAccount, VenuePosition
from libs.domain.control import Alert, TradingState
from libs.domain.events import Unhandleable
from libs.domain.instruments import find_instrument
from libs.domain.market import FundingSettled, Side
from libs.domain.numbers import NANOSECONDS
from libs.matching import FeeModel, LatencyModel, PaperVenue
from services.execution.core import ExecutionCore
from tests.kit.builders import BTC, START, a_mark, a_quote, a_tick, a_trade
from tests.unit.execution.builders import (
    a_core,
    a_fill,
    accounts,
    an_approval,
    an_external_core,
    order_events,
    place,
    run,
    statuses,
)

HOUR = 3600
ZERO = Decimal(0)


def a_holder(side: Side = Side.BUY) -> ExecutionCore:
    """A core on paper that holds one unit, entered at 60000 without a fee."""
    venue = PaperVenue("paper", [find_instrument(BTC)], latency=LatencyModel(0, 0), fees=FeeModel(ZERO, ZERO))
    core = ExecutionCore("paper", Decimal(100_000), venue=venue)
    prices = ("59999.9", "60000") if side is Side.BUY else ("60000", "60000.1")
    run(core, a_mark(1, "60000"), a_quote(1, *prices, seconds=2), an_approval(1, quantity="1", side=side), a_tick(2))
    return core


def a_settlement(seconds: float = 8 * HOUR, rate_e8: int = 10_000, mark: str = "60000") -> FundingSettled:
    at = START + round(seconds * NANOSECONDS)
    return FundingSettled(BTC, f"{BTC}/funding/{at}", at, at, rate_e8, int(Decimal(mark) * 100_000_000))


def test_first_market_event_tells_the_balance() -> None:
    outputs = accounts(run(a_core(), a_tick(0), a_tick(1)))
    assert [(each.sequence, each.wallet_balance, each.equity) for each in outputs] == [(1, 10000, 10000)]


@pytest.mark.slow
def test_equity_follows_the_mark_at_most_once_in_five_seconds() -> None:
    core = a_holder()
    outputs = accounts(run(core, *(a_mark(n, str(60_000 + n), seconds=n) for n in range(3, 14))))
    assert [each.equity - each.wallet_balance for each in outputs] == [7, 12]


def test_nothing_is_told_of_a_moving_mark_while_flat() -> None:
    core = a_core()
    run(core, a_mark(1))
    assert run(core, *(a_mark(n, "61000", seconds=n * 10) for n in range(2, 9))) == []


def test_settlement_charges_a_long_and_pays_a_short() -> None:
    for side, payment in ((Side.BUY, Decimal(6)), (Side.SELL, Decimal(-6))):
        last = accounts(run(a_holder(side), a_settlement()))[-1]
        assert last.wallet_balance == 100_000 - payment
        assert last.position(BTC).funding_paid == payment


def test_mark_past_the_funding_time_charges_the_rate_that_was_in_force() -> None:
    core = a_holder()
    late = a_mark(
        2, "61000", seconds=8 * HOUR + 1, funding_rate_e8=99, next_funding_time=START + 16 * HOUR * NANOSECONDS
    )
    assert accounts(run(core, late))[-1].position(BTC).funding_paid == Decimal("6.1")
    again = replace(late, event_id="again", event_time=late.event_time + NANOSECONDS)
    assert accounts(run(core, again)) == []


def test_settlement_and_passing_mark_charge_once_between_them() -> None:
    core = a_holder()
    late = a_mark(2, "60000", seconds=8 * HOUR + 1, next_funding_time=START + 16 * HOUR * NANOSECONDS)
    run(core, a_settlement(), late)
    assert accounts(run(core, a_tick(9 * HOUR)))[-1].position(BTC).funding_paid == 6
    run(core, a_settlement(16 * HOUR))
    assert accounts(run(core, a_tick(17 * HOUR)))[-1].position(BTC).funding_paid == 12


def test_flat_account_pays_no_funding() -> None:
    core = a_core()
    run(core, a_mark(1))
    assert run(core, a_settlement()) == []


def the_books(wallet: str, quantity: str = "0.1", cause_id: str = "", number: int = 1) -> VenueAccount:
    """A real venue's books, with a position in BTC unless the quantity is 0."""
    positions = (VenuePosition(BTC, Decimal(quantity), Decimal(60_000)),) if Decimal(quantity) else ()
    return VenueAccount(f"venue-account/paper/{number}", START + number, "paper", Decimal(wallet), positions, cause_id)


def test_real_venues_wallet_goes_before_our_reckoning_and_has_its_funding() -> None:
    core = an_external_core()
    place(core, an_approval(1, quantity="0.1"))
    run(core, a_mark(1), a_fill("0.1", fee="0.3"))
    late = a_mark(2, "60000", seconds=8 * HOUR + 1, next_funding_time=START + 16 * HOUR * NANOSECONDS)
    outputs = run(core, late, a_settlement())
    assert {state.wallet_balance for state in accounts(outputs)} <= {Decimal("9999.7")}
    (account,) = accounts(run(core, the_books("9993.7")))
    assert (account.wallet_balance, account.position(BTC).quantity) == (Decimal("9993.7"), Decimal("0.1"))


def test_real_venues_books_that_differ_halt_until_they_are_taken_over() -> None:
    core = an_external_core()
    outputs = run(core, the_books("10000"))
    (alert,) = (event for event in outputs if isinstance(event, Alert))
    assert "is 0.1 at the venue and 0 by reports" in alert.message
    assert core.trading_state is TradingState.HALTED
    (taken,) = accounts(run(core, the_books("10000", cause_id="control/1", number=2)))
    assert (taken.position(BTC).quantity, taken.position(BTC).entry_price) == (Decimal("0.1"), Decimal(60_000))
    (flat,) = accounts(run(core, the_books("10001", "0", cause_id="control/2", number=3)))
    assert (flat.position(BTC).quantity, flat.position(BTC).entry_price) == (0, 0)


def test_books_of_another_account_or_for_paper_are_not_taken() -> None:
    assert run(an_external_core(), replace(the_books("1"), account="other")) == []
    with pytest.raises(Unhandleable, match="trades on paper"):
        a_core().handle(the_books("1"))


def test_quotes_then_trades_serve_as_mark_where_none_was_seen() -> None:
    core = an_external_core()
    place(core, an_approval(1, quantity="0.1"))
    run(core, a_trade(1, "60500"), a_fill("0.1", fee="0"))
    assert accounts(run(core, a_trade(2, "60600", seconds=10)))[-1].position(BTC).mark_price == 60600
    run(core, a_quote(1, "60700", "60702", seconds=11))
    assert accounts(run(core, a_trade(3, "61000", seconds=20)))[-1].position(BTC).mark_price == 60701
    assert accounts(run(core, a_mark(1, "60800", seconds=30)))[-1].position(BTC).mark_price == 60800


def test_margin_is_that_of_positions_and_of_orders_that_may_open_more() -> None:
    core = a_core()
    run(core, a_quote(1), a_mark(1, "60000"), an_approval(1, quantity="0.03"), a_tick(2))
    outputs = run(core, an_approval(2, quantity="0.06", limit="50000"), a_tick(3))
    last = accounts(outputs)[-1]
    assert last.initial_margin == (Decimal("0.03") * 60000 + Decimal("0.06") * 50000) / 3
    assert last.available_balance == last.equity - last.initial_margin
    assert last.open_order_count == 1


def test_order_beyond_the_margin_is_rejected_as_the_venue_would() -> None:
    core = a_core()
    run(core, a_quote(1), a_mark(1, "60000"))
    outputs = run(core, an_approval(1, quantity="0.6"), a_tick(9))
    assert statuses(outputs) == ["SUBMITTING", "REJECTED"]
    assert order_events(outputs)[-1].reason.startswith("-2019 margin is insufficient: 12000")


def test_turning_a_position_over_needs_margin_for_the_new_side_only() -> None:
    core = a_core()
    run(core, a_quote(1), a_mark(1, "60000"), an_approval(1, quantity="0.45"), a_tick(9))
    outputs = run(core, an_approval(2, quantity="0.9", side=Side.SELL), a_tick(12))
    assert accounts(outputs)[-1].position(BTC).quantity == Decimal("-0.45")


@pytest.mark.parametrize(
    ("balance", "leverage"), [("0", "3"), ("-5", "3"), ("NaN", "3"), ("100", "0.5"), ("100", "126")]
)
def test_impossible_accounts_are_refused(balance: str, leverage: str) -> None:
    with pytest.raises(ValueError, match="must"):
        ExecutionCore("paper", Decimal(balance), leverage=Decimal(leverage))
