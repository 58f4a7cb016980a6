"""Bars as columns: what training and backtests read from a file or the simulated market, checked row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from libs.domain.bars import TIMEFRAMES
from libs.domain.market import ExchangeBar
from libs.domain.numbers import NANOSECONDS, SCALE
from libs.indicators import columns as col

Floats: TypeAlias = npt.NDArray[np.float64]
Times: TypeAlias = npt.NDArray[np.int64]

REQUIRED = ("open_time", "open", "high", "low", "close", "volume")
OPTIONAL = ("quote_volume", "trades", "taker_buy_volume")


class BadBars(ValueError):
    """A table of bars cannot be used; the message names the row (from 1), the error and the fix."""


@dataclass(frozen=True, slots=True)
class BarTable:
    """Bars in columns, ascending: open times in ns, prices in quote units, volumes in base units, NaN where unknown."""

    timeframe: str
    open_times: Times
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    quote_volume: Floats
    trades: Floats
    taker_buy_volume: Floats
    published: Floats = field(default_factory=lambda: np.empty((0, 0)))
    """(bars, ROW_WIDTH), NaN but for what was published beside the bars; empty where nothing was joined."""

    def __len__(self) -> int:
        return len(self.open_times)

    @property
    def step_ns(self) -> int:
        """Length of a bar."""
        return TIMEFRAMES[self.timeframe]

    def rows(self) -> Floats:
        """Return the bars as the feature engine's rows, (bars, ROW_WIDTH)."""
        rows = self.published.copy() if self.published.size else np.full((len(self), col.ROW_WIDTH), np.nan)
        for place, values in (
            (col.ROW_OPEN, self.open),
            (col.ROW_HIGH, self.high),
            (col.ROW_LOW, self.low),
            (col.ROW_CLOSE, self.close),
            (col.ROW_VOLUME, self.volume),
            (col.ROW_QUOTE, self.quote_volume),
            (col.ROW_TAKER, self.taker_buy_volume),
            (col.ROW_TRADES, self.trades),
            (col.ROW_CLOSE_TIME, (self.open_times + self.step_ns) // NANOSECONDS),
        ):
            rows[:, place] = values
        return rows


def table_of_columns(columns: Mapping[str, npt.NDArray[np.generic]]) -> BarTable:
    """Check columns (open_time in ns) and make a table of them. Raises `BadBars` naming the first wrong row.

    A gap in the times is no error; it breaks windows. The timeframe is the smallest step.
    """
    missing = [name for name in REQUIRED if name not in columns]
    if missing:
        raise BadBars(f"column {', '.join(missing)} is missing; bars need {', '.join(REQUIRED)}")
    times = columns["open_time"].astype(np.int64)
    if len(times) < 2:
        raise BadBars(f"{len(times)} bars are too few; two at least tell the timeframe")
    steps = np.diff(times)
    _refuse(steps <= 0, times[1:], 2, "open_time", "is not after the row before; sort the rows and drop duplicates")
    smallest = int(steps.min())
    timeframe = next((name for name, length in TIMEFRAMES.items() if length == smallest), None)
    if timeframe is None:
        raise BadBars(f"the bars are {smallest / NANOSECONDS:g} s apart; known are {', '.join(TIMEFRAMES)}")
    _refuse(times % smallest != 0, times, 1, "open_time", f"is not aligned to {timeframe}")
    prices = {name: columns[name].astype(np.float64) for name in ("open", "high", "low", "close")}
    for name, values in prices.items():
        _refuse(~(np.isfinite(values) & (values > 0.0)), values, 1, name, "is no price; fix or drop the row")
    volume = columns["volume"].astype(np.float64)
    _refuse(~(np.isfinite(volume) & (volume >= 0.0)), volume, 1, "volume", "is no volume; fix or drop the row")
    body_high = np.maximum(prices["open"], prices["close"])
    body_low = np.minimum(prices["open"], prices["close"])
    _refuse(prices["high"] < body_high, prices["high"], 1, "high", "is below open or close; fix or drop the row")
    _refuse(prices["low"] > body_low, prices["low"], 1, "low", "is above open or close; fix or drop the row")
    extra: dict[str, Floats] = {}
    for name in OPTIONAL:
        values = columns[name].astype(np.float64) if name in columns else np.full(len(times), np.nan)
        _refuse(np.isinf(values) | (values < 0.0), values, 1, name, "is no amount; fix it or leave it empty")
        extra[name] = values
    return BarTable(timeframe=timeframe, open_times=times, volume=volume, **prices, **extra)


def table_of_bars(bars: Sequence[ExchangeBar]) -> BarTable:
    """Make a table of klines of one timeframe. Raises `BadBars`."""

    def column(values: list[int | None]) -> Floats:
        return np.array([np.nan if value is None else value for value in values], dtype=np.float64)

    return table_of_columns(
        {
            "open_time": np.array([bar.open_time for bar in bars], dtype=np.int64),
            "open": np.array([bar.open_e8 for bar in bars]) / SCALE,
            "high": np.array([bar.high_e8 for bar in bars]) / SCALE,
            "low": np.array([bar.low_e8 for bar in bars]) / SCALE,
            "close": np.array([bar.close_e8 for bar in bars]) / SCALE,
            "volume": np.array([bar.volume_e8 for bar in bars]) / SCALE,
            "quote_volume": column([bar.quote_volume_e8 for bar in bars]) / SCALE,
            "trades": column([bar.trade_count for bar in bars]),
            "taker_buy_volume": column([bar.taker_buy_volume_e8 for bar in bars]) / SCALE,
        }
    )


def _refuse(
    is_wrong: npt.NDArray[np.bool_], values: npt.NDArray[np.generic], first_row: int, name: str, problem: str
) -> None:
    if is_wrong.any():
        place = int(is_wrong.argmax())
        raise BadBars(f"row {place + first_row}: {name} {values[place]} {problem}")
