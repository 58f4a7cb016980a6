"""Oscillators and directional movement in TA-Lib's conventions, and Ichimoku."""

from __future__ import annotations

import math

from libs.indicators.arrays import Code, Memory
from libs.indicators.compiling import compiled
from libs.indicators.instruction import RING_A, RING_B, RING_C, STATE, VALUE, N, P, Q
from libs.indicators.rolling import roll_highest, roll_lowest, roll_sum
from libs.indicators.state_sizes import EXTREME_STATE, SUM_STATE


@compiled
def step_directional(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """ADX, +DI and -DI (Wilder 1978, TA-Lib ADX, PLUS_DI, MINUS_DI), and their difference over their sum.

    State: smoothed +DM, -DM, TR and ADX (before it is warm, the sum of DX). Rings: high, low, true range.
    """
    s = code[k + STATE]
    v = code[k + VALUE]
    n = code[k + N]
    for j in range(4):
        m[v + j] = math.nan
    if i == 0:
        return
    now = i & mask
    then = (i - 1) & mask
    up = m[code[k + RING_A] + now] - m[code[k + RING_A] + then]
    down = m[code[k + RING_B] + then] - m[code[k + RING_B] + now]
    if i >= n:
        m[s] -= m[s] / n
        m[s + 1] -= m[s + 1] / n
        m[s + 2] -= m[s + 2] / n
    if down > 0.0 and up < down:
        m[s + 1] += down
    elif up > 0.0 and up > down:
        m[s] += up
    m[s + 2] += m[code[k + RING_C] + now]
    if i < n:
        return
    plus = 0.0
    minus = 0.0
    if m[s + 2] != 0.0:
        plus = 100.0 * (m[s] / m[s + 2])
        minus = 100.0 * (m[s + 1] / m[s + 2])
    both = plus + minus
    lean = 0.0
    if both != 0.0:
        lean = (plus - minus) / both
        strength = 100.0 * (abs(minus - plus) / both)
        if i < 2 * n:
            m[s + 3] += strength
        else:
            m[s + 3] = (m[s + 3] * (n - 1.0) + strength) / n
    if i == 2 * n - 1:
        m[s + 3] /= n
    if i >= 2 * n - 1:
        m[v] = m[s + 3]
    m[v + 1] = plus
    m[v + 2] = minus
    m[v + 3] = lean


@compiled
def step_stochastic(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Slow Stochastic %K and %D (Lane; TA-Lib STOCH with simple averages); 0 where the range is 0.

    `n` bars for the raw value, `p` for %K, `q` for %D. State: two extremes, the last `p` raw values, the last `q` %K.
    Rings: high, low, close.
    """
    s = code[k + STATE]
    v = code[k + VALUE]
    n = code[k + N]
    p = code[k + P]
    q = code[k + Q]
    top = roll_highest(m, s, code[k + RING_A], i, mask, n)
    bottom = roll_lowest(m, s + EXTREME_STATE, code[k + RING_B], i, mask, n)
    m[v] = math.nan
    m[v + 1] = math.nan
    if i < n - 1:
        return
    span = (top - bottom) / 100.0
    raw = (m[code[k + RING_C] + (i & mask)] - bottom) / span if span != 0.0 else 0.0
    raws = s + 2 * EXTREME_STATE
    for j in range(p - 1):
        m[raws + j] = m[raws + j + 1]
    m[raws + p - 1] = raw
    if i < n + p - 2:
        return
    total = 0.0
    for j in range(p):
        total += m[raws + j]
    slow = total / p
    m[v] = slow
    slows = raws + p
    for j in range(q - 1):
        m[slows + j] = m[slows + j + 1]
    m[slows + q - 1] = slow
    if i < n + p + q - 3:
        return
    total = 0.0
    for j in range(q):
        total += m[slows + j]
    m[v + 1] = total / q


@compiled
def step_cci(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Commodity channel index (TA-Lib CCI): typical price less its mean, in 0.015 mean deviations."""
    a = code[k + RING_A]
    n = code[k + N]
    mean = roll_sum(m, code[k + STATE], a, i, mask, n) / n
    distance = m[a + (i & mask)] - mean
    spread = 0.0
    for j in range(i - n + 1, i + 1):
        spread += abs(m[a + (j & mask)] - mean)
    index = distance / (0.015 * (spread / n))
    if distance == 0.0 or spread == 0.0:
        index = 0.0
    m[code[k + VALUE]] = index


@compiled
def step_williams(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Williams %R (TA-Lib WILLR), from -100 to 0; 0 where the range is 0. Rings: high, low, close."""
    s = code[k + STATE]
    n = code[k + N]
    top = roll_highest(m, s, code[k + RING_A], i, mask, n)
    bottom = roll_lowest(m, s + EXTREME_STATE, code[k + RING_B], i, mask, n)
    span = top - bottom
    place = (top - m[code[k + RING_C] + (i & mask)]) / span * -100.0
    if span == 0.0:
        place = 0.0
    m[code[k + VALUE]] = place


@compiled
def step_money_flow(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Money flow index (Quong-Soudack; TA-Lib MFI); 0 where no value moved. Rings: flow up, flow down."""
    s = code[k + STATE]
    n = code[k + N]
    up = roll_sum(m, s, code[k + RING_A], i, mask, n)
    down = roll_sum(m, s + SUM_STATE, code[k + RING_B], i, mask, n)
    both = up + down
    index = 100.0 * (up / both)
    if both < 1.0:
        index = 0.0
    m[code[k + VALUE]] = index


@compiled
def step_aroon(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Aroon up, down and oscillator (Chande; TA-Lib AROON, AROONOSC) over `n` + 1 bars. Rings: high, low."""
    s = code[k + STATE]
    v = code[k + VALUE]
    n = code[k + N]
    roll_highest(m, s, code[k + RING_A], i, mask, n + 1)
    roll_lowest(m, s + EXTREME_STATE, code[k + RING_B], i, mask, n + 1)
    if i < n:
        m[v] = math.nan
        m[v + 1] = math.nan
        m[v + 2] = math.nan
        return
    up = 100.0 * (n - (i - m[s + 1])) / n
    down = 100.0 * (n - (i - m[s + EXTREME_STATE + 1])) / n
    m[v] = up
    m[v + 1] = down
    m[v + 2] = up - down


@compiled
def step_ichimoku(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Ichimoku (Hosoda): conversion `n`, base `p`, the spans over this bar, the close's distance from the cloud.

    A span lies `p` bars after the bar that it was computed on, so only the past is used. The distance is 0 inside the
    cloud. State: six extremes, the last `p` first and second spans. Rings: high, low, close.
    """
    s = code[k + STATE]
    v = code[k + VALUE]
    n = code[k + N]
    p = code[k + P]
    q = code[k + Q]
    high = code[k + RING_A]
    low = code[k + RING_B]
    e = EXTREME_STATE
    conversion = (roll_highest(m, s, high, i, mask, n) + roll_lowest(m, s + e, low, i, mask, n)) / 2.0
    base = (roll_highest(m, s + 2 * e, high, i, mask, p) + roll_lowest(m, s + 3 * e, low, i, mask, p)) / 2.0
    wide = (roll_highest(m, s + 4 * e, high, i, mask, q) + roll_lowest(m, s + 5 * e, low, i, mask, q)) / 2.0
    slot = s + 6 * e + i % p
    first = math.nan
    second = math.nan
    if i >= p:
        first = m[slot]
        second = m[slot + p]
    m[slot] = (conversion + base) / 2.0
    m[slot + p] = wide
    c = m[code[k + RING_C] + (i & mask)]
    distance = math.nan
    if first == first and second == second:
        top = max(first, second)
        bottom = min(first, second)
        distance = c / top - 1.0 if c > top else (c / bottom - 1.0 if c < bottom else 0.0)
    m[v] = conversion
    m[v + 1] = base
    m[v + 2] = first
    m[v + 3] = second
    m[v + 4] = distance
