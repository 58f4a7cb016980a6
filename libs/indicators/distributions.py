"""Steps over where a value lies among the last ones, how two series move together, and what a line leaves over.

They look at the whole window at each bar: for some tens of bars that costs less than to keep it sorted.
"""

from __future__ import annotations

import math

from libs.indicators.arrays import Code, Memory
from libs.indicators.compiling import compiled
from libs.indicators.instruction import RING_A, RING_B, STATE, VALUE, N
from libs.indicators.rolling import roll_covariance, roll_sum
from libs.indicators.state_sizes import SUM_STATE

_NOISE = 1e-15
_BPS = 1e4
_HALF_PI = math.pi / 2.0


@compiled
def step_rank(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Rank of the newest among the last `n` values, from 0 for the lowest to 1; equal ones share the middle."""
    a = code[k + RING_A]
    n = code[k + N]
    now = m[a + (i & mask)]
    below = 0.0
    missing = 0.0
    for j in range(i - n + 1, i + 1):
        x = m[a + (j & mask)]
        if x < now:
            below += 1.0
        elif x == now:
            below += 0.5
        elif x != x:
            missing += 1.0
    m[code[k + VALUE]] = math.nan if missing > 0.0 or now != now else (below - 0.5) / (n - 1.0)


@compiled
def step_quantiles(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Lower and upper fifth of the last `n` values over the newest, less 1, interpolated as numpy's default does.

    State: room for the window.
    """
    s = code[k + STATE]
    v = code[k + VALUE]
    a = code[k + RING_A]
    n = code[k + N]
    for place in range(n):
        x = m[a + ((i - n + 1 + place) & mask)]
        if x != x:
            m[v] = math.nan
            m[v + 1] = math.nan
            return
        j = place
        while j > 0 and m[s + j - 1] > x:
            m[s + j] = m[s + j - 1]
            j -= 1
        m[s + j] = x
    now = m[a + (i & mask)]
    for which in range(2):
        at = (0.2 if which == 0 else 0.8) * (n - 1)
        lower = int(at)
        upper = min(lower + 1, n - 1)
        value = m[s + lower] + (at - lower) * (m[s + upper] - m[s + lower])
        m[v + which] = value / now - 1.0


@compiled
def step_correlation(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Pearson correlation of the last `n` values of two series; 0 where either does not vary."""
    a = code[k + RING_A]
    b = code[k + RING_B]
    n = code[k + N]
    mean_x = 0.0
    mean_y = 0.0
    for j in range(i - n + 1, i + 1):
        mean_x += m[a + (j & mask)]
        mean_y += m[b + (j & mask)]
    mean_x /= n
    mean_y /= n
    xy = 0.0
    xx = 0.0
    yy = 0.0
    for j in range(i - n + 1, i + 1):
        x = m[a + (j & mask)] - mean_x
        y = m[b + (j & mask)] - mean_y
        xy += x * y
        xx += x * x
        yy += y * y
    correlation = xy / math.sqrt(xx * yy)
    if xx <= _NOISE * n * mean_x * mean_x or yy <= _NOISE * n * mean_y * mean_y:
        correlation = 0.0
    m[code[k + VALUE]] = max(-1.0, min(1.0, correlation)) if correlation == correlation else math.nan


@compiled
def step_residual(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Newest value less the least-squares line over the last `n`, in bps of a log price."""
    a = code[k + RING_A]
    n = code[k + N]
    if i < n - 1:
        m[code[k + VALUE]] = math.nan
        return
    origin = m[a + (i & mask)]
    middle = (n - 1) / 2.0
    total = 0.0
    product = 0.0
    x = -middle
    for j in range(i - n + 1, i + 1):
        y = m[a + (j & mask)] - origin
        total += y
        product += x * y
        x += 1.0
    slope = product / (n * (n * n - 1.0) / 12.0)
    m[code[k + VALUE]] = -(total / n + slope * middle) * _BPS


@compiled
def step_jump_share(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Share of the realised variance of `n` bars that bipower variation does not explain, 0 where nothing moved.

    Ring: absolute returns. State: a rolling covariance, whose sums of products and of squares are the two variations.
    """
    s = code[k + STATE]
    a = code[k + RING_A]
    n = code[k + N]
    product, _own, _other = roll_covariance(m, s, a, a, 1, i, mask, n)
    continuous = _HALF_PI * m[s + 2]
    variance = m[s + 3]
    share = 1.0 - continuous / variance
    if variance <= 0.0:
        share = 0.0
    m[code[k + VALUE]] = max(0.0, min(1.0, share)) if product == product and share == share else math.nan


@compiled
def step_fractional_difference(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Fractional difference of order d over the last `n` values, taken from the oldest of them.

    Weights 1, -d, -d (1 - d) / 2, ... over a fixed window; the distance to the oldest value makes it mean the same at
    every price. The order is the first number of the state.
    """
    a = code[k + RING_A]
    n = code[k + N]
    order = m[code[k + STATE]]
    oldest = m[a + ((i - n + 1) & mask)]
    weight = 1.0
    total = 0.0
    for lag in range(n):
        if lag > 0:
            weight = -weight * (order - lag + 1.0) / lag
        total += weight * (m[a + ((i - lag) & mask)] - oldest)
    m[code[k + VALUE]] = total


@compiled
def step_asymmetry(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Upward less downward realised semivariance of `n` bars over both, and the root of the mean downward one.

    Rings: squared returns, and those with the return's sign. 0 where nothing moved. State: a sum of each.
    """
    s = code[k + STATE]
    v = code[k + VALUE]
    n = code[k + N]
    whole = roll_sum(m, s, code[k + RING_A], i, mask, n)
    signed = roll_sum(m, s + SUM_STATE, code[k + RING_B], i, mask, n)
    balance = signed / whole
    if whole <= 0.0:
        balance = 0.0
    m[v] = max(-1.0, min(1.0, balance)) if balance == balance else math.nan
    falls = (whole - signed) / 2.0 / n
    if falls < 0.0:
        falls = 0.0
    m[v + 1] = math.sqrt(falls)
