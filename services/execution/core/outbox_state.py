"""What the outbox remembers: its unfinished steps and everything that recovery restores."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

from libs.domain.orders import CancelOrder, PlaceOrder
from libs.domain.state import StateFormat
from libs.domain.venues import VenueCall, VenueCallKind
from services.execution.core.cancel_countdown import CancelCountdown
from services.execution.core.reconciliation import Reconciliation
from services.execution.core.send_gate import SendGate
from services.execution.core.tracked_orders import TrackedOrders


class StepKind(StrEnum):
    """What a call is made for."""

    PLACE = "place"
    CANCEL = "cancel"
    RETRY_CANCEL = "cancel again unless the venue took it"
    EXPLAIN_CANCEL = "ask why a cancel was refused"
    PREPARE = "prepare"
    READ_CLOCK = "read the clock"
    CHECK_ORDER = "check an open order"
    LIST_OPEN_ORDERS = "list open orders"
    READ_ACCOUNT = "read the account"
    RECHECK_ORDER = "check whether an order has filled since the account was read"
    JUDGE_ACCOUNT = "judge the account"
    SET_COUNTDOWN = "set the countdown"


CALLS = {
    StepKind.PLACE: VenueCallKind.PLACE,
    StepKind.CANCEL: VenueCallKind.CANCEL,
    StepKind.RETRY_CANCEL: VenueCallKind.CANCEL,
    StepKind.PREPARE: VenueCallKind.PREPARE,
    StepKind.READ_CLOCK: VenueCallKind.READ_CLOCK,
    StepKind.LIST_OPEN_ORDERS: VenueCallKind.LIST_OPEN_ORDERS,
    StepKind.READ_ACCOUNT: VenueCallKind.READ_ACCOUNT,
    StepKind.SET_COUNTDOWN: VenueCallKind.SET_COUNTDOWN,
}
ON_ONE_ORDER = frozenset(
    {
        *(StepKind.PLACE, StepKind.CANCEL, StepKind.RETRY_CANCEL, StepKind.EXPLAIN_CANCEL),
        *(StepKind.CHECK_ORDER, StepKind.RECHECK_ORDER),
    }
)
# Without an answer to one of these the current reconciliation or check ends.
COMPARING = frozenset(
    {
        *(StepKind.PREPARE, StepKind.READ_CLOCK, StepKind.CHECK_ORDER, StepKind.LIST_OPEN_ORDERS),
        *(StepKind.READ_ACCOUNT, StepKind.RECHECK_ORDER),
    }
)


@dataclass(slots=True)
class Step:
    """A piece of the current work. `reason` is the refusal that EXPLAIN_CANCEL asks about."""

    kind: StepKind
    client_order_id: str = ""
    reason: str = ""


@dataclass(slots=True)
class OutboxState:
    """Everything that the outbox remembers.

    `now` is the venue's clock at the last answer or tick, `start_id` the tick by which the last process began.
    `commands` wait, `steps` are what is left of the current work, `step` is what `pending` was called for. `health` is
    what the last look at the services found, None once used.
    `alerts` wait until the time is known.
    """

    account: str
    gate: SendGate
    orders: TrackedOrders = field(default_factory=TrackedOrders)
    reconciliation: Reconciliation = field(default_factory=Reconciliation)
    countdown: CancelCountdown = field(default_factory=CancelCountdown)
    now: int = 0
    start_id: str = ""
    is_prepared: bool = False
    reconciliations_at_start: int = 0
    call_count: int = 0
    alert_count: int = 0
    has_moved: bool = False
    commands: deque[PlaceOrder | CancelOrder] = field(default_factory=deque)
    steps: deque[Step] = field(default_factory=deque)
    step: Step | None = None
    pending: VenueCall | None = None
    health: tuple[str, ...] | None = None
    alerts: list[tuple[str, str, bool, int]] = field(default_factory=list)


STATE = StateFormat("outbox", 1, OutboxState)
