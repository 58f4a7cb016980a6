"""Price levels of one book as flat state: one int64 array that compiled functions advance; a snapshot is its bytes.

The array has shape (side, row, 1 + CAPACITY). Row 0 holds the level count at index 0 and then the keys, row 1 the
quantities. A key is the price of an ask and the negated price of a bid, so that both sides ascend and the best level
comes first. Levels past the capacity are forgotten, worst first. Nothing here knows orders or events.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from libs.domain.rows import shift_down, shift_up
from libs.kernels import njit

CAPACITY = 256
BIDS = 0
ASKS = 1
_WORTH_MERGING = 4

LadderState: TypeAlias = npt.NDArray[np.int64]


def new_ladder() -> LadderState:
    """Return an empty ladder."""
    return np.zeros((2, 2, 1 + CAPACITY), dtype=np.int64)


@njit(cache=True)
def find_level(state: LadderState, side: int, key: int) -> int:
    """Return the index (from 0) of the first level whose key is not below `key`."""
    index: int = _find_from(state[side, 0], 0, key)
    return index


@njit(cache=True)
def _find_from(keys: LadderState, begin: int, key: int) -> int:
    """Return the index of the first level from `begin` on whose key is not below `key`, sought in steps that grow."""
    count = keys[0]
    low = high = begin
    step = 1
    while high < count and keys[1 + high] < key:
        low = high + 1
        high += step
        step *= 2
    high = min(high, count)
    while low < high:
        middle = (low + high) // 2
        if keys[1 + middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def look_at(state: LadderState, side: int, key: int) -> tuple[int, int, int, int]:
    """Return what a resting order needs to know: the best key of the other side, 0 where there is none, and of its own
    side how many levels there are, the index (from 0) at `key` and the quantity there, -1 where there is no such level.
    """
    other = 1 - side
    best = state[other, 0, 1] if state[other, 0, 0] else 0
    count = state[side, 0, 0]
    index = find_level(state, side, key)
    quantity = state[side, 1, 1 + index] if index < count and state[side, 0, 1 + index] == key else -1
    return best, count, index, quantity


@njit(cache=True)
def set_level(state: LadderState, side: int, key: int, quantity: int) -> None:
    """Set a level's quantity; 0 removes it."""
    _set_at(state[side, 0], state[side, 1], find_level(state, side, key), key, quantity)


@njit(cache=True)
def _set_at(keys: LadderState, quantities: LadderState, index: int, key: int, quantity: int) -> None:
    """Set a level's quantity at the index where it is or belongs."""
    count = keys[0]
    if index < count and keys[1 + index] == key:
        if quantity > 0:
            quantities[1 + index] = quantity
            return
        shift_down(keys, 1 + index, count)
        shift_down(quantities, 1 + index, count)
        keys[0] = count - 1
        return
    if quantity <= 0 or index >= CAPACITY:
        return
    count = min(count, CAPACITY - 1)
    shift_up(keys, 1 + index, 1 + count)
    shift_up(quantities, 1 + index, 1 + count)
    keys[1 + index] = key
    quantities[1 + index] = quantity
    keys[0] = count + 1


@njit(cache=True)
def _copy(to: LadderState, place: int, row: LadderState, begin: int, end: int) -> None:
    target, source = to[place : place + end - begin], row[begin:end]
    for at in range(len(source)):
        target[at] = source[at]


@njit(cache=True)
def _set_levels(
    keys: LadderState, quantities: LadderState, sign: int, prices: LadderState, new_quantities: LadderState
) -> None:
    """Set levels of a side whose keys are prices times `sign`, one after the other."""
    is_ordered = len(prices) >= _WORTH_MERGING
    for at in range(1, len(prices)):
        is_ordered = is_ordered and sign * prices[at] > sign * prices[at - 1]
    if not is_ordered:
        for at in range(len(prices)):
            key = sign * prices[at]
            _set_at(keys, quantities, _find_from(keys, 0, key), key, new_quantities[at])
        return
    # Best levels first, as venues list them: all are merged at once into what lies behind the first of them, with what
    # setting each would leave. `held` is the number of levels there would be by then.
    held = keys[0]
    kept = _find_from(keys, 0, sign * prices[0])
    old_keys, old_quantities = keys[kept : 1 + held].copy(), quantities[kept : 1 + held].copy()
    begin, end = 0, held - kept
    old_keys[0] = end
    for at in range(len(prices)):
        key, quantity = sign * prices[at], new_quantities[at]
        found = _find_from(old_keys, begin, key)
        _copy(keys, 1 + kept, old_keys, 1 + begin, 1 + found)
        _copy(quantities, 1 + kept, old_quantities, 1 + begin, 1 + found)
        kept += found - begin
        begin = found
        if begin < end and old_keys[1 + begin] == key:
            begin += 1
            if quantity <= 0:
                held -= 1
                continue
        elif held == CAPACITY and begin == end:
            break
        elif quantity <= 0:
            continue
        elif held == CAPACITY:
            end -= 1
            old_keys[0] = end
        else:
            held += 1
        kept += 1
        keys[kept] = key
        quantities[kept] = quantity
    _copy(keys, 1 + kept, old_keys, 1 + begin, 1 + end)
    _copy(quantities, 1 + kept, old_quantities, 1 + begin, 1 + end)
    keys[0] = held


