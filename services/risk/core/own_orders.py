"""Orders that risk makes itself: always reduce-only, named by what they are for and the event that called for them."""

from __future__ import annotations

from decimal import Decimal

from libs.domain.instruments import Instrument
from libs.domain.market import Side
from libs.domain.numbers import round_down_to_step
from libs.domain.orders import IntentAction, OrderIntent, OrderType, TimeInForce
from services.risk.core.state import ZERO, WorkingOrder
from services.risk.core.stops import StopOrder, stop_intent_id

STRATEGY = "risk"


def make_cancel(account: str, client_order_id: str, order: WorkingOrder, cause: str, event_time: int) -> OrderIntent:
    """Return the cancel of a working order."""
    return OrderIntent(
        event_id=f"risk/cancel/{cause}/{client_order_id}",
        event_time=event_time,
        account=account,
        instrument=order.instrument,
        strategy=STRATEGY,
        action=IntentAction.CANCEL,
        side=Side(order.side),
        order_type=OrderType.MARKET,
        quantity=ZERO,
        time_in_force=TimeInForce.IOC,
        reduce_only=True,
        target_client_order_id=client_order_id,
        cause_ids=(cause,),
    )


def make_closing_orders(
    account: str, rules: Instrument, held: Decimal, cause: str, event_time: int, reason: str
) -> list[OrderIntent]:
    """Return market orders that close a signed position, each no larger than the venue takes; none for dust."""
    left = round_down_to_step(abs(held), rules.step_size)
    intents: list[OrderIntent] = []
    while left and left >= rules.min_quantity:
        quantity = min(left, rules.market_max_quantity)
        left -= quantity
        suffix = f"/{len(intents)}" if intents else ""
        intents.append(
            OrderIntent(
                event_id=f"risk/flatten/{cause}/{rules.instrument}{suffix}",
                event_time=event_time,
                account=account,
                instrument=rules.instrument,
                strategy=STRATEGY,
                action=IntentAction.PLACE,
                side=Side.SELL if held > 0 else Side.BUY,
                order_type=OrderType.MARKET,
                quantity=quantity,
                time_in_force=TimeInForce.IOC,
                reduce_only=True,
                reason=reason,
                cause_ids=(cause,),
            )
        )
    return intents


def make_stop(account: str, instrument: str, stop: StopOrder, cause: str, event_time: int) -> OrderIntent:
    """Return the order of a protective stop."""
    is_market = stop.order_type is OrderType.MARKET
    return OrderIntent(
        event_id=stop_intent_id(stop.kind, cause, instrument),
        event_time=event_time,
        account=account,
        instrument=instrument,
        strategy=STRATEGY,
        action=IntentAction.PLACE,
        side=stop.side,
        order_type=stop.order_type,
        quantity=stop.quantity,
        time_in_force=TimeInForce.IOC if is_market else TimeInForce.GTC,
        reduce_only=True,
        trigger_price=stop.trigger_price,
        callback_rate=stop.callback_rate,
        reason="protective stop",
        cause_ids=(cause,),
    )
