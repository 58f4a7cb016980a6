"""The reports that a venue's answer adds to what is recorded of an order. Pure.

Report ids follow from the order and what is reported, so that a report written twice is recognised as one.
"""

from __future__ import annotations

from libs.domain.accounts import VenueAccount
from libs.domain.orders import CancelOrder, OrderStatus, PlaceOrder, ReportKind, VenueReport
from libs.domain.venues import VenueAccountSnapshot, VenueOrderState
from services.execution.core.commands import make_own_report
from services.execution.core.order_states import ManagedOrder

_ENDS = {
    OrderStatus.CANCELLED: ReportKind.CANCELLED,
    OrderStatus.EXPIRED: ReportKind.EXPIRED,
    OrderStatus.REJECTED: ReportKind.REJECTED,
}
_UNANSWERED = (OrderStatus.SUBMITTING, OrderStatus.UNKNOWN)


def make_report(command: PlaceOrder, kind: ReportKind, event_time: int, reason: str = "") -> VenueReport:
    """Return a report of our own on an order: unknown, or rejected."""
    return make_own_report(command, f"{command.client_order_id}/{kind.name.lower()}", kind, event_time, reason)


def make_venue_account(account: str, snapshot: VenueAccountSnapshot, event_time: int, cause_id: str) -> VenueAccount:
    """Return the record of an account as its venue counts it."""
    return VenueAccount(
        event_id=f"venue-account/{account}/{event_time}",
        event_time=event_time,
        account=account,
        wallet_balance=snapshot.wallet_balance,
        positions=snapshot.positions,
        cause_id=cause_id,
    )


def make_cancel_rejection(command: CancelOrder, event_time: int, reason: str) -> VenueReport:
    """Return the report that a cancel was refused."""
    return make_own_report(command, f"{command.event_id}/rejected", ReportKind.CANCEL_REJECTED, event_time, reason)


def reports_of(order: ManagedOrder, state: VenueOrderState) -> list[VenueReport]:
    """Return what the venue's answer says that is not recorded yet: acceptance, fills, then the end.

    The end waits until all fills that the venue counts are listed.
    """
    command = order.command
    prefix = f"report/{command.account}/{command.client_order_id}"
    reports: list[VenueReport] = []

    def say(kind: ReportKind, name: str, event_time: int, **fill: object) -> None:
        reports.append(
            VenueReport(
                event_id=f"{prefix}/{name}",
                event_time=event_time,
                account=command.account,
                instrument=command.instrument,
                client_order_id=command.client_order_id,
                venue_order_id=state.venue_order_id,
                kind=kind,
                reason=state.reason,
                raw=state.raw,
                cause_id=command.event_id,
                **fill,  # type: ignore[arg-type]
            )
        )

    is_unanswered = order.status in _UNANSWERED
    if is_unanswered and state.status is not OrderStatus.REJECTED:
        say(ReportKind.ACCEPTED, "accepted", state.event_time)
    if state.is_triggered and not order.is_triggered:
        say(ReportKind.TRIGGERED, "triggered", state.event_time)
    listed = order.filled_quantity
    for fill in state.fills:
        if fill.venue_trade_id not in order.trade_ids:
            listed += fill.quantity
            say(
                ReportKind.FILL,
                f"fill/{fill.venue_trade_id}",
                fill.event_time,
                last_quantity=fill.quantity,
                last_price=fill.price,
                fee=fill.fee,
                liquidity=fill.liquidity,
                venue_trade_id=fill.venue_trade_id,
            )
    end = _ENDS.get(state.status)
    if end is ReportKind.REJECTED and not is_unanswered:
        # A conditional order that the venue accepted, and did not take when it was triggered.
        end = ReportKind.EXPIRED
    if end is not None and listed == state.filled_quantity:
        say(end, end.name.lower(), state.event_time)
    return reports
