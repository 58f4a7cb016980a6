"""One order's life as reports tell it. Reports may repeat or come late; a fill counts once, whenever it comes.

::

    SUBMITTING -> ACCEPTED -> PARTIALLY_FILLED -> FILLED
        |            |              |-> CANCELLED | EXPIRED
        |            |-> CANCELLED | EXPIRED
        |-> REJECTED
        '-> UNKNOWN -> any of the above

A closed order never opens again. A fill that comes after CANCELLED or EXPIRED is booked; the order then stays closed,
or becomes FILLED when nothing is left of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from libs.domain.numbers import quantize_e8
from libs.domain.orders import (
    OrderEvent,
    OrderStatus,
    PlaceOrder,
    ReportKind,
    VenueReport,
)

ZERO = Decimal(0)

_ENDS = {ReportKind.CANCELLED: OrderStatus.CANCELLED, ReportKind.EXPIRED: OrderStatus.EXPIRED}
_UNANSWERED = (OrderStatus.SUBMITTING, OrderStatus.UNKNOWN)


@dataclass(slots=True)
class ManagedOrder:
    """An order that execution sent or is about to send. `trade_ids` are the venue trade ids booked so far."""

    command: PlaceOrder
    status: OrderStatus = OrderStatus.SUBMITTING
    venue_order_id: str = ""
    filled_quantity: Decimal = ZERO
    filled_notional: Decimal = ZERO
    event_count: int = 0
    has_been_sent: bool = False
    is_cancel_sent: bool = False
    is_triggered: bool = False
    trade_ids: list[str] = field(default_factory=list)

    @property
    def remaining(self) -> Decimal:
        """Quantity not filled yet, never below 0."""
        return max(ZERO, self.command.quantity - self.filled_quantity)

    def has_booked(self, report: VenueReport) -> bool:
        """Whether a fill report was booked already."""
        return report.venue_trade_id in self.trade_ids

    def apply_fill(self, report: VenueReport, quantity: Decimal, price: Decimal, realised_pnl: Decimal) -> OrderEvent:
        """Book a fill; the ledger has said what it realised."""
        self.venue_order_id = report.venue_order_id or self.venue_order_id
        self.trade_ids.append(report.venue_trade_id)
        self.filled_quantity += quantity
        self.filled_notional += quantity * price
        if not self.remaining:
            self.status = OrderStatus.FILLED
        elif self.status.is_open:
            self.status = OrderStatus.PARTIALLY_FILLED
        return self.make_event(
            report.event_time,
            reason=report.reason,
            report=report,
            realised_pnl=realised_pnl,
        )

    def apply_report(self, report: VenueReport) -> OrderEvent | None:
        """Advance by a report that is no fill; None where it says nothing new."""
        kind = report.kind
        status = self.status
        if kind is ReportKind.ACCEPTED and status in _UNANSWERED:
            self.status = OrderStatus.ACCEPTED
        elif kind is ReportKind.REJECTED and status in _UNANSWERED:
            self.status = OrderStatus.REJECTED
        elif kind is ReportKind.UNKNOWN and status is OrderStatus.SUBMITTING:
            self.status = OrderStatus.UNKNOWN
        elif kind in _ENDS and status.is_open:
            self.status = _ENDS[kind]
        elif kind is ReportKind.CANCEL_REJECTED:
            self.is_cancel_sent = False
        elif kind is ReportKind.TRIGGERED and status.is_open and not self.is_triggered:
            self.is_triggered = True
        else:
            self.venue_order_id = self.venue_order_id or report.venue_order_id
            return None
        self.venue_order_id = report.venue_order_id or self.venue_order_id
        reason = report.reason
        if kind is ReportKind.TRIGGERED:
            reason = reason or "triggered"
        elif kind is ReportKind.CANCEL_REJECTED:
            reason = f"cancel rejected: {reason}"
        return self.make_event(report.event_time, reason=reason, report=report)

    def make_event(
        self,
        event_time: int,
        *,
        reason: str = "",
        report: VenueReport | None = None,
        realised_pnl: Decimal | None = None,
    ) -> OrderEvent:
        """Return the order's present state as its next event."""
        self.event_count += 1
        command = self.command
        average = quantize_e8(self.filled_notional / self.filled_quantity) if self.filled_quantity else None
        is_fill = report is not None and report.kind is ReportKind.FILL
        return OrderEvent(
            event_id=f"order/{command.client_order_id}/{self.event_count}",
            event_time=event_time,
            account=command.account,
            instrument=command.instrument,
            client_order_id=command.client_order_id,
            venue_order_id=self.venue_order_id,
            intent_id=command.intent_id,
            status=self.status,
            side=command.side,
            order_type=command.order_type,
            quantity=command.quantity,
            filled_quantity=self.filled_quantity,
            average_price=average,
            limit_price=command.limit_price,
            reduce_only=command.reduce_only,
            last_quantity=report.last_quantity if report and is_fill else None,
            last_price=report.last_price if report and is_fill else None,
            fee=report.fee if report and is_fill else None,
            liquidity=report.liquidity if report and is_fill else None,
            realised_pnl=realised_pnl,
            reason=reason,
            report_id=report.event_id if report else "",
        )
