"""Steps on trend, volatility, liquidity and the shape of returns, and the calendar."""

from __future__ import annotations

import math
from typing import Final

from libs.indicators.arrays import Code, Memory
from libs.indicators.compiling import compiled
from libs.indicators.instruction import RING_A, RING_B, RING_C, STATE, VALUE, N, P
from libs.indicators.rolling import roll_covariance, roll_sum, roll_variance
from libs.indicators.state_sizes import HURST_LAGS, PERMUTATIONS, SUM_STATE, VARIANCE_STATE

_DAY_S: Final = 86400.0


@compiled
def step_cumulative(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Sum since the first bar (TA-Lib OBV over directed volume); a missing value is skipped and answers NaN."""
    s = code[k + STATE]
    x = m[code[k + RING_A] + (i & mask)]
    if x == x:
        m[s] += x
        m[code[k + VALUE]] = m[s]
    else:
        m[code[k + VALUE]] = math.nan


@compiled
def step_vwap(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Volume-weighted mean of the typical price over `n` bars, and the close's distance from it in bps.

    Where nothing was traded in the window it is the close. Rings: traded value, volume, close.
    """
    s = code[k + STATE]
    v = code[k + VALUE]
    n = code[k + N]
    value = roll_sum(m, s, code[k + RING_A], i, mask, n)
    volume = roll_sum(m, s + SUM_STATE, code[k + RING_B], i, mask, n)
    c = m[code[k + RING_C] + (i & mask)]
    mean = value / volume
    if volume <= 0.0:
        mean = c
    m[v] = mean
    m[v + 1] = (c / mean - 1.0) * 1e4


@compiled
def step_slope(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Least-squares slope of one series on another over `n` bars, times scale (Kyle 1985: return on signed volume).

    0 where the second does not vary.
    """
    s = code[k + STATE]
    product, _own, spread = roll_covariance(m, s + 1, code[k + RING_A], code[k + RING_B], 0, i, mask, code[k + N])
    slope = product / spread * m[s]
    if spread == 0.0:
        slope = 0.0
    m[code[k + VALUE]] = slope


@compiled
def step_autocorrelation(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Pearson correlation of `n` values with those `p` bars before; 0 where either does not vary."""
    a = code[k + RING_A]
    product, own, other = roll_covariance(m, code[k + STATE], a, a, code[k + P], i, mask, code[k + N])
    correlation = product / math.sqrt(own * other)
    if own == 0.0 or other == 0.0:
        correlation = 0.0
    m[code[k + VALUE]] = max(-1.0, min(1.0, correlation)) if correlation == correlation else math.nan


@compiled
def step_roll_spread(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Effective spread from the covariance of successive returns over `n` bars (Roll 1984) in bps; 0 if positive."""
    a = code[k + RING_A]
    n = code[k + N]
    product, _own, _other = roll_covariance(m, code[k + STATE], a, a, 1, i, mask, n)
    covariance = product / (n - 1)
    if covariance > 0.0:
        covariance = 0.0
    m[code[k + VALUE]] = 2.0 * math.sqrt(-covariance) * 1e4


@compiled
def step_yang_zhang(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Volatility a bar over `n` bars (Yang-Zhang 2000). Rings: overnight, open to close, Rogers-Satchell."""
    s = code[k + STATE]
    n = code[k + N]
    _night_mean, night = roll_variance(m, s, code[k + RING_A], i, mask, n)
    _day_mean, day = roll_variance(m, s + VARIANCE_STATE, code[k + RING_B], i, mask, n)
    drift_free = roll_sum(m, s + 2 * VARIANCE_STATE, code[k + RING_C], i, mask, n) / n
    weight = 0.34 / (1.34 + (n + 1.0) / (n - 1.0))
    variance = night / (n - 1) + weight * day / (n - 1) + (1.0 - weight) * drift_free
    if variance < 0.0:
        variance = 0.0
    m[code[k + VALUE]] = math.sqrt(variance)


@compiled
def step_ewma_volatility(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Volatility a bar from exponentially weighted squared returns (RiskMetrics 1996).

    Starts from the mean of the first `n`. The decay is the first number of the state.
    """
    s = code[k + STATE]
    n = code[k + N]
    if i == 0:
        m[code[k + VALUE]] = math.nan
        return
    x = m[code[k + RING_A] + (i & mask)]
    if i < n:
        m[s + 1] += x
        m[code[k + VALUE]] = math.nan
        return
    if i == n:
        m[s + 1] = (m[s + 1] + x) / n
    else:
        m[s + 1] = m[s] * m[s + 1] + (1.0 - m[s]) * x
    m[code[k + VALUE]] = math.sqrt(m[s + 1])


@compiled
def step_regression(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Least squares of the log close on the bar number over `n` bars: slope in bps a bar, R squared, sign of the slope.

    A flat window has slope, R squared and direction 0.
    """
    v = code[k + VALUE]
    a = code[k + RING_A]
    n = code[k + N]
    if i < n - 1:
        m[v] = math.nan
        m[v + 1] = math.nan
        m[v + 2] = math.nan
        return
    origin = m[a + (i & mask)]
    middle = (n - 1) / 2.0
    total = 0.0
    square = 0.0
    product = 0.0
    x = -middle
    for j in range(i - n + 1, i + 1):
        y = m[a + (j & mask)] - origin
        total += y
        square += y * y
        product += x * y
        x += 1.0
    across = n * (n * n - 1.0) / 12.0
    spread = square - total * total / n
    slope = 0.0
    fit = 0.0
    if spread > 1e-15 * square:
        slope = product / across
        fit = min(1.0, slope * product / spread)
    m[v] = slope * 1e4
    m[v + 1] = fit
    m[v + 2] = 1.0 if slope > 0.0 else (-1.0 if slope < 0.0 else 0.0)


@compiled
def step_efficiency(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Net move over the path of `n` bars (Kaufman 1995), 0 where nothing moved. Rings: close, path."""
    n = code[k + N]
    a = code[k + RING_A]
    path = roll_sum(m, code[k + STATE], code[k + RING_B], i, mask, n)
    ratio = abs(m[a + (i & mask)] - m[a + ((i - n) & mask)]) / path
    if path <= 0.0:
        ratio = 0.0
    m[code[k + VALUE]] = min(1.0, ratio) if ratio == ratio else math.nan


@compiled
def step_hurst(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Generalised Hurst exponent of order 2 of the log close over `n` bars (Di Matteo 2007), lags 1 2 4 8 16.

    Half the slope of the log mean squared move on the log lag, kept within 0 and 1; 0.5 where some lag shows no move.
    State: bars until the sums are taken afresh, five sums, five largest terms since.
    """
    s = code[k + STATE]
    a = code[k + RING_A]
    n = code[k + N]
    left = m[s] - 1.0
    fresh = left <= 0.0
    m[s] = float(n) if fresh else left
    slope = 0.0
    still = False
    for j in range(HURST_LAGS):
        lag = 1 << j
        total = 0.0
        peak = 0.0
        if fresh:
            for t in range(i - n + 1, i + 1):
                d = m[a + (t & mask)] - m[a + ((t - lag) & mask)]
                if d == d:
                    total += d * d
                    peak = max(peak, d * d)
        else:
            d = m[a + (i & mask)] - m[a + ((i - lag) & mask)]
            total = m[s + 1 + j]
            peak = m[s + 1 + HURST_LAGS + j]
            if d == d:
                total += d * d
                peak = max(peak, d * d)
            d = m[a + ((i - n) & mask)] - m[a + ((i - n - lag) & mask)]
            if d == d:
                total -= d * d
        m[s + 1 + j] = total
        m[s + 1 + HURST_LAGS + j] = peak
        if total <= 1e-15 * n * peak:
            still = True
        else:
            slope += (j - 2.0) * math.log(total)
    if i < n + (1 << (HURST_LAGS - 1)) - 1:
        m[code[k + VALUE]] = math.nan
        return
    exponent = slope / (10.0 * math.log(2.0)) / 2.0
    if still:
        exponent = 0.5
    m[code[k + VALUE]] = max(0.0, min(1.0, exponent))


@compiled
def step_moments(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Sample skewness and excess kurtosis of `n` values, unbiased (pandas skew, kurt); 0 where all are equal."""
    v = code[k + VALUE]
    a = code[k + RING_A]
    n = code[k + N]
    total = 0.0
    for j in range(i - n + 1, i + 1):
        total += m[a + (j & mask)]
    mean = total / n
    second = 0.0
    third = 0.0
    fourth = 0.0
    for j in range(i - n + 1, i + 1):
        d = m[a + (j & mask)] - mean
        q = d * d
        second += q
        third += q * d
        fourth += q * q
    if second <= 1e-30 * n:
        m[v] = 0.0
        m[v + 1] = 0.0
        return
    variance = second / n
    skew = third / n / (variance * math.sqrt(variance))
    m[v] = skew * math.sqrt(n * (n - 1.0)) / (n - 2.0)
    kurtosis = fourth / n / (variance * variance) - 3.0
    m[v + 1] = (n - 1.0) / ((n - 2.0) * (n - 3.0)) * ((n + 1.0) * kurtosis + 6.0)


@compiled
def _pattern(m: Memory, a: int, i: int, mask: int) -> int:
    x = m[a + ((i - 2) & mask)]
    y = m[a + ((i - 1) & mask)]
    z = m[a + (i & mask)]
    if x <= y:
        return 0 if y <= z else (1 if x <= z else 2)
    return 3 if x <= z else (4 if y <= z else 5)


@compiled
def step_permutation_entropy(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Entropy of the order of three successive values over `n` triples, as a share of its maximum (Bandt-Pompe 2002).

    Equal values count in order of time. State: how often each of the six orders occurs in the window.
    """
    s = code[k + STATE]
    a = code[k + RING_A]
    n = code[k + N]
    if i < 2:
        m[code[k + VALUE]] = math.nan
        return
    m[s + _pattern(m, a, i, mask)] += 1.0
    if i - n >= 2:
        m[s + _pattern(m, a, i - n, mask)] -= 1.0
    if i < n + 1:
        m[code[k + VALUE]] = math.nan
        return
    entropy = 0.0
    for j in range(PERMUTATIONS):
        share = m[s + j] / n
        if share > 0.0:
            entropy -= share * math.log(share)
    m[code[k + VALUE]] = entropy / math.log(6.0)


@compiled
def step_calendar(code: Code, k: int, m: Memory, i: int, mask: int) -> None:
    """Where the close lies in the UTC hour, day and week as sine and cosine, open sessions, weekend.

    Sessions in UTC: Asia 00-08, Europe 07-16, America 13-22. Day 0 of the epoch was a Thursday; weeks start on Monday.
    """
    v = code[k + VALUE]
    t = m[code[k + RING_A] + (i & mask)]
    day = math.floor(t / _DAY_S)
    second = t - day * _DAY_S
    hour = second / 3600.0
    weekday = (day + 3.0) % 7.0
    turn = 2.0 * math.pi
    m[v] = math.sin(turn * (hour - math.floor(hour)))
    m[v + 1] = math.cos(turn * (hour - math.floor(hour)))
    m[v + 2] = math.sin(turn * second / _DAY_S)
    m[v + 3] = math.cos(turn * second / _DAY_S)
    week = (weekday + second / _DAY_S) / 7.0
    m[v + 4] = math.sin(turn * week)
    m[v + 5] = math.cos(turn * week)
    m[v + 6] = 1.0 if hour < 8.0 else 0.0
    m[v + 7] = 1.0 if 7.0 <= hour < 16.0 else 0.0
    m[v + 8] = 1.0 if 13.0 <= hour < 22.0 else 0.0
    m[v + 9] = 1.0 if weekday >= 5.0 else 0.0
