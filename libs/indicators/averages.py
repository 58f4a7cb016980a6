"""Moving averages and what is built from them: SMA, EMA, Wilder's smoothing, RSI, MACD, Bollinger, ATR, Keltner.

Conventions are TA-Lib's: an EMA starts from the mean of its first `n` values, Wilder's smoothing from the mean of the
first `n` changes, MACD's two averages start on the same bar, true range begins with the second bar.
"""

from __future__ import annotations

import math

from libs.indicators.arrays import Code, Memory
from libs.indicators.compiling import compiled
from libs.indicators.instruction import RING_A, RING_B, RING_C, RING_D, STATE, VALUE, N, P, Q
from libs.indicators.rolling import roll_sum, roll_variance


@compiled
def advance_ema(m: Memory, s: int, x: float, i: int, n: int) -> float:
    """EMA with factor 2 / (n + 1) of a series whose first value comes at `i` = 0; NaN for the first n - 1."""
    if i < n - 1:
        m[s] += x
        return math.nan
    if i == n - 1:
        m[s] = (m[s] + x) / n
    else:
        m[s] = (x - m[s]) * (2.0 / (n + 1.0)) + m[s]
    return float(m[s])


@compiled
def advance_wilder(m: Memory, s: int, x: float, i: int, n: int) -> float:
    """Wilder's smoothing with factor 1 / n of a series whose first value comes at `i` = 0; NaN for the first n - 1."""
    if i < 0:
        return math.nan
    if i < n - 1:
        m[s] += x
        return math.nan
    if i == n - 1:
        m[s] = (m[s] + x) / n
    else:
        m[s] = (m[s] * (n - 1.0) + x) / n
    return float(m[s])


