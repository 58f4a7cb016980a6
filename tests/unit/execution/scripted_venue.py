"""A venue whose mishaps are scripted: it keeps real books, and loses answers, refuses or dies when told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from decimal import Decimal
from enum import Enum

from libs.domain.accounts import VenuePosition
from libs.domain.orders import Liquidity, OrderStatus, PlaceOrder
from libs.venues.api import VenueBooks, VenueFill, VenueOrderState
from libs.venues.errors import VenueRefused, VenueUnavailable


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

    def __init__(self, clock: Callable[[], int]) -> None:
        self.now = clock
        self.wallet = Decimal(10_000)
        self.prepared: list[tuple[tuple[str, ...], int]] = []
        self.refusal = ""
        self.news = False
        self.queries = 0
        self.countdowns: dict[str, int] = {}
        self.orders: dict[str, VenueOrderState] = {}
        self.commands: dict[str, PlaceOrder] = {}
        self.held: dict[str, Decimal] = {}
        self.placed: list[str] = []
        self.mishaps: deque[Mishap] = deque()
        self.is_reachable = True

    def prepare(self, instruments: Sequence[str], leverage: int) -> None:
        self._check_reachable()
        if self.refusal:
            raise VenueRefused(self.refusal)
        self.prepared.append((tuple(instruments), leverage))

    def synchronise(self) -> None:
        self._check_reachable()

    def has_news(self) -> bool:
        has_news, self.news = self.news, False
        return has_news

    def wind_countdown(self, instrument: str, countdown_ms: int) -> None:
        self._check_reachable()
        self.countdowns[instrument] = self.now() + countdown_ms * 1_000_000

    def let_countdowns_run_out(self) -> None:
        """Do what a venue does by itself as time passes."""
        for instrument, at in list(self.countdowns.items()):
            if self.now() < at:
                continue
            del self.countdowns[instrument]
            for name, order in self.orders.items():
                if order.instrument == instrument and order.status.is_open:
                    self.orders[name] = replace(order, status=OrderStatus.CANCELLED)

    def close(self) -> None:
        pass

    def place(self, command: PlaceOrder) -> VenueOrderState:
        mishap = self.mishaps.popleft() if self.mishaps else None
        self._check_reachable()
        if mishap is Mishap.DIE_BEFORE:
            raise Died
        if mishap is Mishap.TIMEOUT_BEFORE:
            raise VenueUnavailable("-1007 timeout waiting for response")
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
            raise VenueUnavailable("503 service unavailable")
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

    def cancel(self, order: PlaceOrder) -> None:
        mishap = self.mishaps.popleft() if self.mishaps else None
        self._check_reachable()
        state = self.orders.get(order.client_order_id)
        if state is None or not state.status.is_open:
            raise VenueRefused("-2011 unknown order sent")
        if mishap is Mishap.TIMEOUT_BEFORE:
            raise VenueUnavailable("timeout")
        self.orders[order.client_order_id] = replace(state, status=OrderStatus.CANCELLED)
        if mishap is Mishap.DIE_AFTER:
            raise Died

    def query(self, order: PlaceOrder, booked: Decimal) -> VenueOrderState | None:
        self._check_reachable()
        self.queries += 1
        state = self.orders.get(order.client_order_id)
        if state is None or state.instrument != order.instrument:
            return None
        return replace(state, fills=()) if state.filled_quantity == booked else state

    def open_order_ids(self) -> Sequence[str]:
        self._check_reachable()
        return [name for name, order in self.orders.items() if order.status.is_open]

    def books(self) -> VenueBooks:
        self._check_reachable()
        held = [
            VenuePosition(name, quantity, Decimal(60_000)) for name, quantity in sorted(self.held.items()) if quantity
        ]
        return VenueBooks(self.wallet, tuple(held))

    def _check_reachable(self) -> None:
        if not self.is_reachable:
            raise VenueUnavailable("connection refused")
