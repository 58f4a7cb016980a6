"""A venue whose mishaps are scripted: it keeps an account, and loses answers, refuses or dies when told to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from enum import Enum

from libs.domain.accounts import VenuePosition
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import Liquidity, OrderStatus, PlaceOrder
from libs.domain.venues import VenueAccountSnapshot, VenueFill, VenueOrderState
from libs.venues.errors import VenueRefused, VenueUnavailable

RECEIVE_WINDOW_NS = 10 * NANOSECONDS
PRICE = Decimal(60_000)
FEE = Decimal("0.3")


class Mishap(Enum):
    """What goes wrong with one call."""

    TIMEOUT_BEFORE = "the request never arrives"
    DELAY = "the request is under way for longer than its sender waits"
    TIMEOUT_AFTER = "the order is taken, the answer is lost"
    REFUSE = "the venue says no"
    DIE_BEFORE = "the calling process dies before sending"
    DIE_AFTER = "the calling process dies after the venue took it"


class Died(Exception):
    """The process is gone."""


class ScriptedVenue:
    """One account. Market orders fill at 60000 at once; limit orders rest until `fill`, conditional ones to `trigger`.

    `before` is told of every call by name, with its order where it has one, before anything else happens; what it
    raises the caller gets.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self.now = clock
        self.wallet = Decimal(10_000)
        self.prepared: list[tuple[tuple[str, ...], int]] = []
        self.refusal = ""
        self.has_update = False
        self.queries = 0
        self.countdowns: dict[str, int] = {}
        self.orders: dict[str, VenueOrderState] = {}
        self.commands: dict[str, PlaceOrder] = {}
        self.held: dict[str, Decimal] = {}
        self.placed: list[str] = []
        self.mishaps: deque[Mishap] = deque()
        self.is_reachable = True
        self.before: Callable[[str, PlaceOrder | None], object] = lambda *_: None
        self.under_way: list[tuple[PlaceOrder, int]] = []
        self.unlisted: set[str] = set()

    def prepare(self, instruments: Sequence[str], leverage: int) -> None:
        self._begin("prepare")
        if self.refusal:
            raise VenueRefused(self.refusal)
        self.prepared.append((tuple(instruments), leverage))

    def synchronise(self) -> None:
        self._begin("synchronise")

    def has_account_update(self) -> bool:
        has_update, self.has_update = self.has_update, False
        return has_update

    def set_cancel_countdown(self, instrument: str, countdown_ms: int) -> None:
        self._begin("set_cancel_countdown")
        self.countdowns[instrument] = self.now() + countdown_ms * 1_000_000

    def let_countdowns_run_out(self) -> None:
        """Do what a venue does by itself as time passes."""
        for instrument, at in list(self.countdowns.items()):
            if self.now() < at:
                continue
            del self.countdowns[instrument]
            for name, order in self.orders.items():
                is_ordinary = not self.commands[name].order_type.is_conditional
                if order.instrument == instrument and order.status.is_open and is_ordinary:
                    self.orders[name] = replace(order, status=OrderStatus.CANCELLED)

    def close(self) -> None:
        pass

    def place(self, command: PlaceOrder) -> VenueOrderState:
        mishap = self.mishaps.popleft() if self.mishaps else None
        sent_at = self.now()
        self._begin("place", command)
        if mishap is Mishap.DIE_BEFORE:
            raise Died
        if mishap is Mishap.DELAY:
            self.under_way.append((command, sent_at))
        if mishap in (Mishap.TIMEOUT_BEFORE, Mishap.DELAY):
            raise VenueUnavailable("-1007 timeout waiting for response")
        if mishap is Mishap.REFUSE:
            raise VenueRefused("-2019 margin is insufficient")
        self._take(command, sent_at)
        if mishap is Mishap.DIE_AFTER:
            raise Died
        if mishap is Mishap.TIMEOUT_AFTER:
            raise VenueUnavailable("503 service unavailable")
        return self._listed(self.orders[command.client_order_id])

    def let_requests_arrive(self) -> None:
        """Let what is under way arrive, and be taken where it is not too old."""
        arriving, self.under_way = self.under_way, []
        for command, sent_at in arriving:
            # Nobody hears the refusal.
            with suppress(VenueRefused):
                self._take(command, sent_at)

    def _take(self, command: PlaceOrder, sent_at: int) -> None:
        if self.now() - sent_at > RECEIVE_WINDOW_NS:
            raise VenueRefused("-1021 timestamp for this request is outside of the recvWindow", -1021)
        name = command.client_order_id
        self.placed.append(name)
        self.commands[name] = command
        self.orders[name] = VenueOrderState(
            name, f"v{len(self.placed)}", command.instrument, OrderStatus.ACCEPTED, Decimal(0), command.event_time
        )
        if command.limit_price is None and not command.order_type.is_conditional:
            self.fill(name, command.quantity)

    def trigger(self, client_order_id: str) -> None:
        """Let a conditional order's condition come true."""
        self.orders[client_order_id] = replace(self.orders[client_order_id], is_triggered=True)
        self.fill(client_order_id, self.commands[client_order_id].quantity)

    def end(self, client_order_id: str, status: OrderStatus) -> None:
        """Let the venue close an order by itself."""
        self.orders[client_order_id] = replace(self.orders[client_order_id], status=status)

    def fill(self, client_order_id: str, quantity: Decimal) -> None:
        """Let an order fill by some quantity."""
        order, command = self.orders[client_order_id], self.commands[client_order_id]
        fill = VenueFill(
            f"t-{client_order_id}-{len(order.fills)}",
            order.event_time + 1,
            quantity,
            PRICE,
            FEE,
            Liquidity.TAKER,
        )
        filled = order.filled_quantity + quantity
        status = OrderStatus.FILLED if filled == command.quantity else OrderStatus.PARTIALLY_FILLED
        self.orders[client_order_id] = replace(order, status=status, filled_quantity=filled, fills=(*order.fills, fill))
        held = self.held.get(command.instrument, Decimal(0))
        self.held[command.instrument] = held + quantity * command.side.sign

    def cancel(self, order: PlaceOrder) -> None:
        mishap = self.mishaps.popleft() if self.mishaps else None
        self._begin("cancel", order)
        if mishap is Mishap.DIE_BEFORE:
            raise Died
        state = self.orders.get(order.client_order_id)
        if state is None or not state.status.is_open:
            raise VenueRefused("-2011 unknown order sent")
        if mishap in (Mishap.TIMEOUT_BEFORE, Mishap.DELAY):
            raise VenueUnavailable("timeout")
        self.orders[order.client_order_id] = replace(state, status=OrderStatus.CANCELLED)
        if mishap is Mishap.DIE_AFTER:
            raise Died
        if mishap is Mishap.TIMEOUT_AFTER:
            raise VenueUnavailable("503 service unavailable")

    def query(self, order: PlaceOrder, booked: Decimal) -> VenueOrderState | None:
        self._begin("query", order)
        self.queries += 1
        state = self.orders.get(order.client_order_id)
        if state is None or state.instrument != order.instrument:
            return None
        return replace(state, fills=()) if state.filled_quantity == booked else self._listed(state)

    def _listed(self, state: VenueOrderState) -> VenueOrderState:
        return replace(state, fills=state.fills[:-1]) if state.client_order_id in self.unlisted else state

    def open_order_ids(self) -> Sequence[str]:
        self._begin("open_order_ids")
        return [name for name, order in self.orders.items() if order.status.is_open]

    def account(self) -> VenueAccountSnapshot:
        self._begin("account")
        held = [VenuePosition(name, quantity, PRICE) for name, quantity in sorted(self.held.items()) if quantity]
        return VenueAccountSnapshot(self.wallet, tuple(held))

    def _begin(self, call: str, order: PlaceOrder | None = None) -> None:
        self.before(call, order)
        if not self.is_reachable:
            raise VenueUnavailable("connection refused")


class ChargingVenue(ScriptedVenue):
    """Charges fees, and fills reduce-only orders with no more than is held against them, like Binance."""

    def _take(self, command: PlaceOrder, sent_at: int) -> None:
        is_at_once = not command.order_type.is_conditional
        if command.reduce_only and is_at_once and not self._reducible(command):
            raise VenueRefused("-2022 ReduceOnly Order is rejected", -2022)
        super()._take(command, sent_at)

    def fill(self, client_order_id: str, quantity: Decimal) -> None:
        command = self.commands[client_order_id]
        wanted, possible = quantity, self._reducible(command) if command.reduce_only else quantity
        quantity = min(wanted, possible)
        if quantity:
            self.wallet -= FEE
            super().fill(client_order_id, quantity)
        if quantity < wanted:
            # A triggered order that the matching engine does not take is REJECTED long after it was accepted.
            is_new = not self.orders[client_order_id].filled_quantity and command.order_type.is_conditional
            self.end(client_order_id, OrderStatus.REJECTED if is_new else OrderStatus.EXPIRED)

    def _reducible(self, command: PlaceOrder) -> Decimal:
        return max(Decimal(0), -self.held.get(command.instrument, Decimal(0)) * command.side.sign)