@njit(cache=True)
def drop_better(state: LadderState, side: int, key: int) -> None:
    """Remove every level whose key is below `key`."""
    index = find_level(state, side, key)
    if index == 0:
        return
    count = state[side, 0, 0]
    for i in range(1, 1 + count - index):
        state[side, 0, i] = state[side, 0, i + index]
        state[side, 1, i] = state[side, 1, i + index]
    state[side, 0, 0] = count - index


@njit(cache=True)
def apply_quote(state: LadderState, bid: int, bid_quantity: int, ask: int, ask_quantity: int) -> None:
    """Make a best quote the top of both sides: better levels go, the level itself gets the quoted quantity."""
    if bid > 0:
        drop_better(state, BIDS, -bid)
        set_level(state, BIDS, -bid, bid_quantity)
    if ask > 0:
        drop_better(state, ASKS, ask)
        set_level(state, ASKS, ask, ask_quantity)


@njit(cache=True)
def apply_depth(
    state: LadderState,
    bid_prices: LadderState,
    bid_quantities: LadderState,
    ask_prices: LadderState,
    ask_quantities: LadderState,
    is_whole: bool,
) -> None:
    """Apply absolute level quantities; with `is_whole` everything known before is forgotten first."""
    if is_whole:
        state[BIDS, 0, 0] = 0
        state[ASKS, 0, 0] = 0
    _set_levels(state[BIDS, 0], state[BIDS, 1], -1, bid_prices, bid_quantities)
    _set_levels(state[ASKS, 0], state[ASKS, 1], 1, ask_prices, ask_quantities)


@njit(cache=True)
def quantity_within(state: LadderState, side: int, limit_key: int) -> int:
    """Return the total quantity of the levels whose key is not above `limit_key`."""
    total = 0
    for i in range(1, 1 + state[side, 0, 0]):
        if state[side, 0, i] > limit_key:
            break
        total += state[side, 1, i]
    return total


@njit(cache=True)
def take_levels(state: LadderState, side: int, limit_key: int, quantity: int, taken: LadderState) -> int:
    """Take up to `quantity` from the best levels not above `limit_key`; return how many levels gave something.

    `taken` of shape (2, CAPACITY) gets their keys and what each gave. Emptied levels are removed.
    """
    count = state[side, 0, 0]
    level = 0
    while level < count and quantity > 0 and state[side, 0, 1 + level] <= limit_key:
        given = min(quantity, state[side, 1, 1 + level])
        taken[0, level] = state[side, 0, 1 + level]
        taken[1, level] = given
        quantity -= given
        state[side, 1, 1 + level] -= given
        level += 1
    if level == 0:
        return 0
    emptied = level
    if state[side, 1, level] > 0:
        emptied -= 1
    for i in range(1, 1 + count - emptied):
        state[side, 0, i] = state[side, 0, i + emptied]
        state[side, 1, i] = state[side, 1, i + emptied]
    state[side, 0, 0] = count - emptied
    return level


def compile_ahead() -> None:
    """Compile every function of this module, or load it from the cache, so that the first event need not wait."""
    state, none = new_ladder(), np.zeros(0, dtype=np.int64)
    apply_depth(state, none, none, none, none, True)
    apply_quote(state, 1, 1, 2, 1)
    quantity_within(state, ASKS, 2)
    look_at(state, BIDS, -1)
    take_levels(state, ASKS, 2, 1, np.zeros((2, CAPACITY), dtype=np.int64))
