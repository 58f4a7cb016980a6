"""When conditional orders become market orders. Stops and take-profits compare with a price; trailing stops follow it.

Source: Binance USD-M: a SELL stop triggers at or below its price, a BUY stop at or above; take-profits the other way
round; a trailing SELL at highest x (1 - callback rate) since its activation price was reached, BUY mirrored.
"""

from __future__ import annotations

from libs.domain.market import Side
from libs.domain.numbers import SCALE
from libs.domain.orders import OrderType
from libs.matching.orders import VenueOrder


def follow(order: VenueOrder, price: int) -> None:
    """Let a trailing stop follow the price; the first price at or past its activation price makes it active."""
    if order.order_type is not OrderType.TRAILING_STOP_MARKET:
        return
    is_sell = order.side is Side.SELL
    if not order.extreme:
        if order.trigger is None or (price >= order.trigger if is_sell else price <= order.trigger):
            order.extreme = price
        return
    order.extreme = max(order.extreme, price) if is_sell else min(order.extreme, price)


def trigger_level(order: VenueOrder) -> int | None:
    """Return the price that triggers an order now; None for a trailing stop that is not active."""
    if order.order_type is not OrderType.TRAILING_STOP_MARKET:
        return order.trigger
    if not order.extreme or order.callback_rate is None:
        return None
    if order.side is Side.SELL:
        return order.extreme * (SCALE - order.callback_rate) // SCALE
    return -(-order.extreme * (SCALE + order.callback_rate) // SCALE)


def is_triggered(order: VenueOrder, price: int) -> bool:
    """Whether a price triggers the order."""
    level = trigger_level(order)
    if level is None:
        return False
    falls = (order.side is Side.SELL) != (order.order_type is OrderType.TAKE_PROFIT_MARKET)
    return price <= level if falls else price >= level
