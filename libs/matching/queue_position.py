"""How a resting order moves up the queue at its price, in the manner of hftbacktest's probabilistic queue models.

On arrival everything displayed at the price is ahead. Trades at the price come off the front. A decrease of the
displayed quantity that trades do not explain was cancelled, evenly before and behind us (probability n = 1 of that
family), and what is ahead never exceeds what is displayed. An unknown level keeps us unfilled until it is seen.
"""

from __future__ import annotations

from libs.matching.book import UNKNOWN_QUANTITY
from libs.matching.orders import VenueOrder


def join_queue(order: VenueOrder, shown: int) -> None:
    """Put an order behind the quantity shown at its price, which may be `UNKNOWN_QUANTITY`."""
    order.queue_ahead = shown
    order.level_shown = max(shown, 0)
    order.traded_since = 0


def observe_level(order: VenueOrder, shown: int) -> None:
    """Move an order up after its level was displayed anew."""
    if shown == UNKNOWN_QUANTITY:
        return
    if order.queue_ahead == UNKNOWN_QUANTITY:
        join_queue(order, shown)
        return
    before = order.level_shown - order.traded_since
    cancelled = before - shown
    if cancelled > 0 and before > 0:
        order.queue_ahead -= cancelled * order.queue_ahead // before
    order.queue_ahead = min(order.queue_ahead, shown)
    order.level_shown = shown
    order.traded_since = 0


def observe_trade(order: VenueOrder, quantity: int) -> int:
    """Move an order up by a trade at its price; return how much of the trade went past those ahead of it."""
    if order.queue_ahead == UNKNOWN_QUANTITY:
        return 0
    order.traded_since += quantity
    beyond = max(0, quantity - order.queue_ahead)
    order.queue_ahead = max(0, order.queue_ahead - quantity)
    return beyond
