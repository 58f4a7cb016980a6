"""What the steps of the outbox share: its state, its outputs, the next call, reports and alerts."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from libs.domain.accounts import VenueAccount
from libs.domain.control import Alert, Severity
from libs.domain.events import Event
from libs.domain.orders import VenueReport
from libs.domain.venues import VenueCall, VenueCallKind, VenueOrderState
from services.execution.core.order_states import ManagedOrder
from services.execution.core.outbox_state import CALLS, OutboxState, Step, StepKind
from services.execution.core.reconciliation import OutboxTerms

NAME = "outbox"
SERVICE = "execution"
DIFFERENCE_ALERT = "venue_differs_from_records"
DEAD_MAN_ALERT = "dead_man_switch_ran_out"


class OutboxWork:
    """What the steps of the outbox share."""

    def __init__(self, state: OutboxState, terms: OutboxTerms) -> None:
        self.state = state
        self.terms = terms
        self.outputs: list[Event] = []

    def call(self, step: Step, order: ManagedOrder | None = None) -> None:
        """Make the next call, whose answer is awaited before anything else is done."""
        state, terms = self.state, self.terms
        state.call_count += 1
        is_place = step.kind is StepKind.PLACE
        state.step = step
        state.pending = VenueCall(
            event_id=f"call/{state.account}/{state.call_count}",
            event_time=state.now,
            account=state.account,
            kind=CALLS.get(step.kind, VenueCallKind.QUERY),
            order=order.command if order else None,
            booked_quantity=order.filled_quantity if order else Decimal(0),
            countdown_ms=terms.countdown_ns // 10**6 if step.kind is StepKind.SET_COUNTDOWN else 0,
            expires_at=order.command.event_time + terms.max_command_age_ns if is_place and order else 0,
        )
        self.outputs.append(state.pending)

    def record(self, reports: Sequence[VenueReport | VenueAccount]) -> None:
        """Put reports out and take them over."""
        state = self.state
        for report in reports:
            state.orders.record(report)
            if isinstance(report, VenueReport) and report.client_order_id not in state.orders.open:
                state.reconciliation.unknown_since.pop(report.client_order_id, None)
        self.outputs.extend(reports)

    def counted(self, venue_order: VenueOrderState) -> VenueOrderState:
        """Note how much the venue counts as filled, and return its answer."""
        self.state.orders.counted[venue_order.client_order_id] = venue_order.filled_quantity
        return venue_order

    def alert(self, name: str, message: str, *, is_raised: bool) -> None:
        """Raise or clear an alert; it goes out once the time is known."""
        self.state.alert_count += 1
        self.state.alerts.append((name, message, is_raised, self.state.alert_count))

    def _make_alert(self, name: str, message: str, is_raised: bool, number: int) -> Alert:
        return Alert(
            event_id=f"alert/{NAME}/{self.state.account}/{number}",
            event_time=self.state.now,
            service=SERVICE,
            name=name,
            severity=Severity.CRITICAL,
            is_raised=is_raised,
            message=message,
        )

    def take_outputs(self) -> Sequence[Event]:
        """Return what was put out since the last time."""
        if self.state.now:
            self.outputs.extend(self._make_alert(*each) for each in self.state.alerts)
            self.state.alerts = []
        outputs, self.outputs = self.outputs, []
        return outputs
