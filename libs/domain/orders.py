"""The life of an order, each step a value of its own.

::

    OrderIntent --risk--> OrderApproved --execution--> PlaceOrder --venue--> VenueReport --execution--> OrderEvent
                      \\-> OrderRefused            \\-> CancelOrder

An unchecked order cannot be sent by mistake: execution takes `OrderApproved` and nothing else.
Order states::

    SUBMITTING -> ACCEPTED -> PARTIALLY_FILLED -> FILLED
        |            |              |-> CANCELLED | EXPIRED
        |            |-> CANCELLED | EXPIRED
        |-> REJECTED
        '-> UNKNOWN (timeout, 5xx, crash) -> any of the above once the venue was asked
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from decimal import Decimal
from enum import IntEnum
from functools import lru_cache
from typing import TypeAlias

from libs.domain.market import Side


class OrderType(IntEnum):
    """Order types; the conditional ones wait for `trigger_price` on the mark price."""

    MARKET = 1
    LIMIT = 2
    STOP_MARKET = 3
    TAKE_PROFIT_MARKET = 4
    TRAILING_STOP_MARKET = 5

    @property
    def is_conditional(self) -> bool:
        """Whether the order rests outside the book until triggered."""
        return self >= OrderType.STOP_MARKET


class TimeInForce(IntEnum):
    """GTX is post-only."""

    GTC = 1
    IOC = 2
    FOK = 3
    GTX = 4


class IntentAction(IntEnum):
    """What an intent asks for."""

    PLACE = 1
    CANCEL = 2


class Origin(IntEnum):
    """Who asked: a strategy by an intent, or risk itself (flatten, protective stop)."""

    STRATEGY = 1
    RISK = 2


class ReportKind(IntEnum):
    """What the venue said of an order."""

    ACCEPTED = 1
    REJECTED = 2
    FILL = 3
    CANCELLED = 4
    EXPIRED = 5
    UNKNOWN = 6
    CANCEL_REJECTED = 7
    TRIGGERED = 8


class Liquidity(IntEnum):
    """Which side of a fill we were."""

    MAKER = 1
    TAKER = 2


class OrderStatus(IntEnum):
    """Where an order stands; see the diagram above."""

    SUBMITTING = 1
    ACCEPTED = 2
    PARTIALLY_FILLED = 3
    FILLED = 4
    CANCELLED = 5
    REJECTED = 6
    EXPIRED = 7
    UNKNOWN = 8

    @property
    def is_open(self) -> bool:
        """Whether the order may still fill."""
        return self in (OrderStatus.SUBMITTING, OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED, OrderStatus.UNKNOWN)


@dataclass(frozen=True, slots=True)
class OrderIntent:
    """What a strategy wants. `event_id` is the intent id, a pure function of the strategy and what caused it.

    `cause_ids` lead back: the forecast's, bar's or vector's event ids. `reference_price` is the price the strategy
    decided on. A CANCEL names `target_client_order_id` and carries quantity 0. `callback_rate` (0.01 = 1 %) belongs to
    trailing stops. `confidence` is the forecast's, None where no forecast was used.
    """

    event_id: str
    event_time: int
    account: str
    instrument: str
    strategy: str
    action: IntentAction
    side: Side
    order_type: OrderType
    quantity: Decimal
    time_in_force: TimeInForce
    reduce_only: bool
    limit_price: Decimal | None = None
    trigger_price: Decimal | None = None
    callback_rate: Decimal | None = None
    reference_price: Decimal | None = None
    confidence: float | None = None
    target_client_order_id: str = ""
    reason: str = ""
    cause_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check of the gate with its number and its limit, both as decimal strings or words, unit in the name."""

    name: str
    has_passed: bool
    value: str
    limit: str


@dataclass(frozen=True, slots=True)
class OrderApproved:
    """The gate let an intent through; `intent` is the order as approved, its quantity never above what was asked.

    `event_id` is ``verdict/INTENT_ID``. With `origin` RISK the intent was made by risk itself.
    """

    event_id: str
    event_time: int
    account: str
    instrument: str
    intent_id: str
    intent: OrderIntent
    origin: Origin
    limits_version: int
    checks: tuple[CheckResult, ...]


@dataclass(frozen=True, slots=True)
class OrderRefused:
    """The gate refused an intent; `reasons` are sentences, `checks` the numbers behind them."""

    event_id: str
    event_time: int
    account: str
    instrument: str
    intent_id: str
    intent: OrderIntent
    limits_version: int
    reasons: tuple[str, ...]
    checks: tuple[CheckResult, ...]


@dataclass(frozen=True, slots=True)
class PlaceOrder:
    """An order about to be sent; written before the venue is called. `event_id` is ``place/CLIENT_ORDER_ID``."""

    event_id: str
    event_time: int
    account: str
    instrument: str
    client_order_id: str
    intent_id: str
    verdict_id: str
    side: Side
    order_type: OrderType
    quantity: Decimal
    time_in_force: TimeInForce
    reduce_only: bool
    limit_price: Decimal | None = None
    trigger_price: Decimal | None = None
    callback_rate: Decimal | None = None


@dataclass(frozen=True, slots=True)
class CancelOrder:
    """A cancel about to be sent. `event_id` is ``cancel/CLIENT_ORDER_ID/INTENT_ID``."""

    event_id: str
    event_time: int
    account: str
    instrument: str
    client_order_id: str
    intent_id: str


@dataclass(frozen=True, slots=True)
class VenueReport:
    """What the venue answered or pushed about one order, written before it is handled.

    The `last_*` fields and `liquidity` belong to fills; `fee` is in the quote asset, positive when paid. `raw` is the
    venue's text, empty for a paper venue. `cause_id` is the market event or command that led to it, where one is known.
    """

    event_id: str
    event_time: int
    account: str
    instrument: str
    client_order_id: str
    venue_order_id: str
    kind: ReportKind
    last_quantity: Decimal | None = None
    last_price: Decimal | None = None
    fee: Decimal | None = None
    liquidity: Liquidity | None = None
    venue_trade_id: str = ""
    reason: str = ""
    raw: str = ""
    cause_id: str = ""


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """An order changed state. Fill fields are None unless this step is a fill; `realised_pnl` is before fees."""

    event_id: str
    event_time: int
    account: str
    instrument: str
    client_order_id: str
    venue_order_id: str
    intent_id: str
    status: OrderStatus
    side: Side
    order_type: OrderType
    quantity: Decimal
    filled_quantity: Decimal
    average_price: Decimal | None
    limit_price: Decimal | None
    reduce_only: bool
    last_quantity: Decimal | None = None
    last_price: Decimal | None = None
    fee: Decimal | None = None
    liquidity: Liquidity | None = None
    realised_pnl: Decimal | None = None
    reason: str = ""
    report_id: str = ""


@lru_cache(maxsize=256)
def client_order_id_of(intent_id: str) -> str:
    """Derive the client order id (29 characters, valid at Binance and Bybit) from an intent id by sha256."""
    digest = hashlib.sha256(intent_id.encode()).digest()[:16]
    return "pf-" + base64.b32encode(digest).decode().rstrip("=").lower()


def verdict_id_of(intent_id: str) -> str:
    """Name the one verdict an intent gets."""
    return f"verdict/{intent_id}"


OrderMessage: TypeAlias = (
    OrderIntent | OrderApproved | OrderRefused | PlaceOrder | CancelOrder | VenueReport | OrderEvent
)
