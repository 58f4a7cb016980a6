"""A closed bar as the row of numbers that the engine reads, and what a bar must fulfil before it may become one."""

from __future__ import annotations

import math
from operator import attrgetter

import numpy as np

from libs.domain.bars import Bar
from libs.domain.readings import READING_SERIES
from libs.indicators import columns as col
from libs.indicators.arrays import Row

# Whole over whole is rounded once: the double nearest to the decimal, as if its text had been read.
_E8 = 100_000_000
_NANOSECONDS = 1_000_000_000
_NAN = math.nan
_readings_of = attrgetter(*READING_SERIES)
_NO_READINGS = (None,) * len(READING_SERIES)


class BarError(ValueError):
    """A bar cannot be used; the text names the field and its value."""


def check_bar(bar: Bar) -> None:
    """Refuse what no market prints; BarError names the field.

    That is prices not above zero or outside low and high, negative volumes, taker volume above volume, infinity.
    """
    low = bar.low_e8
    high = bar.high_e8
    if low <= 0:
        raise BarError(f"{bar.event_id}: low_e8 is {low}, prices must be above zero")
    if not (low <= bar.open_e8 <= high and low <= bar.close_e8 <= high):
        raise BarError(
            f"{bar.event_id}: open {bar.open_e8} and close {bar.close_e8} must lie between low {low} and high {high}"
        )
    taker = bar.taker_buy_volume_e8 or 0
    if bar.volume_e8 < 0 or taker < 0 or (bar.quote_volume_e8 or 0) < 0 or (bar.trade_count or 0) < 0:
        raise BarError(f"{bar.event_id}: volumes and the trade count must not be negative")
    if taker > bar.volume_e8:
        raise BarError(f"{bar.event_id}: taker_buy_volume_e8 is {taker}, above volume_e8, which is {bar.volume_e8}")
    total = (
        (bar.spread_mean_bps or 0.0)
        + (bar.depth_imbalance_1 or 0.0)
        + (bar.depth_imbalance_5 or 0.0)
        + (bar.depth_imbalance_10 or 0.0)
        + (bar.order_flow_imbalance or 0.0)
        + (bar.microprice_deviation_bps or 0.0)
        + (bar.realised_variance or 0.0)
    )
    if not math.isfinite(total):
        raise BarError(f"{bar.event_id}: a book statistic is not finite; leave out what is not known")
    readings = _readings_of(bar)
    if readings != _NO_READINGS and not all(one is None or math.isfinite(one) for one in readings):
        raise BarError(f"{bar.event_id}: a reading from outside is not finite; leave out what is not known")


def _scaled(value: int | None) -> float:
    return _NAN if value is None else value / _E8


def _plain(value: float | None) -> float:
    return _NAN if value is None else value


def bar_row(bar: Bar, row: Row | None = None) -> Row:
    """Write a bar into a row of shape (ROW_WIDTH,), NaN for None; a new one unless `row` is given."""
    if row is None:
        row = np.empty(col.ROW_WIDTH)
    row[: col.ROW_READINGS] = (
        bar.open_e8 / _E8,
        bar.high_e8 / _E8,
        bar.low_e8 / _E8,
        bar.close_e8 / _E8,
        bar.volume_e8 / _E8,
        _scaled(bar.quote_volume_e8),
        _scaled(bar.taker_buy_volume_e8),
        _plain(bar.trade_count),
        _plain(bar.spread_mean_bps),
        _plain(bar.depth_imbalance_1),
        _plain(bar.depth_imbalance_5),
        _plain(bar.depth_imbalance_10),
        _plain(bar.order_flow_imbalance),
        _plain(bar.microprice_deviation_bps),
        _plain(bar.realised_variance),
        _scaled(bar.mark_close_e8),
        _scaled(bar.index_close_e8),
        _scaled(bar.funding_rate_e8),
        _NAN if bar.next_funding_time is None else bar.next_funding_time / _NANOSECONDS,
        _scaled(bar.open_interest_e8),
        _scaled(bar.liquidation_buy_e8),
        _scaled(bar.liquidation_sell_e8),
        bar.close_time // _NANOSECONDS,
    )
    readings = _readings_of(bar)
    # Most bars have none, and None as a number costs an array of its own.
    row[col.ROW_READINGS :] = _NAN if readings == _NO_READINGS else np.array(readings, dtype=np.float64)
    return row
