"""How prices become a bar, and bars a longer one: the rule of every chart, bar and kline of the platform.

The first price opens, the last closes, the extremes are the greatest and the least; a trade is a bar of one price.
"""

from __future__ import annotations

from typing import TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from libs.kernels import njit

_Price = TypeVar("_Price", int, float)
Prices: TypeAlias = tuple[_Price, _Price, _Price, _Price]
"""Open, high, low, close."""
Ints: TypeAlias = npt.NDArray[np.int64]


@njit(cache=True)
def merge_prices(is_first: bool, whole: Prices[_Price], part: Prices[_Price]) -> Prices[_Price]:
    """Return the prices of a bar that goes on with `part`; `whole` is what it was so far, if this is not its first."""
    if is_first:
        return part
    return whole[0], max(whole[1], part[1]), min(whole[2], part[2]), part[3]


@njit(cache=True)
def merge_runs(opens: Ints, highs: Ints, lows: Ints, closes: Ints, size: int) -> tuple[Ints, Ints, Ints, Ints]:
    """Merge each `size` bars in a row into one; the last run may be shorter."""
    count = (len(opens) + size - 1) // size
    merged = np.zeros((4, count), dtype=np.int64)
    prices = (0, 0, 0, 0)
    for at in range(len(opens)):
        part = (opens[at], highs[at], lows[at], closes[at])
        prices = merge_prices(at % size == 0, prices, part)
        run = at // size
        merged[0, run], merged[1, run], merged[2, run], merged[3, run] = prices
    return merged[0], merged[1], merged[2], merged[3]
