"""talipp's incremental answers on recorded bars, for what TA-Lib lacks and for the seven indicators of the benchmark.

talipp seeds true range with the first bar's high - low, TA-Lib begins with the second bar; the difference fades with
Wilder's factor, so what rests on an ATR is compared once it is gone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from talipp.indicators import ADX, ATR, BB, EMA, MACD, RSI, SMA, Aroon, Ichimoku, KeltnerChannels, Stoch, SuperTrend
from talipp.ohlcv import OHLCV

from libs.indicators import columns as col
from tests.unit.indicators.recorded import BTC_5M, compute_kind, recorded_rows

COUNT = 3000
FADED = 1500


def _bars() -> tuple[np.ndarray, np.ndarray, list[OHLCV]]:
    times, rows = recorded_rows(BTC_5M, COUNT)
    return times, rows, [OHLCV(*map(float, row[: col.ROW_VOLUME + 1])) for row in rows]


def _series(indicator: Any, bars: list[Any], attribute: str = "") -> np.ndarray:
    """Feed bar by bar, as a stream would."""
    out = []
    for bar in bars:
        indicator.add(bar)
        value = indicator[-1]
        if attribute and value is not None:
            value = getattr(value, attribute)
        out.append(np.nan if value is None else float(value))
    return np.array(out)


def _agree(ours: np.ndarray, theirs: np.ndarray, start: int = 0) -> None:
    both = ~np.isnan(theirs)
    both[:start] = False
    assert both.sum() > 1000
    np.testing.assert_allclose(ours[both], theirs[both], rtol=1e-9)


def test_averages_and_rsi_are_talipps() -> None:
    times, rows, bars = _bars()
    closes = [bar.close for bar in bars]
    _agree(compute_kind("sma", times, rows, 300, n=20)["sma_20"], _series(SMA(20), closes))
    _agree(compute_kind("ema", times, rows, 300, n=20)["ema_20"], _series(EMA(20), closes))
    _agree(compute_kind("rsi", times, rows, 300, n=14)["rsi_14"], _series(RSI(14), closes))


def test_bollinger_and_stochastic_are_talipps() -> None:
    times, rows, bars = _bars()
    closes = [bar.close for bar in bars]
    bands = compute_kind("bollinger", times, rows, 300)
    _agree(bands["bollinger_upper_20_2"], _series(BB(20, 2), closes, "ub"))
    _agree(bands["bollinger_lower_20_2"], _series(BB(20, 2), closes, "lb"))
    fast = compute_kind("stochastic", times, rows, 300, n=14, p=1, q=3)
    # TA-Lib answers 0 where there is no range, talipp 100 or nothing: such bars do not occur here.
    _agree(fast["stochastic_k_14_1_3"], _series(Stoch(14, 3), bars, "k"))
    _agree(fast["stochastic_d_14_1_3"], _series(Stoch(14, 3), bars, "d"))


def test_macd_is_talipps_once_the_seeds_have_faded() -> None:
    times, rows, bars = _bars()
    ours = compute_kind("macd", times, rows, 300)
    closes = [bar.close for bar in bars]
    theirs = _series(MACD(12, 26, 9), closes, "macd")
    np.testing.assert_allclose(ours["macd_line_12_26_9"][FADED:], theirs[FADED:], atol=1e-7)


def test_atr_and_adx_are_talipps_once_the_seeds_have_faded() -> None:
    times, rows, bars = _bars()
    _agree(compute_kind("atr", times, rows, 300, n=14)["atr_14"], _series(ATR(14), bars), FADED)
    ours = compute_kind("directional", times, rows, 300, n=14)
    _agree(ours["adx_14"], _series(ADX(14, 14), bars, "adx"), FADED)
    _agree(ours["plus_di_14"], _series(ADX(14, 14), bars, "plus_di"), FADED)


def test_aroon_is_talipps() -> None:
    times, rows, bars = _bars()
    ours = compute_kind("aroon", times, rows, 300, n=25)
    theirs = _series(Aroon(25), bars, "up")
    both = ~np.isnan(theirs)
    # Equal extremes: talipp takes the first of them, TA-Lib and we the latest.
    agree = np.isclose(ours["aroon_up_25"][both], theirs[both])
    ties = np.array([bars[i].high for i in np.flatnonzero(both)[~agree]])
    windows = [rows[i - 25 : i + 1, col.ROW_HIGH] for i in np.flatnonzero(both)[~agree]]
    assert agree.mean() > 0.95
    assert all((window == window.max()).sum() > 1 for window in windows), ties


def test_keltner_is_talipps_once_the_seeds_have_faded() -> None:
    times, rows, bars = _bars()
    ours = compute_kind("keltner", times, rows, 300)
    _agree(ours["keltner_upper_20_10_2"], _series(KeltnerChannels(20, 10, 2, 2), bars, "ub"), FADED)
    _agree(ours["keltner_middle_20_10_2"], _series(KeltnerChannels(20, 10, 2, 2), bars, "cb"))
    _agree(ours["keltner_lower_20_10_2"], _series(KeltnerChannels(20, 10, 2, 2), bars, "lb"), FADED)


def test_supertrend_is_talipps_once_the_seeds_have_faded() -> None:
    times, rows, bars = _bars()
    ours = compute_kind("supertrend", times, rows, 300)
    theirs = SuperTrend(10, 3)
    _agree(ours["supertrend_10_3"], _series(theirs, bars, "value"), FADED)
    directions = np.array([1.0 if value is not None and value.trend.name == "UP" else -1.0 for value in theirs])
    np.testing.assert_array_equal(ours["supertrend_direction_10_3"][FADED:], directions[FADED:])


def test_ichimoku_is_talipps() -> None:
    times, rows, bars = _bars()
    ours = compute_kind("ichimoku", times, rows, 300)
    for name, attribute in (
        ("conversion", "conversion_line"),
        ("base", "base_line"),
        ("span_a", "cloud_leading_fast_line"),
        ("span_b", "cloud_leading_slow_line"),
    ):
        theirs = _series(Ichimoku(26, 9, 26, 52, 26), bars, attribute)
        column = ours[f"ichimoku_{name}_9_26_52"]
        if name == "span_b":
            # talipp's slow span ends one bar earlier than its fast one; both are 26 bars back here.
            column, theirs = column[:-1], theirs[1:]
        _agree(column, theirs)
        np.testing.assert_array_equal(np.isnan(column), np.isnan(theirs))
