"""Price steps: candle shape, place in the range, Donchian extremes."""

from __future__ import annotations

import math

from libs.indicators.arrays import Code, Memory
from libs.indicators.compiling import compiled
from libs.indicators.instruction import RING_A, RING_B, RING_C, RING_D, STATE, VALUE, N
from libs.indicators.rolling import roll_highest, roll_lowest
from libs.indicators.state_sizes import EXTREME_STATE


@compiled
def step_candle(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Shape of a candle: body, upper and lower shadow and close location as shares of its range, and range / close.

    A candle without a range has no body and no shadows and closes in the middle.
    """
    v = code[k + VALUE]
    o = m[code[k + RING_A] + (i & mask)]
    h = m[code[k + RING_B] + (i & mask)]
    low = m[code[k + RING_C] + (i & mask)]
    c = m[code[k + RING_D] + (i & mask)]
    span = h - low
    if span > 0.0:
        m[v] = (c - o) / span
        m[v + 1] = (h - max(o, c)) / span
        m[v + 2] = (min(o, c) - low) / span
        m[v + 3] = (c - low) / span
    else:
        m[v] = 0.0
        m[v + 1] = 0.0
        m[v + 2] = 0.0
        m[v + 3] = 0.5
    m[v + 4] = span / c * 1e4


@compiled
def step_channel(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Donchian channel of `n` bars: place of the close in it, drop from its top, rise from its bottom, width / close.

    Without a range the close is in the middle. Rings: high, low, close.
    """
    s = code[k + STATE]
    v = code[k + VALUE]
    n = code[k + N]
    top = roll_highest(m, s, code[k + RING_A], i, mask, n)
    bottom = roll_lowest(m, s + EXTREME_STATE, code[k + RING_B], i, mask, n)
    c = m[code[k + RING_C] + (i & mask)]
    span = top - bottom
    place = (c - bottom) / span
    if span == 0.0:
        place = 0.5
    m[v] = place
    m[v + 1] = c / top - 1.0
    m[v + 2] = c / bottom - 1.0
    m[v + 3] = span / c * 1e4


@compiled
def step_run(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Number of bars in a row that closed the same way: positive up, negative down, 0 after an unchanged close."""
    s = code[k + STATE]
    a = code[k + RING_A]
    now = m[a + (i & mask)]
    then = m[a + ((i - 1) & mask)]
    if i == 0:
        m[code[k + VALUE]] = math.nan
        return
    run = m[s]
    if now > then:
        run = run + 1.0 if run > 0.0 else 1.0
    elif now < then:
        run = run - 1.0 if run < 0.0 else -1.0
    else:
        run = 0.0
    m[s] = run
    m[code[k + VALUE]] = run
