"""A venue whose mishaps are scripted: it keeps real books, and loses answers, refuses or dies when told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from enum import Enum

from libs.domain.orders import CancelOrder, Liquidity, OrderStatus, PlaceOrder
from services.execution.venue_port import VenueFill, VenueOrderState, VenueRefused, VenueUncertain


class Mishap(Enum):
    """What goes wrong with one call."""

    TIMEOUT_BEFORE = "the request never arrives"
    TIMEOUT_AFTER = "the order is taken, the answer is lost"
    REFUSE = "the venue says no"
    DIE_BEFORE = "the calling process dies before sending"
    DIE_AFTER = "the calling process dies after the venue took it"


class Died(Exception):
    """The process is gone."""


class ScriptedVenue:
    """One account. Market orders fill at 60000 at once; limit orders rest until `fill`."""

    def __init__(self) -> None:
        self.orders: dict[str, VenueOrderState] = {}
        self.commands: dict[str, PlaceOrder] = {}
        self.held: dict[str, Decimal] = {}
        self.placed: list[str] = []
        self.mishaps: deque[Mishap] = deque()
        self.is_reachable = True

    def place(self, command: PlaceOrder) -> VenueOrderState:
        mishap = self.mishaps.popleft() if self.mishaps else None
        self._check_reachable()
        if mishap is Mishap.DIE_BEFORE:
            raise Died
        if mishap is Mishap.TIMEOUT_BEFORE:
            raise VenueUncertain("-1007 timeout waiting for response")
        if mishap is Mishap.REFUSE:
            raise VenueRefused("-2019 margin is insufficient")
        name = command.client_order_id
        self.placed.append(name)
        self.commands[name] = command
        self.orders[name] = VenueOrderState(
            name, f"v{len(self.placed)}", command.instrument, OrderStatus.ACCEPTED, Decimal(0), command.event_time
        )
        if command.limit_price is None:
            self.fill(name, command.quantity)
        if mishap is Mishap.DIE_AFTER:
            raise Died
        if mishap is Mishap.TIMEOUT_AFTER:
            raise VenueUncertain("503 service unavailable")
        return self.orders[name]

    def fill(self, client_order_id: str, quantity: Decimal) -> None:
        """Let an order fill by some quantity."""
        order, command = self.orders[client_order_id], self.commands[client_order_id]
        fill = VenueFill(
            f"t-{client_order_id}-{len(order.fills)}",
            order.event_time + 1,
            quantity,
            Decimal(60_000),
            Decimal("0.3"),
            Liquidity.TAKER,
        )
        filled = order.filled_quantity + quantity
        status = OrderStatus.FILLED if filled == command.quantity else OrderStatus.PARTIALLY_FILLED
        self.orders[client_order_id] = replace(order, status=status, filled_quantity=filled, fills=(*order.fills, fill))
        held = self.held.get(command.instrument, Decimal(0))
        self.held[command.instrument] = held + quantity * command.side.sign

    def cancel(self, command: CancelOrder) -> None:
        mishap = self.mishaps.popleft() if self.mishaps else None
        self._check_reachable()
        order = self.orders.get(command.client_order_id)
        if order is None or not order.status.is_open:
            raise VenueRefused("-2011 unknown order sent")
        if mishap is Mishap.TIMEOUT_BEFORE:
            raise VenueUncertain("timeout")
        self.orders[command.client_order_id] = replace(order, status=OrderStatus.CANCELLED)
        if mishap is Mishap.DIE_AFTER:
            raise Died

    def query(self, instrument: str, client_order_id: str) -> VenueOrderState | None:
        self._check_reachable()
        order = self.orders.get(client_order_id)
        return order if order is not None and order.instrument == instrument else None

    def open_order_ids(self) -> Sequence[str]:
        self._check_reachable()
        return [name for name, order in self.orders.items() if order.status.is_open]

    def positions(self) -> Mapping[str, Decimal]:
        self._check_reachable()
        return dict(self.held)

    def _check_reachable(self) -> None:
        if not self.is_reachable:
            raise VenueUncertain("connection refused")
