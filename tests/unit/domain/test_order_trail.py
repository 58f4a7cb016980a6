"""The invariants of a session's orders: each way to break one is seen, and nothing else is."""

from __future__ import annotations

from decimal import Decimal

from libs.domain.control import ControlAction
from libs.domain.events import Event
from libs.domain.order_trail import OrderTrail
from libs.domain.orders import CancelOrder, OrderEvent, PlaceOrder, ReportKind
from tests.kit.builders import BTC, START, a_control, an_account, an_intent
from tests.unit.execution.builders import a_core, a_fill, a_report, an_approval, an_external_core, order_id


def trail_of(*events: Event) -> OrderTrail:
    trail = OrderTrail()
    for event in events:
        trail.take(event)
    return trail


def the_command(number: int = 1) -> PlaceOrder:
    return next(each for each in a_core().handle(an_approval(number)) if isinstance(each, PlaceOrder))


def test_an_intent_needs_exactly_one_verdict() -> None:
    intent, approval = an_intent(), an_approval(1)
    assert trail_of(intent).unmatched_intents() == {intent.event_id: (1, 0)}
    assert trail_of(intent, approval).unmatched_intents() == {}
    assert trail_of(intent, approval, approval).unmatched_intents() == {intent.event_id: (1, 2)}


def test_an_approval_needs_exactly_one_command() -> None:
    approval, command = an_approval(1), the_command()
    assert trail_of(approval).unmatched_approvals() == {approval.intent_id: (1, 0)}
    assert trail_of(approval, command).unmatched_approvals() == {}
    assert trail_of(command).unmatched_approvals() == {approval.intent_id: (0, 1)}


def test_an_approval_that_a_halt_overtook_needs_no_command() -> None:
    core = an_external_core()
    core.handle(a_control(ControlAction.HALT))
    approval = an_approval(1)
    outputs = core.handle(approval)
    assert any(isinstance(each, OrderEvent) for each in outputs)
    assert trail_of(approval, *outputs).unmatched_approvals() == {}


def test_a_cancel_answers_to_a_control_command_whichever_is_read_first() -> None:
    halt = a_control(ControlAction.HALT)
    cancel = CancelOrder("cancel/1/halt", START, "paper", BTC, order_id(1), halt.event_id)
    assert trail_of(cancel, halt).unmatched_approvals() == {}
    assert trail_of(halt, cancel).unmatched_approvals() == {}
    assert trail_of(cancel).unmatched_approvals() == {halt.event_id: (0, 1)}


def test_an_order_sent_twice_is_named_once_for_each_sign_of_it() -> None:
    command = the_command()
    accepted = a_report(ReportKind.ACCEPTED, venue_order_id="1")
    again = a_report(ReportKind.ACCEPTED, sequence=2, venue_order_id="2")
    assert trail_of(command, accepted).repeated_orders() == []
    lines = trail_of(command, command, accepted, again).repeated_orders()
    assert [line.split(" ", 2)[2] for line in lines] == [
        "was placed 2 times",
        "was accepted 2 times",
        "is 2 orders at the venue",
    ]


def test_a_position_must_be_the_sum_of_its_fills() -> None:
    command, fill = the_command(), a_fill()
    filled = fill.last_quantity
    assert filled is not None
    assert trail_of(command, fill, an_account(str(filled))).unequal_positions() == {}
    assert trail_of(command, fill, an_account("1")).unequal_positions() == {("paper", BTC): (Decimal(1), filled)}
    assert trail_of(fill).fills_without_order() == [fill.client_order_id]
