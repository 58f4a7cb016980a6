"""A bounded ladder of one side of the book, as compiled steps over flat arrays.

Levels are ascending by `key` (the price for bids, its negative for asks), so the best one is last and changes near
the top move little. Past `LEVELS` the worst level is forgotten: ten levels stay right as long as no more than
`LEVELS` - 10 levels nearer the top vanish without a snapshot.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from numba import njit

LEVELS = 512

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
def set_levels(keys: Ints, quantities: Ints, count: int, sign: int, prices: Ints, new_quantities: Ints) -> int:
    """Set absolute quantities at prices (0 removes; removing what is absent changes nothing); return the new count."""
    for index in range(prices.shape[0]):
        key = sign * prices[index]
        quantity = new_quantities[index]
        at = find_level(keys, count, key)
        is_held = at < count and keys[at] == key
        if quantity == 0:
            if is_held:
                for move in range(at, count - 1):
                    keys[move] = keys[move + 1]
                    quantities[move] = quantities[move + 1]
                count -= 1
        elif is_held:
            quantities[at] = quantity
        elif count < keys.shape[0]:
            for move in range(count, at, -1):
                keys[move] = keys[move - 1]
                quantities[move] = quantities[move - 1]
            keys[at] = key
            quantities[at] = quantity
            count += 1
        elif at > 0:
            for move in range(at - 1):
                keys[move] = keys[move + 1]
                quantities[move] = quantities[move + 1]
            keys[at - 1] = key
            quantities[at - 1] = quantity
    return count


@njit(cache=True)
def sum_top(quantities: Ints, count: int, depth: int) -> int:
    """Return the quantity in the best `depth` levels."""
    total = 0
    for index in range(max(0, count - depth), count):
        total += quantities[index]
    return total
