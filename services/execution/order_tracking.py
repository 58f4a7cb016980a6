"""What the outbox knows of the orders it carried out, and which reports a venue's answer adds to that. Pure.

Report ids follow from the order and what is reported, so that a report written twice is recognised as one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from libs.domain.accounts import VenueAccount
from libs.domain.orders import CancelOrder, OrderStatus, PlaceOrder, ReportKind, VenueReport
from libs.domain.venues import VenueAccountSnapshot, VenueOrderState
from services.execution.core.order_states import ManagedOrder

ZERO = Decimal(0)
_ENDS = {
    OrderStatus.CANCELLED: ReportKind.CANCELLED,
    OrderStatus.EXPIRED: ReportKind.EXPIRED,
    OrderStatus.REJECTED: ReportKind.REJECTED,
}
_UNANSWERED = (OrderStatus.SUBMITTING, OrderStatus.UNKNOWN)


class TrackedOrders:
    """Open orders by client order id, and the positions that all recorded fills add up to.

    `cancels` are those of open orders that were not refused, `cancelled` the open orders of which the venue took one;
    `counted` is how much of each had filled when the venue was last asked, listed or not. `wallet` is the venue's as
    last recorded, None before; `takeovers` the commands that had its books taken over.
    """

    def __init__(self) -> None:
        self.open: dict[str, ManagedOrder] = {}
        self.cancels: dict[str, CancelOrder] = {}
        self.cancelled: set[str] = set()
        self.counted: dict[str, Decimal] = {}
        self.positions: dict[str, Decimal] = {}
        self.wallet: Decimal | None = None
        self.takeovers: set[str] = set()
        self._sides: dict[str, int] = {}

    def add(self, command: PlaceOrder) -> ManagedOrder:
        """Track an order from now on."""
        order = ManagedOrder(command)
        self.open[command.client_order_id] = order
        self._sides[command.client_order_id] = command.side.sign
        return order

    def add_cancel(self, command: CancelOrder) -> None:
        """Keep a cancel in mind until its order is closed or the cancel refused."""
        if command.client_order_id in self.open:
            self.cancels[command.client_order_id] = command

    def is_known(self, client_order_id: str) -> bool:
        """Whether an order of that id was ever tracked."""
        return client_order_id in self._sides

    def book(self, reports: Iterable[VenueReport | VenueAccount]) -> None:
        """Take over what has been recorded."""
        for report in reports:
            if isinstance(report, VenueAccount):
                self.wallet = report.wallet_balance
                self.takeovers.add(report.cause_id)
                self.positions = {held.instrument: held.quantity for held in report.positions}
                continue
            name = report.client_order_id
            order = self.open.get(name)
            if report.kind is ReportKind.FILL and report.last_quantity is not None and report.last_price is not None:
                if order is not None and order.has_booked(report):
                    continue
                signed = report.last_quantity * self._sides.get(name, 0)
                self.positions[report.instrument] = self.positions.get(report.instrument, ZERO) + signed
                if order is not None:
                    order.apply_fill(report, report.last_quantity, report.last_price, ZERO)
            elif order is not None:
                order.apply_report(report)
            cancel = self.cancels.get(name)
            if report.kind is ReportKind.CANCEL_REJECTED and cancel is not None and cancel.event_id == report.cause_id:
                del self.cancels[name]
            if order is not None and not order.status.is_open:
                del self.open[name]
                self.cancels.pop(name, None)
                self.cancelled.discard(name)
                self.counted.pop(name, None)

    def unlisted(self) -> Mapping[str, Decimal]:
        """Return how much of each open order the venue counts as filled and has not listed yet, where that is any."""
        ahead = {name: self.counted.get(name, ZERO) - order.filled_quantity for name, order in self.open.items()}
        return {name: quantity for name, quantity in ahead.items() if quantity > 0}

    def differing_positions(self, books: VenueAccountSnapshot) -> Iterable[tuple[str, str]]:
        """Yield instrument and sentence for each position that recorded and unlisted fills do not add up to."""
        theirs = {position.instrument: position.quantity for position in books.positions}
        ours = dict(self.positions)
        for name, quantity in self.unlisted().items():
            instrument = self.open[name].command.instrument
            ours[instrument] = ours.get(instrument, ZERO) + quantity * self._sides[name]
        for instrument in sorted({*theirs, *ours}):
            held, reckoned = theirs.get(instrument, ZERO), ours.get(instrument, ZERO)
            if held != reckoned:
                yield instrument, f"position in {instrument} is {held} at the venue and {reckoned} by recorded fills"


def make_report(command: PlaceOrder, kind: ReportKind, event_time: int, reason: str = "") -> VenueReport:
    """Return a report of our own on an order: unknown, or rejected."""
    return VenueReport(
        event_id=f"report/{command.account}/{command.client_order_id}/{kind.name.lower()}",
        event_time=event_time,
        account=command.account,
        instrument=command.instrument,
        client_order_id=command.client_order_id,
        venue_order_id="",
        kind=kind,
        reason=reason,
        cause_id=command.event_id,
    )


def make_venue_account(account: str, books: VenueAccountSnapshot, event_time: int, cause_id: str) -> VenueAccount:
    """Return the record of a venue's books."""
    return VenueAccount(
        event_id=f"venue-account/{account}/{event_time}",
        event_time=event_time,
        account=account,
        wallet_balance=books.wallet_balance,
        positions=books.positions,
        cause_id=cause_id,
    )


def make_cancel_rejection(command: CancelOrder, event_time: int, reason: str) -> VenueReport:
    """Return the report that a cancel was refused."""
    return VenueReport(
        event_id=f"report/{command.account}/{command.event_id}/rejected",
        event_time=event_time,
        account=command.account,
        instrument=command.instrument,
        client_order_id=command.client_order_id,
        venue_order_id="",
        kind=ReportKind.CANCEL_REJECTED,
        reason=reason,
        cause_id=command.event_id,
    )


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