@compiled
def step_sma(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Simple moving average (TA-Lib SMA), and the close's relative distance from it."""
    v = code[k + VALUE]
    a = code[k + RING_A]
    n = code[k + N]
    mean = roll_sum(m, code[k + STATE], a, i, mask, n) / n
    m[v] = mean
    m[v + 1] = m[a + (i & mask)] / mean - 1.0


@compiled
def step_ema(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Exponential moving average (TA-Lib EMA), and the close's relative distance from it."""
    v = code[k + VALUE]
    x = m[code[k + RING_A] + (i & mask)]
    mean = advance_ema(m, code[k + STATE], x, i, code[k + N])
    m[v] = mean
    m[v + 1] = x / mean - 1.0


@compiled
def step_rsi(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Relative strength index (Wilder 1978, TA-Lib RSI); 0 where nothing moved."""
    s = code[k + STATE]
    a = code[k + RING_A]
    n = code[k + N]
    if i == 0:
        m[code[k + VALUE]] = math.nan
        return
    change = m[a + (i & mask)] - m[a + ((i - 1) & mask)]
    gain = advance_wilder(m, s, max(change, 0.0), i - 1, n)
    loss = advance_wilder(m, s + 1, max(-change, 0.0), i - 1, n)
    both = gain + loss
    strength = 100.0 * (gain / both)
    if both == 0.0:
        strength = 0.0
    m[code[k + VALUE]] = strength


@compiled
def step_macd(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """MACD of `n` and `p` bars, its signal of `q` bars, the histogram (Appel; TA-Lib MACD), the last over close."""
    s = code[k + STATE]
    v = code[k + VALUE]
    n = code[k + N]
    p = code[k + P]
    x = m[code[k + RING_A] + (i & mask)]
    fast = math.nan
    if i >= p - n:
        fast = advance_ema(m, s, x, i - (p - n), n)
    slow = advance_ema(m, s + 1, x, i, p)
    line = fast - slow
    signal = math.nan
    if i >= p - 1:
        signal = advance_ema(m, s + 2, line, i - (p - 1), code[k + Q])
    m[v] = line
    m[v + 1] = signal
    m[v + 2] = line - signal
    m[v + 3] = (line - signal) / x * 1e4


@compiled
def step_bollinger(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Bollinger bands: upper, middle, lower (population deviation, TA-Lib BBANDS), %b and bandwidth.

    %b is 0.5 where the bands meet. The multiple of the deviation is the first number of the state.
    """
    s = code[k + STATE]
    v = code[k + VALUE]
    n = code[k + N]
    a = code[k + RING_A]
    mean, squares = roll_variance(m, s + 1, a, i, mask, n)
    reach = math.sqrt(squares / n) * m[s]
    place = 0.5 + (m[a + (i & mask)] - mean) / (2.0 * reach)
    if reach == 0.0:
        place = 0.5
    m[v] = mean + reach
    m[v + 1] = mean
    m[v + 2] = mean - reach
    m[v + 3] = place
    m[v + 4] = 2.0 * reach / mean


@compiled
def step_atr(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Average true range (Wilder 1978, TA-Lib ATR) and the same in percent of the close (TA-Lib NATR)."""
    v = code[k + VALUE]
    mean = advance_wilder(m, code[k + STATE], m[code[k + RING_A] + (i & mask)], i - 1, code[k + N])
    m[v] = mean
    m[v + 1] = mean / m[code[k + RING_B] + (i & mask)] * 100.0


@compiled
def step_keltner(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Keltner channel: EMA of `n` closes, plus and minus a multiple of the ATR of `p` bars; the close's place in it.

    The multiple is the first number of the state. The place is 0 at the lower and 1 at the upper band, 0.5 where they
    meet. Rings: close, true range.
    """
    s = code[k + STATE]
    v = code[k + VALUE]
    x = m[code[k + RING_A] + (i & mask)]
    mean = advance_ema(m, s + 1, x, i, code[k + N])
    reach = advance_wilder(m, s + 2, m[code[k + RING_B] + (i & mask)], i - 1, code[k + P]) * m[s]
    place = 0.5 + (x - mean) / (2.0 * reach)
    if reach == 0.0 and mean == mean:
        place = 0.5
    m[v] = mean + reach
    m[v + 1] = mean
    m[v + 2] = mean - reach
    m[v + 3] = place


@compiled
def step_supertrend(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """SuperTrend (Seban): the band that trails the close, its direction (1 up, -1 down), the close's distance from it.

    Bands are the bar's middle plus and minus a multiple of the ATR of `n` bars. The direction starts with the side of
    the middle on which the first warm bar closed. State: multiple, ATR, final upper, final lower, direction. Rings:
    high, low, close, true range.
    """
    s = code[k + STATE]
    v = code[k + VALUE]
    n = code[k + N]
    c = m[code[k + RING_C] + (i & mask)]
    middle = (m[code[k + RING_A] + (i & mask)] + m[code[k + RING_B] + (i & mask)]) / 2.0
    reach = advance_wilder(m, s + 1, m[code[k + RING_D] + (i & mask)], i - 1, n) * m[s]
    if i < n:
        m[v] = math.nan
        m[v + 1] = math.nan
        m[v + 2] = math.nan
        return
    upper = middle + reach
    lower = middle - reach
    if i == n:
        direction = 1.0 if c >= middle else -1.0
    else:
        last = m[code[k + RING_C] + ((i - 1) & mask)]
        if upper >= m[s + 2] and last <= m[s + 2]:
            upper = m[s + 2]
        if lower <= m[s + 3] and last >= m[s + 3]:
            lower = m[s + 3]
        direction = m[s + 4]
        if direction < 0.0 and c > upper:
            direction = 1.0
        elif direction > 0.0 and c < lower:
            direction = -1.0
    m[s + 2] = upper
    m[s + 3] = lower
    m[s + 4] = direction
    trail = lower if direction > 0.0 else upper
    m[v] = trail
    m[v + 1] = direction
    m[v + 2] = c / trail - 1.0
