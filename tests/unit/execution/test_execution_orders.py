"""From an approved intent to an order's end: one command each, every fill booked once, whatever order reports take."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from libs.domain.events import Unhandleable
from libs.domain.market import Side
from libs.domain.orders import CancelOrder, OrderRefused, OrderStatus, PlaceOrder, ReportKind, VenueReport
from tests.kit.builders import BTC, START, a_quote, a_tick, an_intent
from tests.unit.execution.builders import (
    a_cancel_approval,
    a_core,
    a_fill,
    a_report,
    accounts,
    an_approval,
    an_external_core,
    commands,
    order_events,
    order_id,
    place,
    run,
    statuses,
)


def test_approval_yields_one_command_and_submitting() -> None:
    outputs = list(a_core().handle(an_approval()))
    assert [type(each).__name__ for each in outputs[:2]] == ["PlaceOrder", "OrderEvent"]
    assert statuses(outputs) == ["SUBMITTING"]
    command = commands(outputs)[0]
    assert command.client_order_id == order_id() and command.event_id == f"place/{order_id()}"


def test_nothing_reaches_the_venue_before_the_command_came_back() -> None:
    core = a_core()
    core.handle(a_quote(1))
    command = core.handle(an_approval())[0]
    assert not [each for each in core.handle(a_quote(2, seconds=5)) if isinstance(each, VenueReport)]
    core.handle(command)
    kinds = [each.kind for each in core.handle(a_quote(3, seconds=9)) if isinstance(each, VenueReport)]
    assert kinds == [ReportKind.ACCEPTED, ReportKind.FILL]


def test_paper_order_goes_from_submitting_to_filled() -> None:
    outputs = run(a_core(), a_quote(1), an_approval(), a_quote(2, seconds=5))
    assert statuses(outputs) == ["SUBMITTING", "ACCEPTED", "FILLED"]
    held = accounts(outputs)[-1].position(BTC)
    assert (held.quantity, held.entry_price) == (Decimal("0.01"), Decimal("60000"))


def test_verdict_seen_twice_yields_one_command() -> None:
    core = a_core()
    assert len(commands([*core.handle(an_approval()), *core.handle(an_approval())])) == 1


def test_command_redelivered_makes_no_second_venue_order() -> None:
    core = a_core()
    core.handle(a_quote(1))
    command = core.handle(an_approval())[0]
    reports = [*core.handle(command), *core.handle(command), *core.handle(a_quote(2, seconds=5))]
    assert [each.kind for each in reports if isinstance(each, VenueReport)] == [ReportKind.ACCEPTED, ReportKind.FILL]


def test_refused_and_foreign_verdicts_are_left_alone() -> None:
    core = a_core()
    intent = an_intent()
    refused = OrderRefused("verdict/x", START, "paper", BTC, intent.event_id, intent, 1, ("too large",), ())
    assert core.handle(refused) == ()
    assert core.handle(an_approval(account="other")) == ()


def test_verdict_that_is_not_its_intents_is_unhandleable() -> None:
    with pytest.raises(Unhandleable, match="not that of its intent"):
        a_core().handle(replace(an_approval(), intent_id="another"))


def test_partial_fills_average_and_then_fill() -> None:
    core = an_external_core()
    place(core, an_approval(quantity="0.03"))
    outputs = run(
        core,
        a_report(ReportKind.ACCEPTED),
        a_fill("0.01", "60000", sequence=2),
        a_fill("0.02", "60030", sequence=3),
    )
    assert statuses(outputs) == ["ACCEPTED", "PARTIALLY_FILLED", "FILLED"]
    assert order_events(outputs)[-1].average_price == Decimal("60020")


def test_partial_fill_then_cancel() -> None:
    core = an_external_core()
    place(core, an_approval(quantity="0.03"))
    outputs = run(core, a_report(ReportKind.ACCEPTED), a_fill("0.01"), a_report(ReportKind.CANCELLED, sequence=3))
    assert statuses(outputs) == ["ACCEPTED", "PARTIALLY_FILLED", "CANCELLED"]
    assert order_events(outputs)[-1].filled_quantity == Decimal("0.01")
    assert accounts(outputs)[-1].open_order_count == 0


def test_fill_before_acceptance_is_booked_and_the_acceptance_says_nothing_new() -> None:
    core = an_external_core()
    place(core, an_approval(quantity="0.02"))
    outputs = run(core, a_fill("0.01"), a_report(ReportKind.ACCEPTED, sequence=3))
    assert statuses(outputs) == ["PARTIALLY_FILLED"]


def test_fill_after_cancel_is_booked_and_the_order_stays_closed() -> None:
    core = an_external_core()
    place(core, an_approval(quantity="0.02"))
    outputs = run(core, a_report(ReportKind.CANCELLED), a_fill("0.01", sequence=3))
    assert statuses(outputs) == ["CANCELLED", "CANCELLED"]
    assert accounts(outputs)[-1].position(BTC).quantity == Decimal("0.01")


def test_cancel_after_the_last_fill_changes_nothing() -> None:
    core = an_external_core()
    place(core, an_approval())
    assert statuses(run(core, a_fill(), a_report(ReportKind.CANCELLED, sequence=3))) == ["FILLED"]


def test_fill_reported_twice_is_booked_once() -> None:
    core = an_external_core()
    place(core, an_approval(quantity="0.02"))
    again = a_fill("0.01", event_id="report/paper/again")
    outputs = run(core, a_fill("0.01"), again)
    assert accounts(outputs)[-1].position(BTC).quantity == Decimal("0.01")
    assert len(order_events(outputs)) == 1


def test_unknown_becomes_whatever_the_venue_says_later() -> None:
    core = an_external_core()
    place(core, an_approval())
    outputs = run(core, a_report(ReportKind.UNKNOWN), a_report(ReportKind.UNKNOWN, sequence=2), a_fill(sequence=3))
    assert statuses(outputs) == ["UNKNOWN", "FILLED"]


def test_rejection_closes_the_order_with_its_reason() -> None:
    outputs = run(a_core(), a_quote(1), an_approval(quantity="0.001"), a_tick(9))
    last = order_events(outputs)[-1]
    assert last.status is OrderStatus.REJECTED and last.reason.startswith("-4164")


def test_duplicate_id_answer_says_nothing_of_the_first_order() -> None:
    core = an_external_core()
    place(core, an_approval())
    duplicate = a_report(ReportKind.REJECTED, reason="-4116 client order id is duplicated")
    assert core.handle(duplicate) == ()
    assert core.order_status(order_id()) is OrderStatus.SUBMITTING


def test_report_for_an_unknown_order_is_unhandleable() -> None:
    with pytest.raises(Unhandleable, match="not known"):
        a_core().handle(a_fill())


@pytest.mark.parametrize("missing", ["last_quantity", "last_price", "fee"])
def test_fill_without_its_numbers_is_unhandleable(missing: str) -> None:
    core = an_external_core()
    place(core, an_approval())
    before = core.snapshot()
    with pytest.raises(Unhandleable, match="without quantity, price, fee or venue trade id"):
        fields: dict[str, Any] = {missing: None}
        core.handle(replace(a_fill(), **fields))
    assert core.snapshot() == before


def test_fill_of_nothing_is_unhandleable() -> None:
    core = an_external_core()
    place(core, an_approval())
    with pytest.raises(Unhandleable, match="above zero"):
        core.handle(a_fill("0"))


def test_report_in_another_instrument_is_unhandleable() -> None:
    core = an_external_core()
    place(core, an_approval())
    with pytest.raises(Unhandleable, match="the order is in"):
        core.handle(a_report(ReportKind.ACCEPTED, instrument="ETHUSDT.BINANCE"))


def test_cancel_intent_cancels_a_resting_order() -> None:
    outputs = run(
        a_core(),
        a_quote(1),
        an_approval(1, limit="59000"),
        a_tick(2),
        a_cancel_approval(2, target=1),
        a_tick(4),
    )
    assert statuses(outputs) == ["SUBMITTING", "ACCEPTED", "CANCELLED"]
    assert [type(each) for each in commands(outputs)] == [PlaceOrder, CancelOrder]


def test_cancel_that_comes_too_late_says_so() -> None:
    core = a_core()
    run(core, a_quote(1), an_approval(1), a_tick(2))
    last = order_events(run(core, a_cancel_approval(2, target=1), a_tick(4)))[-1]
    assert last.status is OrderStatus.FILLED and last.reason.startswith("cancel rejected: -2011")


def test_cancel_of_an_order_never_heard_of_is_unhandleable() -> None:
    with pytest.raises(Unhandleable, match="not known"):
        a_core().handle(a_cancel_approval(2, target=1))


def test_old_closed_orders_are_forgotten_and_their_verdicts_are_not() -> None:
    core = an_external_core()
    for number in range(1, 301):
        place(core, an_approval(number))
        core.handle(a_report(ReportKind.REJECTED, number))
    assert core.order_status(order_id(1)) is None
    assert core.order_status(order_id(300)) is OrderStatus.REJECTED
    assert core.handle(an_approval(1)) == ()


def test_realised_profit_and_fees_reach_the_wallet() -> None:
    core = an_external_core()
    place(core, an_approval(1), an_approval(2, side=Side.SELL))
    outputs = run(core, a_fill(number=1), a_fill(price="60100", number=2))
    assert order_events(outputs)[-1].realised_pnl == Decimal("1")
    last = accounts(outputs)[-1]
    assert last.wallet_balance == last.equity == Decimal("10000") + 1 - Decimal("0.6")
