"""What an approval becomes: the command to place, the command to cancel, or the word that it was not sent."""

from __future__ import annotations

from libs.domain.events import Unhandleable
from libs.domain.orders import (
    CancelOrder,
    OrderApproved,
    PlaceOrder,
    ReportKind,
    VenueReport,
    client_order_id_of,
    verdict_id_of,
)


def check_verdict(verdict: OrderApproved) -> None:
    """Raise `Unhandleable` for a verdict that is not that of the intent it carries."""
    intent = verdict.intent
    if intent.event_id != verdict.intent_id or verdict.event_id != verdict_id_of(verdict.intent_id):
        raise Unhandleable(f"verdict {verdict.event_id} is not that of its intent {intent.event_id}")
    if intent.account != verdict.account or intent.instrument != verdict.instrument:
        raise Unhandleable(f"verdict {verdict.event_id} and its intent name different accounts or instruments")


def make_place_command(verdict: OrderApproved) -> PlaceOrder:
    """Return the command that sends an approved order, equal to its intent."""
    intent = verdict.intent
    client_order_id = client_order_id_of(verdict.intent_id)
    return PlaceOrder(
        event_id=f"place/{client_order_id}",
        event_time=verdict.event_time,
        account=verdict.account,
        instrument=verdict.instrument,
        client_order_id=client_order_id,
        intent_id=verdict.intent_id,
        verdict_id=verdict.event_id,
        side=intent.side,
        order_type=intent.order_type,
        quantity=intent.quantity,
        time_in_force=intent.time_in_force,
        reduce_only=intent.reduce_only,
        limit_price=intent.limit_price,
        trigger_price=intent.trigger_price,
        callback_rate=intent.callback_rate,
    )


def make_cancel_command(order: PlaceOrder, event_time: int, cause_id: str) -> CancelOrder:
    """Return the command that cancels an order; `cause_id` is the intent or the control event that asks for it."""
    return CancelOrder(
        event_id=f"cancel/{order.client_order_id}/{cause_id}",
        event_time=event_time,
        account=order.account,
        instrument=order.instrument,
        client_order_id=order.client_order_id,
        intent_id=cause_id,
    )


def make_local_rejection(command: PlaceOrder, reason: str) -> VenueReport:
    """Return the report that a command was not sent."""
    name = f"unsent/{command.client_order_id}"
    return make_own_report(command, name, ReportKind.REJECTED, command.event_time, reason)


def make_own_report(
    command: PlaceOrder | CancelOrder, name: str, kind: ReportKind, event_time: int, reason: str
) -> VenueReport:
    """Return a report that is ours and not the venue's; `name` tells it from others of its account."""
    return VenueReport(
        event_id=f"report/{command.account}/{name}",
        event_time=event_time,
        account=command.account,
        instrument=command.instrument,
        client_order_id=command.client_order_id,
        venue_order_id="",
        kind=kind,
        reason=reason,
        cause_id=command.event_id,
    )
