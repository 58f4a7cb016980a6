"""What the outbox knows of the orders it carries out, and the positions that all recorded fills add up to. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal

from libs.domain.accounts import VenueAccount
from libs.domain.numbers import format_decimal
from libs.domain.orders import CancelOrder, PlaceOrder, ReportKind, VenueReport
from libs.domain.venues import VenueAccountSnapshot
from services.execution.core.order_states import ManagedOrder

ZERO = Decimal(0)
REMEMBERED_CLOSED_ORDERS = 2048


@dataclass(slots=True)
class TrackedOrders:
    """Open orders by client order id, and the last 2,048 closed ones by id with their side's sign.

    `cancels` are the cancels of open orders that were not refused, `cancelled` the open orders of which the venue took
    one; `counted` is how much of each had filled when the venue was last asked, listed or not. `wallet` is the venue's
    as last recorded, None before.
    """

    open: dict[str, ManagedOrder] = field(default_factory=dict)
    closed: dict[str, int] = field(default_factory=dict)
    cancels: dict[str, CancelOrder] = field(default_factory=dict)
    cancelled: dict[str, None] = field(default_factory=dict)
    counted: dict[str, Decimal] = field(default_factory=dict)
    positions: dict[str, Decimal] = field(default_factory=dict)
    wallet: Decimal | None = None

    def add(self, command: PlaceOrder) -> ManagedOrder:
        """Track an order from now on."""
        order = ManagedOrder(command)
        self.open[command.client_order_id] = order
        return order

    def add_cancel(self, command: CancelOrder) -> None:
        """Remember a cancel until its order is closed or the cancel refused."""
        if command.client_order_id in self.open:
            self.cancels[command.client_order_id] = command

    def is_known(self, client_order_id: str) -> bool:
        """Whether an order of that id is tracked or was lately."""
        return client_order_id in self.open or client_order_id in self.closed

    def record(self, report: VenueReport | VenueAccount) -> None:
        """Take over what goes on record."""
        if isinstance(report, VenueAccount):
            self.wallet = report.wallet_balance
            self.positions = {held.instrument: held.quantity for held in report.positions}
            return
        name = report.client_order_id
        order = self.open.get(name)
        if report.kind is ReportKind.FILL and report.last_quantity is not None and report.last_price is not None:
            sign = order.command.side.sign if order is not None else self.closed.get(name, 0)
            held = self.positions.get(report.instrument, ZERO)
            self.positions[report.instrument] = held + report.last_quantity * sign
            if order is not None:
                order.apply_fill(report, report.last_quantity, report.last_price, ZERO)
        elif order is not None:
            order.apply_report(report)
        if order is None:
            return
        cancel = self.cancels.get(name)
        if report.kind is ReportKind.CANCEL_REJECTED and cancel is not None and cancel.event_id == report.cause_id:
            del self.cancels[name]
        if not order.status.is_open:
            self._close(name)

    def _close(self, name: str) -> None:
        order = self.open.pop(name)
        self.cancels.pop(name, None)
        self.cancelled.pop(name, None)
        self.counted.pop(name, None)
        self.closed[name] = order.command.side.sign
        if len(self.closed) > REMEMBERED_CLOSED_ORDERS:
            del self.closed[next(iter(self.closed))]

    def unlisted(self) -> Mapping[str, Decimal]:
        """Return how much of each open order the venue counts as filled and has not listed yet, where that is any."""
        ahead = {name: self.counted.get(name, ZERO) - order.filled_quantity for name, order in self.open.items()}
        return {name: quantity for name, quantity in ahead.items() if quantity > 0}

    def differing_positions(self, snapshot: VenueAccountSnapshot) -> Iterable[tuple[str, str]]:
        """Yield instrument and sentence for each position that recorded and unlisted fills do not add up to."""
        theirs = {position.instrument: position.quantity for position in snapshot.positions}
        ours = dict(self.positions)
        for name, quantity in self.unlisted().items():
            command = self.open[name].command
            ours[command.instrument] = ours.get(command.instrument, ZERO) + quantity * command.side.sign
        for instrument in sorted({*theirs, *ours}):
            held, computed = theirs.get(instrument, ZERO), ours.get(instrument, ZERO)
            if held != computed:
                yield (
                    instrument,
                    f"position in {instrument} is {format_decimal(held)} at the venue "
                    f"and {format_decimal(computed)} by recorded fills",
                )
