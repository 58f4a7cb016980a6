"""The columns that a report draws: equity with benchmark and drawdown, candles, fills, rolling ratios, distribution."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from libs.domain.numbers import NANOSECONDS, SCALE
from libs.domain.ohlc import merge_runs
from services.backtest.equity import Ints
from services.backtest.returns import Floats, choose_grid, sample, simple_returns
from services.backtest.run import BacktestResult

_POINTS = 2000
_CANDLES = 3000
_MARKED_FILLS = 4000
_ROLLING = 30
_BINS = 41


def build_curves(result: BacktestResult) -> dict[str, Any]:
    """Return columns of equal length per curve; times are whole seconds of UTC."""
    times, equity, position = result.record.equity.within(result.start, result.end)
    prices, others = result.record.prices.columns(), result.record.other_prices
    at = np.unique(np.linspace(result.start, result.end, _POINTS).astype(np.int64) // NANOSECONDS * NANOSECONDS)
    levels = sample(times, equity, at)
    grid = choose_grid(result.start, result.end)
    on_grid = sample(times, equity, grid.times)
    gained = simple_returns(on_grid)
    return {
        "equity_curve": {
            "time": _seconds(at),
            "equity_usdt": levels.round(8).tolist(),
            "drawdown": _drawdowns(levels).tolist(),
            "position": sample(times, position, at).tolist(),
            "buy_and_hold_usdt": _buy_and_hold(prices, at, float(levels[0])),
        },
        "monthly_returns": _monthly(grid.times, on_grid),
        "distribution": _distribution(gained),
        "rolling": _rolling(grid.times, gained, grid.per_year),
        "candles": _candles(prices),
        "fills_shown": [
            [fill.event_time // NANOSECONDS, fill.side.sign, float(fill.price), float(fill.quantity)]
            for fill in [fill for fill in result.record.fills if fill.instrument not in others][:_MARKED_FILLS]
        ],
    }


def _seconds(times: Ints) -> list[int]:
    seconds: list[int] = (times // NANOSECONDS).tolist()
    return seconds


def _drawdowns(levels: Floats) -> Floats:
    peaks = np.maximum.accumulate(levels)
    return np.divide(levels - peaks, peaks, out=np.zeros(len(levels)), where=peaks > 0.0)


def _buy_and_hold(prices: dict[str, Ints], at: Ints, start: float) -> list[float]:
    if not len(prices["times"]):
        return []
    held = sample(prices["times"], prices["close"], at)
    rebased: list[float] = (held / held[0] * start).round(8).tolist()
    return rebased


def _monthly(times: Ints, levels: Floats) -> dict[str, float]:
    # The last level of each month over that of the month before it.
    months = times.astype("datetime64[ns]").astype("datetime64[M]")
    months[1:] = (times[1:] - 1).astype("datetime64[ns]").astype("datetime64[M]")
    found: dict[str, float] = {}
    before = float(levels[0])
    for month in np.unique(months):
        last = float(levels[np.flatnonzero(months == month)[-1]])
        found[str(month)] = last / before - 1.0 if before > 0.0 else 0.0
        before = last
    return found


def _distribution(gained: Floats) -> dict[str, list[float]]:
    reach = float(np.max(np.abs(gained))) if len(gained) else 0.0
    if not reach:
        return {"from": [], "count": []}
    counts, edges = np.histogram(gained, bins=_BINS, range=(-reach, reach))
    return {"from": edges[:-1].tolist(), "count": counts.tolist()}


def _rolling(times: Ints, gained: Floats, per_year: float) -> dict[str, Any]:
    if len(gained) <= _ROLLING:
        return {"steps": _ROLLING, "time": [], "sharpe": [], "volatility": []}
    windows = np.lib.stride_tricks.sliding_window_view(gained, _ROLLING)
    deviation = windows.std(axis=1, ddof=1)
    mean = windows.mean(axis=1)
    sharpe = np.divide(mean, deviation, out=np.zeros(len(mean)), where=deviation > 0.0) * math.sqrt(per_year)
    thin = max(1, -(-len(mean) // _POINTS))
    return {
        "steps": _ROLLING,
        "time": _seconds(times[_ROLLING:][::thin]),
        "sharpe": sharpe[::thin].tolist(),
        "volatility": (deviation * math.sqrt(per_year))[::thin].tolist(),
    }


def _candles(prices: dict[str, Ints]) -> dict[str, Any]:
    count = len(prices["times"])
    size = max(1, -(-count // _CANDLES))
    starts = np.arange(0, count, size)
    if not count:
        return {"bars_each": size, "time": [], "open": [], "high": [], "low": [], "close": []}
    ends = np.minimum(starts + size, count) - 1
    opens, highs, lows, closes = merge_runs(prices["open"], prices["high"], prices["low"], prices["close"], size)
    return {
        "bars_each": size,
        "time": _seconds(prices["times"][ends]),
        "open": (opens / SCALE).tolist(),
        "high": (highs / SCALE).tolist(),
        "low": (lows / SCALE).tolist(),
        "close": (closes / SCALE).tolist(),
    }
