"""Windows over rings: sums, moments and extremes in constant time a bar, refreshed exactly once a window.

Every function takes the memory `m`, the place of its own state `s`, the place `a` of a ring of `mask` + 1 slots, the
bar number `i` (0 for the first bar) and a window of `n` bars that ends at `i`. Rings start as NaN, so a window that is
not yet full, or holds a missing input, answers NaN; a missing input is forgotten when it leaves the window.
"""

from __future__ import annotations

import math
from typing import Final

from libs.indicators.arrays import Memory
from libs.indicators.compiling import compiled

_NOISE: Final = 1e-15


@compiled
def ring_at(m: Memory, a: int, mask: int, i: int) -> float:
    """Read the ring at bar `i`."""
    return float(m[a + (i & mask)])


@compiled
def roll_sum(m: Memory, s: int, a: int, i: int, mask: int, n: int) -> float:
    """Sum the last `n` values. State: sum, number of NaN in the window, bars until the sum is taken afresh."""
    left = m[s + 2] - 1.0
    if left <= 0.0:
        total = 0.0
        missing = 0.0
        for j in range(i - n + 1, i + 1):
            x = m[a + (j & mask)]
            if x == x:
                total += x
            else:
                missing += 1.0
        left = float(n)
    else:
        total = m[s]
        missing = m[s + 1]
        old = m[a + ((i - n) & mask)]
        if old == old:
            total -= old
        else:
            missing -= 1.0
        x = m[a + (i & mask)]
        if x == x:
            total += x
        else:
            missing += 1.0
    m[s] = total
    m[s + 1] = missing
    m[s + 2] = left
    if missing > 0.0:
        return math.nan
    return total


@compiled
def roll_variance(m: Memory, s: int, a: int, i: int, mask: int, n: int) -> tuple[float, float]:
    """Mean and sum of squared deviations of the last `n` values.

    State: origin, sum and sum of squares of the distances from it, number of NaN, bars until all is taken afresh,
    largest square since. Distances from a nearby origin keep the digits that a plain sum of squares loses; what is
    within rounding of nothing answers exactly 0.
    """
    left = m[s + 4] - 1.0
    if left <= 0.0:
        x = m[a + (i & mask)]
        origin = x if x == x else 0.0
        first = 0.0
        second = 0.0
        missing = 0.0
        peak = 0.0
        for j in range(i - n + 1, i + 1):
            x = m[a + (j & mask)]
            if x == x:
                d = x - origin
                first += d
                second += d * d
                peak = max(peak, d * d)
            else:
                missing += 1.0
        left = float(n)
    else:
        origin = m[s]
        first = m[s + 1]
        second = m[s + 2]
        missing = m[s + 3]
        peak = m[s + 5]
        old = m[a + ((i - n) & mask)]
        if old == old:
            d = old - origin
            first -= d
            second -= d * d
        else:
            missing -= 1.0
        x = m[a + (i & mask)]
        if x == x:
            d = x - origin
            first += d
            second += d * d
            peak = max(peak, d * d)
        else:
            missing += 1.0
    m[s] = origin
    m[s + 1] = first
    m[s + 2] = second
    m[s + 3] = missing
    m[s + 4] = left
    m[s + 5] = peak
    if missing > 0.0:
        return math.nan, math.nan
    squares = second - first * first / n
    if squares <= _NOISE * n * peak:
        squares = 0.0
    return origin + first / n, squares


@compiled
def roll_extreme(m: Memory, s: int, a: int, i: int, mask: int, n: int, sign: float) -> float:
    """Extreme of the last `n` values of a ring without gaps: the highest for `sign` 1.0, the lowest for -1.0.

    The state keeps it and the latest bar that had it.
    """
    x = m[a + (i & mask)]
    if i == 0 or sign * x >= sign * m[s]:
        m[s] = x
        m[s + 1] = i
    elif m[s + 1] <= i - n:
        best = m[a + ((i - n + 1) & mask)]
        where = i - n + 1
        for j in range(i - n + 2, i + 1):
            y = m[a + (j & mask)]
            if sign * y >= sign * best:
                best = y
                where = j
        m[s] = best
        m[s + 1] = where
    if i + 1 < n:
        return math.nan
    return float(m[s])


@compiled
def roll_highest(m: Memory, s: int, a: int, i: int, mask: int, n: int) -> float:
    """Highest of the last `n` values of a ring without gaps."""
    return roll_extreme(m, s, a, i, mask, n, 1.0)


@compiled
def roll_lowest(m: Memory, s: int, a: int, i: int, mask: int, n: int) -> float:
    """Lowest of the last `n` values of a ring without gaps."""
    return roll_extreme(m, s, a, i, mask, n, -1.0)


@compiled
def roll_covariance(
    m: Memory, s: int, a: int, b: int, lag: int, i: int, mask: int, n: int
) -> tuple[float, float, float]:
    """Sums of products of deviations (xy, xx, yy) of the last `n` pairs of series `a` and of `b` as of `lag` bars ago.

    State: sums of x, y, xy, xx, yy, number of incomplete pairs, bars until all is taken afresh, largest squares since.
    Meant for series that lie around 0. A spread within rounding of nothing answers exactly 0.
    """
    left = m[s + 6] - 1.0
    fresh = left <= 0.0
    if fresh:
        for j in range(8):
            m[s + j] = 0.0
        m[s + 8] = 0.0
        left = float(n)
    first = i - n + 1 if fresh else i
    for j in range(first, i + 1):
        x = m[a + (j & mask)]
        y = m[b + ((j - lag) & mask)]
        if x == x and y == y:
            m[s] += x
            m[s + 1] += y
            m[s + 2] += x * y
            m[s + 3] += x * x
            m[s + 4] += y * y
            m[s + 7] = max(m[s + 7], x * x)
            m[s + 8] = max(m[s + 8], y * y)
        else:
            m[s + 5] += 1.0
    if not fresh:
        x = m[a + ((i - n) & mask)]
        y = m[b + ((i - n - lag) & mask)]
        if x == x and y == y:
            m[s] -= x
            m[s + 1] -= y
            m[s + 2] -= x * y
            m[s + 3] -= x * x
            m[s + 4] -= y * y
        else:
            m[s + 5] -= 1.0
    m[s + 6] = left
    if m[s + 5] > 0.0:
        return math.nan, math.nan, math.nan
    xx = m[s + 3] - m[s] * m[s] / n
    yy = m[s + 4] - m[s + 1] * m[s + 1] / n
    if xx <= _NOISE * n * m[s + 7]:
        xx = 0.0
    if yy <= _NOISE * n * m[s + 8]:
        yy = 0.0
    return m[s + 2] - m[s] * m[s + 1] / n, xx, yy
