"""Placing and cancelling: what a command is asked of the venue for, and what the answers come to."""

from __future__ import annotations

from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import CancelOrder, PlaceOrder, ReportKind
from libs.domain.venues import CallOutcome, VenueAnswer
from services.execution.core.order_states import ManagedOrder
from services.execution.core.outbox_state import Step, StepKind
from services.execution.core.outbox_work import OutboxWork
from services.execution.core.venue_reports import make_cancel_rejection, make_report, reports_of


def carry_out(work: OutboxWork, command: PlaceOrder | CancelOrder) -> None:
    """Refuse a command, or make the call that it asks for."""
    orders = work.state.orders
    name = command.client_order_id
    if isinstance(command, CancelOrder):
        if name not in orders.open:
            work.record([make_cancel_rejection(command, work.state.now, "the order is closed")])
            return
        orders.add_cancel(command)
        work.state.reconciliation.next_check = 0
        work.call(Step(StepKind.CANCEL, name), orders.open[name])
    elif not orders.is_known(name):
        order = orders.add(command)
        refusal = _refuse(work, command)
        if refusal:
            work.record([make_report(command, ReportKind.REJECTED, work.state.now, refusal)])
        else:
            work.call(Step(StepKind.PLACE, name), order)


def put_back(work: OutboxWork, command: PlaceOrder) -> None:
    """Have an order that was not sent decided anew, before the commands that came after it."""
    del work.state.orders.open[command.client_order_id]
    work.state.commands.appendleft(command)


def _refuse(work: OutboxWork, command: PlaceOrder) -> str:
    state = work.state
    refusal = state.gate.refuse(is_reducing=command.reduce_only)
    if not refusal and not state.reconciliation.reconciled_at and not command.reduce_only:
        refusal = "not sent: positions and orders could not be compared with the venue's yet"
    age = state.now - command.event_time
    if not refusal and age > work.terms.max_command_age_ns:
        refusal = f"not sent: the command is {age // NANOSECONDS} s old"
    return refusal


def on_placed(work: OutboxWork, step: Step, answer: VenueAnswer) -> None:
    """Record what became of an order that was sent."""
    state = work.state
    order = state.orders.open[step.client_order_id]
    if answer.outcome is CallOutcome.NOT_SENT:
        put_back(work, order.command)
    elif answer.outcome is CallOutcome.REFUSED:
        work.record([make_report(order.command, ReportKind.REJECTED, state.now, answer.reason)])
    elif answer.outcome is CallOutcome.UNAVAILABLE or answer.order is None:
        _doubt(work, order, answer.reason)
    else:
        state.orders.counted[step.client_order_id] = answer.order.filled_quantity
        if sum(fill.quantity for fill in answer.order.fills) != answer.order.filled_quantity:
            state.reconciliation.next_check = 0
        work.record(reports_of(order, answer.order))


def _doubt(work: OutboxWork, order: ManagedOrder, reason: str) -> None:
    now = work.state.now
    work.state.reconciliation.doubt(order.command.client_order_id, now)
    work.record([make_report(order.command, ReportKind.UNKNOWN, now, reason)])


def on_cancelled(work: OutboxWork, step: Step, answer: VenueAnswer) -> None:
    """Note a cancel that was taken, or find out why it was refused."""
    if answer.outcome is CallOutcome.DONE:
        work.state.orders.cancelled[step.client_order_id] = None
    elif answer.outcome is CallOutcome.REFUSED:
        work.state.steps.appendleft(Step(StepKind.EXPLAIN_CANCEL, step.client_order_id, answer.reason))
    # In doubt it is tried again at the next check; cancelling twice does no harm.


def on_cancel_explained(work: OutboxWork, step: Step, answer: VenueAnswer) -> None:
    """Record what the venue says of an order whose cancel it refused."""
    state, name = work.state, step.client_order_id
    order, cancel = state.orders.open[name], state.orders.cancels.get(name)
    is_over = answer.order is not None and not answer.order.status.is_open
    if answer.order is not None:
        work.record(reports_of(order, work.counted(answer.order)))
    # An order of unknown fate may be under way still: it is cancelled when it has come.
    if cancel is not None and not is_over and name not in state.reconciliation.unknown_since:
        work.record([make_cancel_rejection(cancel, state.now, step.reason)])
