"""The ladder of one side of the book, as compiled steps over flat arrays.

Levels are ascending by `key` (the price for bids, its negative for asks), so the best one is last and changes near
the top move little. A level that is removed stays in its place with quantity 0, as most come back: only the best one
always holds something, and `compact` takes the others out. The arrays begin with room for `LEVELS` and grow with the
book, to `MAX_LEVELS` at most: beyond what any market shows the worst level is forgotten, so that a feed that never
removes a level takes no more memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from libs.domain.rows import shift_down, shift_up
from libs.kernels import njit

LEVELS = 512
MAX_LEVELS = 32_768

Ints = npt.NDArray[np.int64]


@njit(cache=True)
def find_level(keys: Ints, end: int, key: int) -> int:
    """Return the first position whose key is not below `key`, `end` where it lies behind all before; sought from the
    end on, in steps that grow.
    """
    high = end
    low = end - 1
    step = 1
    while low >= 0 and keys[low] >= key:
        high = low
        low -= step
        step *= 2
    low = max(low + 1, 0)
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def compact(keys: Ints, quantities: Ints, count: int) -> int:
    """Take out the levels that hold nothing; return how many are left."""
    kept = 0
    for at in range(count):
        if quantities[at] > 0:
            keys[kept] = keys[at]
            quantities[kept] = quantities[at]
            kept += 1
    return kept


@njit(cache=True)
def insert_level(keys: Ints, quantities: Ints, count: int, at: int, key: int, quantity: int) -> tuple[int, int]:
    """Put a level before a position, into an empty place beside it if there is one; without room the worst level goes.
    Return its place, and how many places are taken.
    """
    if at > 0 and quantities[at - 1] == 0:
        at -= 1
    elif at == count or quantities[at] > 0:
        if count < keys.shape[0]:
            shift_up(keys, at, count)
            shift_up(quantities, at, count)
            count += 1
        elif at > 0:
            at -= 1
            shift_down(keys, 0, at)
            shift_down(quantities, 0, at)
        else:
            return at, count
    keys[at] = key
    quantities[at] = quantity
    return at, count


@njit(cache=True)
def set_levels(keys: Ints, quantities: Ints, count: int, sign: int, prices: Ints, new_quantities: Ints) -> int:
    """Set absolute quantities at prices (0 removes; removing what is absent changes nothing); return how many places
    are taken.
    """
    at = count
    last = 0
    for index in range(prices.shape[0]):
        key = sign * prices[index]
        quantity = new_quantities[index]
        # Venues list the best level first: each is sought from the one before it on.
        at = find_level(keys, at if index > 0 and key <= last else count, key)
        last = key
        if at < count and keys[at] == key:
            quantities[at] = quantity
            if quantity == 0 and at == count - 1:
                while count > 0 and quantities[count - 1] == 0:
                    count -= 1
                at = count
            continue
        if quantity == 0:
            continue
        if count == keys.shape[0]:
            count = compact(keys, quantities, count)
            at = find_level(keys, count, key)
        at, count = insert_level(keys, quantities, count, at, key, quantity)
    return count


def grow(side: Ints, levels: int) -> Ints:
    """Return two sides with room for so many levels, `MAX_LEVELS` at most, that begin with what is held."""
    room = side.shape[1]
    while room < min(levels, MAX_LEVELS):
        room *= 2
    grown = np.zeros((2, room), dtype=np.int64)
    grown[:, : side.shape[1]] = side
    return grown


@njit(cache=True)
def sum_top(quantities: Ints, count: int, depth: int) -> int:
    """Return the quantity in the best `depth` levels."""
    total = 0
    at = count - 1
    while at >= 0 and depth > 0:
        if quantities[at] > 0:
            total += quantities[at]
            depth -= 1
        at -= 1
    return total
