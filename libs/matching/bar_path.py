"""The path of prices assumed inside a bar, where bars are the whole market (a backtest on klines)."""

from __future__ import annotations

from libs.domain.market import ExchangeBar


def path_of(bar: ExchangeBar, position: int) -> tuple[int, int, int, int]:
    """Return open, the two extremes and close in the order assumed. `position` is signed; only its sign counts.

    The extreme that hurts the open position comes first, so that a stop is met before a target. When flat, the low
    comes first in a rising bar and the high in a falling one, the usual convention.
    """
    low_first = position > 0 or (position == 0 and bar.close_e8 >= bar.open_e8)
    extremes = (bar.low_e8, bar.high_e8) if low_first else (bar.high_e8, bar.low_e8)
    return bar.open_e8, *extremes, bar.close_e8
