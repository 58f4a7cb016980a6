"""Indicators at hand for a strategy: named once in `start`, advanced by each bar before the strategy receives it."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from libs.domain.bars import Bar
from libs.domain.numbers import SCALE

if TYPE_CHECKING:
    from libs.indicators.handles import Indicator


class IndicatorValues:
    """One indicator over the bars of a timeframe; `value` is the newest of the instrument whose bar came last, `of`
    that of any instrument.

    NaN, or a tuple of them for an indicator with several lines, until warm.
    """

    __slots__ = ("_inputs", "_last", "_make", "_series", "timeframe", "value")

    def __init__(self, make: Callable[[], Indicator], inputs: int, timeframe: str) -> None:
        self._make = make
        self._inputs = inputs
        self._series: dict[str, Indicator] = {}
        self._last = ""
        self.timeframe = timeframe
        self.value: Any = math.nan

    def of(self, instrument: str) -> Any:
        """Return the newest value of an instrument; NaN before its first bar."""
        series = self._series.get(instrument)
        return math.nan if series is None else series.value

    def take(self, bar: Bar) -> None:
        """Advance by a bar."""
        series = self._series.get(bar.instrument)
        if series is None:
            series = self._series[bar.instrument] = self._make()
        self._last = bar.instrument
        close = bar.close_e8 / SCALE
        if self._inputs == 1:
            self.value = series.update(close)
        else:
            self.value = series.update(bar.high_e8 / SCALE, bar.low_e8 / SCALE, close)

    def snapshot(self) -> dict[str, str]:
        """Return the state of each instrument, base64, and under no name whose bar came last."""
        saved = {name: base64.b64encode(series.snapshot()).decode() for name, series in self._series.items()}
        return {**saved, "": self._last}

    def restore(self, state: dict[str, str]) -> None:
        """Take over a snapshot."""
        self._last = state.get("", "")
        for name, saved in state.items():
            if name:
                self._series[name] = self._make()
                self._series[name].restore(base64.b64decode(saved))
        self.value = self.of(self._last)


class Indicators:
    """Makes a strategy's indicators: ``self.fast = self.indicators.ema(20)``, then ``self.fast.value`` in `on_bar`.

    Known are ema, rsi, macd, bollinger, atr, directional and stochastic with the parameters of the feature catalog;
    `timeframe` is the strategy's unless given.
    """

    def __init__(self, timeframe: str) -> None:
        self._timeframe = timeframe
        self._made: list[IndicatorValues] = []

    @property
    def is_used(self) -> bool:
        """Whether any was made."""
        return bool(self._made)

    def __getattr__(self, kind: str) -> Callable[..., IndicatorValues]:
        if kind.startswith("_"):
            raise AttributeError(kind)
        return lambda period=None, **params: self.make(kind, period, **params)

    def make(self, kind: str, period: int | None = None, *, timeframe: str = "", **params: float) -> IndicatorValues:
        """Make an indicator of a kind. Raises ValueError for an unknown kind or parameter."""
        from libs.indicators.handles import INDICATORS, Indicator

        if period is not None:
            params["n"] = period
        Indicator(kind, **params)
        made = IndicatorValues(lambda: Indicator(kind, **params), INDICATORS[kind], timeframe or self._timeframe)
        self._made.append(made)
        return made

    def take(self, bar: Bar) -> None:
        """Advance those of the bar's timeframe."""
        for made in self._made:
            if made.timeframe == bar.timeframe:
                made.take(bar)

    def snapshot(self) -> list[Any]:
        """Return the state in the order in which they were made."""
        return [made.snapshot() for made in self._made]

    def restore(self, state: Any) -> None:
        """Take over a snapshot. Raises ValueError where the strategy makes other indicators now."""
        if not isinstance(state, list) or len(state) != len(self._made):
            raise ValueError("the saved state is of other indicators; start a new session")
        for made, saved in zip(self._made, state, strict=True):
            made.restore(saved)
