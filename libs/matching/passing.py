"""Passes many trades, quotes and deltas at once through a book and the queues of resting orders, in one compiled loop.

It stops before what the matcher must handle by itself: an event of another kind or time, a break in the chain of
deltas, and anything that would fill an order. The rules are those of `book` and `queue_position`, which the loop calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import numpy.typing as npt

from libs.domain.market import DepthDelta, Side
from libs.domain.market_columns import DELTA, QUOTE, TRADE, MarketColumns
from libs.kernels import njit
from libs.matching.book import (
    BREAKS,
    CONTINUES,
    RECENT_DELTAS,
    Book,
    is_old_quote,
    judge_delta,
    outdates_quote,
    shown_of,
)
from libs.matching.ladder import ASKS, BIDS, LadderState, apply_depth, apply_quote, look_at
from libs.matching.orders import VenueOrder
from libs.matching.queue_position import move_up, pass_trade

Ints = npt.NDArray[np.int64]

NUMBERS = (
    *("quote_time", "quote_update_id", "bid", "bid_quantity", "ask", "ask_quantity"),
    *("has_quote", "is_quote_applied", "depth_time", "update_id", "has_levels"),
)
"""What the loop advances beside the ladder, in this order."""
_HAS_QUOTE, _IS_APPLIED, _DEPTH_TIME, _UPDATE_ID, _HAS_LEVELS = range(6, 11)
_ORDER_WIDTH = 5
_IS_BUY, _LIMIT, _AHEAD, _SHOWN, _TRADED = range(_ORDER_WIDTH)


@njit(cache=True)
def _work_in_quote(ladder: LadderState, numbers: Ints) -> None:
    if not numbers[_IS_APPLIED]:
        if numbers[_HAS_QUOTE]:
            apply_quote(ladder, numbers[2], numbers[3], numbers[4], numbers[5])
        numbers[_IS_APPLIED] = 1


@njit(cache=True)
def _move_orders_up(ladder: LadderState, numbers: Ints, orders: Ints, is_anchored: bool) -> bool:
    """Show resting orders the book; False where one of them would fill."""
    if len(orders):
        _work_in_quote(ladder, numbers)
    for at in range(len(orders)):
        is_buy, limit = orders[at, _IS_BUY], orders[at, _LIMIT]
        best, count, index, quantity = look_at(ladder, BIDS if is_buy else ASKS, -limit if is_buy else limit)
        if best != 0 and (abs(best) <= limit if is_buy else abs(best) >= limit):
            return False
        shown = shown_of(count, index, quantity, is_anchored)
        ahead, level, traded = move_up(orders[at, _AHEAD], orders[at, _SHOWN], orders[at, _TRADED], shown)
        orders[at, _AHEAD], orders[at, _SHOWN], orders[at, _TRADED] = ahead, level, traded
    return True


@njit(cache=True)
def _pass_trade(orders: Ints, price: int, quantity: int, is_buyer_maker: int) -> bool:
    """Show resting orders a trade; False where one of them would fill."""
    for at in range(len(orders)):
        is_buy, limit = orders[at, _IS_BUY], orders[at, _LIMIT]
        if price == limit:
            if is_buyer_maker == is_buy:
                ahead, traded, beyond = pass_trade(orders[at, _AHEAD], orders[at, _TRADED], quantity)
                if beyond > 0:
                    return False
                orders[at, _AHEAD], orders[at, _TRADED] = ahead, traded
        elif (price < limit) if is_buy else (price > limit):
            return False
    return True


@njit(cache=True)
def _apply_delta(
    ladder: LadderState,
    numbers: Ints,
    event_time: int,
    final_update_id: int,
    bid_prices: Ints,
    bid_quantities: Ints,
    ask_prices: Ints,
    ask_quantities: Ints,
) -> None:
    is_newer = not numbers[_HAS_QUOTE] or outdates_quote(event_time, final_update_id, numbers[0], numbers[1])
    if is_newer:
        _work_in_quote(ladder, numbers)
        numbers[_HAS_QUOTE] = 0
    apply_depth(ladder, bid_prices, bid_quantities, ask_prices, ask_quantities, False)
    numbers[_IS_APPLIED] = 1 if is_newer else 0
    numbers[_DEPTH_TIME] = event_time
    numbers[_UPDATE_ID] = final_update_id
    numbers[_HAS_LEVELS] = 1


@njit(cache=True)
def _pass(
    ladder: LadderState,
    numbers: Ints,
    orders: Ints,
    recent: Ints,
    is_anchored: bool,
    kinds: npt.NDArray[np.int8],
    times: Ints,
    values: Ints,
    bid_first: Ints,
    bid_prices: Ints,
    bid_quantities: Ints,
    ask_first: Ints,
    ask_prices: Ints,
    ask_quantities: Ints,
    begin: int,
    end: int,
    bound: int,
    opened: int,
) -> tuple[int, bool]:
    """Return the first event that was not passed, and whether it was begun nevertheless."""
    applied = 0
    for at in range(begin, end):
        kind, event_time = kinds[at], times[at]
        if kind > DELTA or event_time >= bound:
            return at, False
        if kind == TRADE:
            if event_time < opened:
                return at, False
            if not _pass_trade(orders, values[at, 0], values[at, 1], values[at, 2]):
                return at, True
            continue
        if kind == QUOTE:
            if not is_old_quote(event_time, values[at, 4], numbers[_DEPTH_TIME], numbers[_UPDATE_ID]):
                numbers[0] = event_time
                numbers[1] = values[at, 4]
                for number in range(4):
                    numbers[2 + number] = values[at, number]
                numbers[_HAS_QUOTE], numbers[_IS_APPLIED], numbers[_HAS_LEVELS] = 1, 0, 1
        else:
            verdict = judge_delta(
                numbers[_UPDATE_ID],
                numbers[_DEPTH_TIME],
                event_time,
                values[at, 0],
                values[at, 1],
                values[at, 2],
            )
            if verdict == BREAKS:
                return at, False
            if verdict == CONTINUES:
                _apply_delta(
                    ladder,
                    numbers,
                    event_time,
                    values[at, 1],
                    bid_prices[bid_first[at] : bid_first[at + 1]],
                    bid_quantities[bid_first[at] : bid_first[at + 1]],
                    ask_prices[ask_first[at] : ask_first[at + 1]],
                    ask_quantities[ask_first[at] : ask_first[at + 1]],
                )
                recent[applied % len(recent)] = at
                applied += 1
        if not _move_orders_up(ladder, numbers, orders, is_anchored):
            return at, True
    return end, False


def pass_events(
    book: Book,
    resting: Sequence[VenueOrder],
    columns: MarketColumns,
    begin: int,
    end: int,
    *,
    bound: int,
    opened: int,
) -> int:
    """Pass the events of [begin, end) up to the first that must be handled by itself; return its place.

    Those at or behind `bound` (ns), and trades before `opened` (ns), are not passed.
    """
    numbers = book.numbers()
    orders = np.array(
        [
            (order.side is Side.BUY, order.limit or 0, order.queue_ahead, order.level_shown, order.traded_since)
            for order in resting
        ],
        dtype=np.int64,
    ).reshape(-1, _ORDER_WIDTH)
    recent = np.full(RECENT_DELTAS, -1, np.int64)
    market = (columns.kinds, columns.times, columns.values, *columns.bids.arrays, *columns.asks.arrays)
    before = (book.ladder.copy(), numbers.copy(), orders.copy()) if resting else None
    stop, is_begun = _pass(book.ladder, numbers, orders, recent, book.is_anchored, *market, begin, end, bound, opened)
    if is_begun:
        # An order would fill in the middle of that event: once more, up to it.
        assert before is not None, "without orders nothing fills"
        book.ladder[:], numbers[:], orders[:] = before
        recent[:] = -1
        _pass(book.ladder, numbers, orders, recent, book.is_anchored, *market, begin, stop, bound, opened)
    places = [] if book.is_anchored else sorted(place for place in recent.tolist() if place >= 0)
    book.take_numbers(numbers, [cast(DepthDelta, columns.event(place)) for place in places])
    for order, (_, _, ahead, shown, traded) in zip(resting, orders.tolist(), strict=True):
        order.queue_ahead, order.level_shown, order.traded_since = ahead, shown, traded
    return int(stop)
