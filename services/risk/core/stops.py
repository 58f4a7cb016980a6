"""Protective stops: stop-loss, take-profit, trailing, break-even and time stop as reduce-only orders resting on the
venue.

`desired_stops` says which orders a position should have; `ProtectiveStops` remembers which it has and returns the
difference. It sends nothing by itself and never asks for more than the position.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from libs.domain.instruments import Instrument
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS, format_decimal, round_down_to_step, round_up_to_step
from libs.domain.orders import OrderEvent, OrderStatus, OrderType, client_order_id_of
from services.risk.core.limits import RiskLimits

ONE = Decimal(1)
_RETRY_NS = 60 * NANOSECONDS
_TRIGGER_GRACE_NS = 5 * NANOSECONDS


@dataclass(frozen=True, slots=True)
class StopOrder:
    """A reduce-only order to place. `kind` is loss, profit, trailing, time or breach; prices in quote units."""

    kind: str
    side: Side
    order_type: OrderType
    quantity: Decimal
    trigger_price: Decimal | None = None
    callback_rate: Decimal | None = None


@dataclass(frozen=True, slots=True)
class StopCancel:
    """A resting stop to cancel."""

    client_order_id: str


@dataclass(frozen=True, slots=True)
class HeldPosition:
    """A settled position: signed quantity, entry price, when it was opened (ns) and its best price since."""

    instrument: str
    quantity: Decimal
    entry_price: Decimal
    opened_at: int
    best_price: Decimal


def has_protective_stops(limits: RiskLimits) -> bool:
    """Whether the limits ask for any protective order."""
    return bool(
        limits.stop_loss_fraction
        or limits.take_profit_fraction
        or limits.trailing_stop_fraction
        or limits.break_even_trigger_fraction
        or limits.max_holding_s
    )


def _toward_entry(price: Decimal, entry: Decimal, tick: Decimal) -> Decimal:
    return round_up_to_step(price, tick) if price < entry else round_down_to_step(price, tick)


def loss_trigger(position: HeldPosition, limits: RiskLimits, rules: Instrument) -> Decimal | None:
    """Return the stop-loss price, on the tick nearer the entry, None where there is none.

    Once the best price was `break_even_trigger_fraction` beyond the entry, the stop moves to the entry plus both
    taker fees.
    """
    entry, sign = position.entry_price, (1 if position.quantity > 0 else -1)
    stops: list[Decimal] = []
    if limits.stop_loss_fraction:
        stops.append(_toward_entry(entry * (ONE - sign * limits.stop_loss_fraction), entry, rules.tick_size))
    trigger = limits.break_even_trigger_fraction
    if trigger and (position.best_price - entry) * sign >= entry * trigger:
        even = entry * (ONE + sign * 2 * rules.taker_fee_rate)
        stops.append(round_up_to_step(even, rules.tick_size) if sign > 0 else round_down_to_step(even, rules.tick_size))
    if not stops:
        return None
    return max(stops) if sign > 0 else min(stops)


def profit_trigger(position: HeldPosition, limits: RiskLimits, rules: Instrument) -> Decimal | None:
    """Return the take-profit price, on the tick nearer the entry, None where there is none."""
    if not limits.take_profit_fraction:
        return None
    sign = 1 if position.quantity > 0 else -1
    price = _toward_entry(
        position.entry_price * (ONE + sign * limits.take_profit_fraction), position.entry_price, rules.tick_size
    )
    return price if price > 0 else None


def desired_stops(
    position: HeldPosition, limits: RiskLimits, rules: Instrument, reference: Decimal, now: int
) -> dict[str, StopOrder]:
    """Return the orders that should protect a position, by kind; `reference` is the price now, `now` in ns.

    A stop or target that the price has already passed, and a holding time that is over, become one market order.
    """
    side = Side.SELL if position.quantity > 0 else Side.BUY
    gaining = side.opposite.sign
    quantity = round_down_to_step(abs(position.quantity), rules.step_size)
    if quantity < rules.min_quantity:
        return {}
    loss, profit = loss_trigger(position, limits, rules), profit_trigger(position, limits, rules)
    at_market = ""
    if (loss is not None and (reference - loss) * gaining <= 0) or (
        profit is not None and (reference - profit) * gaining >= 0
    ):
        at_market = "breach"
    elif limits.max_holding_s and now - position.opened_at >= limits.max_holding_s * NANOSECONDS:
        at_market = "time"
    if at_market:
        chunk = min(quantity, rules.market_max_quantity)
        return {at_market: StopOrder(at_market, side, OrderType.MARKET, chunk)}
    stops: dict[str, StopOrder] = {}
    quantity = min(quantity, rules.market_max_quantity)
    if loss is not None:
        stops["loss"] = StopOrder("loss", side, OrderType.STOP_MARKET, quantity, trigger_price=loss)
    if profit is not None:
        stops["profit"] = StopOrder("profit", side, OrderType.TAKE_PROFIT_MARKET, quantity, trigger_price=profit)
    if limits.trailing_stop_fraction:
        stops["trailing"] = StopOrder(
            "trailing", side, OrderType.TRAILING_STOP_MARKET, quantity, callback_rate=limits.trailing_stop_fraction
        )
    return stops


@dataclass(slots=True)
class RestingStop:
    """A stop that rests on the venue, its numbers as text."""

    client_order_id: str
    quantity: str
    trigger_price: str
    callback_rate: str


@dataclass(slots=True)
class WatchedPosition:
    """A position since it was opened: its direction, best price, and the stops that rest for it, by kind."""

    sign: int
    opened_at: int
    best_price: Decimal
    retry_at: int = 0
    breached_at: int = 0
    resting: dict[str, RestingStop] = field(default_factory=dict)


def _describe(order: StopOrder, client_order_id: str) -> RestingStop:
    return RestingStop(
        client_order_id,
        format_decimal(order.quantity),
        "" if order.trigger_price is None else format_decimal(order.trigger_price),
        "" if order.callback_rate is None else format_decimal(order.callback_rate),
    )


def stop_intent_id(kind: str, cause: str, instrument: str) -> str:
    """Name a protective order by what it is for and the event that called for it."""
    return f"risk/{kind}/{cause}/{instrument}"


class ProtectiveStops:
    """Remembers each position's resting stops and says what to place and cancel when position or price change."""

    def __init__(self) -> None:
        self._watched: dict[str, WatchedPosition] = {}

    def sync(
        self,
        instrument: str,
        quantity: Decimal,
        entry_price: Decimal,
        limits: RiskLimits,
        rules: Instrument,
        reference: Decimal,
        now: int,
        cause: str,
    ) -> list[StopOrder | StopCancel]:
        """Return cancels and orders that bring the resting stops in line; orders get ids by `stop_intent_id`."""
        watched = self._watched.get(instrument)
        sign = (quantity > 0) - (quantity < 0)
        actions: list[StopOrder | StopCancel] = []
        if watched is not None and watched.sign != sign:
            actions += [StopCancel(resting.client_order_id) for resting in watched.resting.values()]
            del self._watched[instrument]
            watched = None
        if not sign:
            return actions
        if watched is None:
            watched = self._watched[instrument] = WatchedPosition(sign, now, reference)
        if (reference - watched.best_price) * sign > 0:
            watched.best_price = reference
        if not has_protective_stops(limits) and not watched.resting:
            watched.breached_at = 0
            return actions
        position = HeldPosition(instrument, quantity, entry_price, watched.opened_at, watched.best_price)
        wanted = desired_stops(position, limits, rules, reference, now)
        if "breach" not in wanted:
            watched.breached_at = 0
        elif watched.resting and "breach" not in watched.resting:
            # The venue triggers what rests there; only where it does not, the position is closed from here.
            watched.breached_at = watched.breached_at or now
            if now - watched.breached_at < _TRIGGER_GRACE_NS:
                return actions
        for kind, resting in list(watched.resting.items()):
            order = wanted.get(kind)
            if order is None or _describe(order, resting.client_order_id) != resting:
                actions.append(StopCancel(resting.client_order_id))
                del watched.resting[kind]
        if now < watched.retry_at:
            return actions
        for kind, order in wanted.items():
            if kind not in watched.resting:
                client_order_id = client_order_id_of(stop_intent_id(kind, cause, instrument))
                watched.resting[kind] = _describe(order, client_order_id)
                actions.append(order)
        return actions

    def take_order_event(self, event: OrderEvent) -> None:
        """Forget a stop that ended; one that was rejected is tried again after a minute."""
        watched = self._watched.get(event.instrument)
        if watched is None or event.status.is_open:
            return
        for kind, resting in list(watched.resting.items()):
            if resting.client_order_id == event.client_order_id:
                del watched.resting[kind]
                if event.status is OrderStatus.REJECTED:
                    watched.retry_at = event.event_time + _RETRY_NS

    @property
    def state(self) -> dict[str, WatchedPosition]:
        """The memory, by instrument."""
        return self._watched

    def restore(self, state: dict[str, WatchedPosition]) -> None:
        """Take over what `state` returned."""
        self._watched = state
