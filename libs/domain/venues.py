"""What is asked of a venue and what it answers, as values: the calls of the outbox, their answers, and time passing.

::

    VenueCall --written, then made--> VenueAnswer --written, then handled--> VenueReport
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from typing import TypeAlias

from libs.domain.accounts import VenuePosition
from libs.domain.orders import Liquidity, OrderStatus, PlaceOrder


@dataclass(frozen=True, slots=True)
class VenueFill:
    """One execution. `fee` is in the quote asset, positive when paid; `event_time` in ns."""

    venue_trade_id: str
    event_time: int
    quantity: Decimal
    price: Decimal
    fee: Decimal
    liquidity: Liquidity


@dataclass(frozen=True, slots=True)
class VenueOrderState:
    """An order as the venue knows it. `raw` is its answer's text.

    `fills` are all its executions so far; the venue may list them later than it counts `filled_quantity`. They may be
    left out where the asker had booked as many. `is_triggered` belongs to conditional orders.
    """

    client_order_id: str
    venue_order_id: str
    instrument: str
    status: OrderStatus
    filled_quantity: Decimal
    event_time: int
    fills: tuple[VenueFill, ...] = ()
    is_triggered: bool = False
    reason: str = ""
    raw: str = ""


@dataclass(frozen=True, slots=True)
class VenueAccountSnapshot:
    """The account at one moment: wallet in the quote asset, and the open positions with quantity and entry price."""

    wallet_balance: Decimal
    positions: tuple[VenuePosition, ...]


class VenueCallKind(IntEnum):
    """What is asked. PREPARE checks the account and sets its leverage; SET_COUNTDOWN concerns every instrument."""

    PREPARE = 1
    READ_CLOCK = 2
    PLACE = 3
    CANCEL = 4
    QUERY = 5
    LIST_OPEN_ORDERS = 6
    READ_ACCOUNT = 7
    SET_COUNTDOWN = 8


class CallOutcome(IntEnum):
    """How a call ended. UNAVAILABLE: nobody knows whether it took effect. NOT_SENT: it was held back."""

    DONE = 1
    REFUSED = 2
    UNAVAILABLE = 3
    NOT_SENT = 4


@dataclass(frozen=True, slots=True)
class VenueCall:
    """A call about to be made; written before it is. `event_id` is ``call/ACCOUNT/NUMBER``.

    `order` is the one to place, cancel or query. `booked_quantity` belongs to queries: where the order has filled just
    that, its fills may be left out. A PLACE is not made once the venue's clock has passed `expires_at`.
    """

    event_id: str
    event_time: int
    account: str
    kind: VenueCallKind
    order: PlaceOrder | None = None
    booked_quantity: Decimal = Decimal(0)
    countdown_ms: int = 0
    expires_at: int = 0


@dataclass(frozen=True, slots=True)
class VenueAnswer:
    """What a call came to; written before it is handled. `event_id` is ``answer/CALL_ID``.

    `event_time` is the venue's clock as known then, `clock_correction` (ns) what the call put it right by. A query that
    is DONE without `order` found none of that id.
    """

    event_id: str
    event_time: int
    account: str
    call_id: str
    outcome: CallOutcome
    reason: str = ""
    order: VenueOrderState | None = None
    open_order_ids: tuple[str, ...] = ()
    snapshot: VenueAccountSnapshot | None = None
    clock_correction: int = 0


@dataclass(frozen=True, slots=True)
class VenueTick:
    """The venue's clock has come to `event_time` with something due, or the venue has pushed something.

    The first tick of a process `is_start`; `interrupted_call_id` is then the call that the one before it may have made
    without recording an answer. `health_errors` say which services are not well, None where nobody looked.
    """

    event_id: str
    event_time: int
    account: str
    is_start: bool = False
    interrupted_call_id: str = ""
    has_account_update: bool = False
    health_errors: tuple[str, ...] | None = None


VenueMessage: TypeAlias = VenueCall | VenueAnswer | VenueTick
