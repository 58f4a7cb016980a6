"""How a resting order moves up the queue at its price, in the manner of hftbacktest's probabilistic queue models.

On arrival everything displayed at the price is ahead. Trades at the price come off the front. A decrease of the
displayed quantity that trades do not explain was cancelled, evenly before and behind us (probability n = 1 of that
family), and what is ahead never exceeds what is displayed. An unknown level keeps us unfilled until it is seen.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.extending import overload, register_jitable

from libs.matching.book import UNKNOWN_QUANTITY
from libs.matching.orders import VenueOrder


def share_of(quantity: int, part: int, whole: int) -> int:
    """Return quantity x part // whole, exact, for whole > 0 and the others 0 or more; in compiled code all < 2^61."""
    return quantity * part // whole


@overload(share_of)
def _share_of(quantity: Any, part: Any, whole: Any) -> Any:  # noqa: ARG001
    def exact(quantity: Any, part: Any, whole: Any) -> Any:
        # The product does not fit 64 bits: bit by bit of the part, the highest first.
        quotient, rest = np.int64(0), np.int64(0)
        bit = np.int64(1) << np.int64(60)
        while bit:
            rest += rest
            quotient += quotient
            if part & bit:
                rest += quantity
            quotient += rest // whole
            rest %= whole
            bit >>= np.int64(1)
        return quotient

    return exact


@register_jitable
def move_up(queue_ahead: int, level_shown: int, traded_since: int, shown: int) -> tuple[int, int, int]:
    """Return what is ahead, the level and what traded since, after the level was displayed anew."""
    if shown == UNKNOWN_QUANTITY:
        return queue_ahead, level_shown, traded_since
    if queue_ahead == UNKNOWN_QUANTITY:
        return shown, shown, 0
    before = level_shown - traded_since
    cancelled = before - shown
    if cancelled > 0 and before > 0:
        queue_ahead -= share_of(cancelled, queue_ahead, before)
    return min(queue_ahead, shown), shown, 0


@register_jitable
def pass_trade(queue_ahead: int, traded_since: int, quantity: int) -> tuple[int, int, int]:
    """Return what is ahead and what traded since, after a trade at the price, and how much went past those ahead."""
    if queue_ahead == UNKNOWN_QUANTITY:
        return queue_ahead, traded_since, 0
    return max(0, queue_ahead - quantity), traded_since + quantity, max(0, quantity - queue_ahead)


def join_queue(order: VenueOrder, shown: int) -> None:
    """Put an order behind the quantity shown at its price, which may be `UNKNOWN_QUANTITY`."""
    order.queue_ahead = shown
    order.level_shown = max(shown, 0)
    order.traded_since = 0


def observe_level(order: VenueOrder, shown: int) -> None:
    """Move an order up after its level was displayed anew."""
    order.queue_ahead, order.level_shown, order.traded_since = move_up(
        order.queue_ahead, order.level_shown, order.traded_since, shown
    )


def observe_trade(order: VenueOrder, quantity: int) -> int:
    """Move an order up by a trade at its price; return how much of the trade went past those ahead of it."""
    beyond: int
    order.queue_ahead, order.traded_since, beyond = pass_trade(order.queue_ahead, order.traded_since, quantity)
    return beyond
