"""Steps over one or two series that most features are made of: values, means, ratios, z-scores.

A step reads its operands from the instruction at `code[k:]` (see `libs.indicators.instruction`), the bar number `i` and
its rings, advances its own state in the memory `m` and writes its values there. The constant `scale` lies at the start
of its state.
"""

from __future__ import annotations

import math

from libs.indicators.arrays import Code, Memory
from libs.indicators.compiling import compiled
from libs.indicators.instruction import RING_A, RING_B, STATE, VALUE, N, P
from libs.indicators.rolling import roll_sum, roll_variance
from libs.indicators.state_sizes import VARIANCE_STATE


@compiled
def step_value(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Take the series as it is, times scale."""
    m[code[k + VALUE]] = m[code[k + RING_A] + (i & mask)] * m[code[k + STATE]]


@compiled
def step_known(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Give 1 where the series is known, else 0."""
    x = m[code[k + RING_A] + (i & mask)]
    m[code[k + VALUE]] = 1.0 if x == x else 0.0


@compiled
def step_mean(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Mean of `n` values, times scale."""
    s = code[k + STATE]
    n = code[k + N]
    m[code[k + VALUE]] = roll_sum(m, s + 1, code[k + RING_A], i, mask, n) / n * m[s]


@compiled
def step_sum(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Sum of `n` values, times scale."""
    s = code[k + STATE]
    m[code[k + VALUE]] = roll_sum(m, s + 1, code[k + RING_A], i, mask, code[k + N]) * m[s]


@compiled
def step_root_mean(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Square root of the mean of `n` values, times scale; rounding below zero counts as 0."""
    s = code[k + STATE]
    n = code[k + N]
    mean = roll_sum(m, s + 1, code[k + RING_A], i, mask, n) / n
    if mean < 0.0:
        mean = 0.0
    m[code[k + VALUE]] = math.sqrt(mean) * m[s]


@compiled
def step_root(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Square root of the value, times scale."""
    m[code[k + VALUE]] = math.sqrt(m[code[k + RING_A] + (i & mask)]) * m[code[k + STATE]]


@compiled
def step_deviation(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Sample standard deviation of `n` values (divisor n - 1), times scale."""
    s = code[k + STATE]
    n = code[k + N]
    _mean, squares = roll_variance(m, s + 1, code[k + RING_A], i, mask, n)
    m[code[k + VALUE]] = math.sqrt(squares / (n - 1)) * m[s]


@compiled
def step_zscore(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Distance from the mean of `n` values in sample standard deviations; 0 where all values are equal."""
    s = code[k + STATE]
    n = code[k + N]
    mean, squares = roll_variance(m, s + 1, code[k + RING_A], i, mask, n)
    score = (m[code[k + RING_A] + (i & mask)] - mean) / math.sqrt(squares / (n - 1))
    if squares == 0.0:
        score = 0.0
    m[code[k + VALUE]] = score


@compiled
def step_ratio_to_mean(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Value over the mean of `n` values; 0 where the mean is 0."""
    s = code[k + STATE]
    n = code[k + N]
    mean = roll_sum(m, s + 1, code[k + RING_A], i, mask, n) / n
    ratio = m[code[k + RING_A] + (i & mask)] / mean
    if mean == 0.0:
        ratio = 0.0
    m[code[k + VALUE]] = ratio * m[s]


@compiled
def step_deviation_ratio(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Standard deviation of `n` values over that of `p` values; 1 where the longer one is 0."""
    s = code[k + STATE]
    n = code[k + N]
    p = code[k + P]
    _short_mean, short = roll_variance(m, s + 1, code[k + RING_A], i, mask, n)
    _long_mean, long = roll_variance(m, s + 1 + VARIANCE_STATE, code[k + RING_A], i, mask, p)
    ratio = math.sqrt(short / (n - 1)) / math.sqrt(long / (p - 1))
    if long == 0.0:
        ratio = 1.0
    m[code[k + VALUE]] = ratio


@compiled
def step_sum_ratio(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Sum of `n` values of one series over that of another, times scale; 0 where the divisor is 0."""
    s = code[k + STATE]
    n = code[k + N]
    over = roll_sum(m, s + 1, code[k + RING_A], i, mask, n)
    under = roll_sum(m, s + 4, code[k + RING_B], i, mask, n)
    ratio = over / under * m[s]
    if under == 0.0 and over == over:
        ratio = 0.0
    m[code[k + VALUE]] = ratio


@compiled
def step_share(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Value of one series over that of another, times scale; 0 where the divisor is 0."""
    over = m[code[k + RING_A] + (i & mask)]
    under = m[code[k + RING_B] + (i & mask)]
    ratio = over / under * m[code[k + STATE]]
    if under == 0.0 and over == over:
        ratio = 0.0
    m[code[k + VALUE]] = ratio


@compiled
def step_lag_difference(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Value less the value `n` bars ago, times scale."""
    a = code[k + RING_A]
    m[code[k + VALUE]] = (m[a + (i & mask)] - m[a + ((i - code[k + N]) & mask)]) * m[code[k + STATE]]


@compiled
def step_lag_ratio(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Relative change against the value `n` bars ago, times scale; 0 where that was 0 (TA-Lib ROC)."""
    a = code[k + RING_A]
    now = m[a + (i & mask)]
    then = m[a + ((i - code[k + N]) & mask)]
    ratio = (now / then - 1.0) * m[code[k + STATE]]
    if then == 0.0 and now == now:
        ratio = 0.0
    m[code[k + VALUE]] = ratio
