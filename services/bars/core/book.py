"""The ladder of one side of the book, as compiled steps over flat arrays.

Levels are ascending by `key` (the price for bids, its negative for asks), so the best one is last and changes near
the top move little. The arrays begin with room for `LEVELS` and grow with the book, to `MAX_LEVELS` at most: beyond
what any market shows the worst level is forgotten, so that a feed that never removes a level takes no more memory.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

LEVELS = 512
MAX_LEVELS = 32_768

Ints = npt.NDArray[np.int64]


@njit(cache=True)
def find_level(keys: Ints, count: int, key: int) -> int:
    """Return the position of the first level whose key is not below `key`."""
    low = 0
    high = count
    while low < high:
        middle = (low + high) // 2
        if keys[middle] < key:
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def shift_up(row: Ints, begin: int, end: int) -> None:
    """Move what lies in [begin, end) up by one place. One row a loop: so it becomes a single move of memory."""
    for move in range(end, begin, -1):
        row[move] = row[move - 1]


@njit(cache=True)
def shift_down(row: Ints, begin: int, end: int) -> None:
    """Move what lies in [begin + 1, end] down by one place."""
    for move in range(begin, end):
        row[move] = row[move + 1]


@njit(cache=True)
def set_levels(keys: Ints, quantities: Ints, count: int, sign: int, prices: Ints, new_quantities: Ints) -> int:
    """Set absolute quantities at prices (0 removes; removing what is absent changes nothing); return the new count."""
    for index in range(prices.shape[0]):
        key = sign * prices[index]
        quantity = new_quantities[index]
        at = find_level(keys, count, key)
        is_held = at < count and keys[at] == key
        if quantity == 0:
            if is_held:
                shift_down(keys, at, count - 1)
                shift_down(quantities, at, count - 1)
                count -= 1
        elif is_held:
            quantities[at] = quantity
        elif count < keys.shape[0]:
            shift_up(keys, at, count)
            shift_up(quantities, at, count)
            keys[at] = key
            quantities[at] = quantity
            count += 1
        elif at > 0:
            shift_down(keys, 0, at - 1)
            shift_down(quantities, 0, at - 1)
            keys[at - 1] = key
            quantities[at - 1] = quantity
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
    for index in range(max(0, count - depth), count):
        total += quantities[index]
    return total
