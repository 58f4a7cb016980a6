"""TA-Lib's answers on recorded bars, for everything it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import talib

from libs.indicators import columns as col
from tests.unit.indicators.recorded import BTC_1H, BTC_1M, BTC_5M, LTC_1M, compute_kind, recorded_rows

FILES = {BTC_1M: 60, BTC_5M: 300, BTC_1H: 3600, LTC_1M: 60}

Oracle = Callable[..., Any]


def _with(function: Oracle, *columns: int, **params: Any) -> Oracle:
    return lambda rows: function(*(np.ascontiguousarray(rows[:, j]) for j in columns), **params)


_C = (col.ROW_CLOSE,)
_HL = (col.ROW_HIGH, col.ROW_LOW)
_HLC = (*_HL, col.ROW_CLOSE)

CASES: list[tuple[str, dict[str, float], dict[str, Oracle]]] = [
    ("sma", {"n": 20}, {"sma_20": _with(talib.SMA, *_C, timeperiod=20)}),
    ("sma", {"n": 200}, {"sma_200": _with(talib.SMA, *_C, timeperiod=200)}),
    ("ema", {"n": 9}, {"ema_9": _with(talib.EMA, *_C, timeperiod=9)}),
    ("ema", {"n": 200}, {"ema_200": _with(talib.EMA, *_C, timeperiod=200)}),
    ("rsi", {"n": 14}, {"rsi_14": _with(talib.RSI, *_C, timeperiod=14)}),
    ("rsi", {"n": 2}, {"rsi_2": _with(talib.RSI, *_C, timeperiod=2)}),
    (
        "macd",
        {},
        {
            f"macd_{name}_12_26_9": _with(lambda close, j=j: talib.MACD(close, 12, 26, 9)[j], *_C)
            for j, name in enumerate(("line", "signal", "histogram"))
        },
    ),
    (
        "bollinger",
        {},
        {
            f"bollinger_{name}_20_2": _with(lambda close, j=j: talib.BBANDS(close, 20, 2, 2)[j], *_C)
            for j, name in enumerate(("upper", "middle", "lower"))
        },
    ),
    (
        "atr",
        {"n": 14},
        {"atr_14": _with(talib.ATR, *_HLC, timeperiod=14), "natr_14": _with(talib.NATR, *_HLC, timeperiod=14)},
    ),
    (
        "directional",
        {"n": 14},
        {
            "adx_14": _with(talib.ADX, *_HLC, timeperiod=14),
            "plus_di_14": _with(talib.PLUS_DI, *_HLC, timeperiod=14),
            "minus_di_14": _with(talib.MINUS_DI, *_HLC, timeperiod=14),
        },
    ),
    (
        "stochastic",
        {},
        {
            f"stochastic_{name}_14_3_3": _with(lambda h, lo, c, j=j: talib.STOCH(h, lo, c, 14, 3, 0, 3, 0)[j], *_HLC)
            for j, name in enumerate(("k", "d"))
        },
    ),
    (
        "stochastic",
        {"n": 5, "p": 4, "q": 2},
        {"stochastic_d_5_4_2": _with(lambda h, lo, c: talib.STOCH(h, lo, c, 5, 4, 0, 2, 0)[1], *_HLC)},
    ),
    ("cci", {"n": 20}, {"cci_20": _with(talib.CCI, *_HLC, timeperiod=20)}),
    ("williams", {"n": 14}, {"williams_r_14": _with(talib.WILLR, *_HLC, timeperiod=14)}),
    ("money_flow", {"n": 14}, {"mfi_14": _with(talib.MFI, *_HLC, col.ROW_VOLUME, timeperiod=14)}),
    (
        "aroon",
        {"n": 25},
        {
            "aroon_down_25": _with(lambda h, lo: talib.AROON(h, lo, 25)[0], *_HL),
            "aroon_up_25": _with(lambda h, lo: talib.AROON(h, lo, 25)[1], *_HL),
            "aroon_oscillator_25": _with(talib.AROONOSC, *_HL, timeperiod=25),
        },
    ),
    ("obv", {}, {"obv": _with(talib.OBV, col.ROW_CLOSE, col.ROW_VOLUME)}),
    ("roc", {"n": 20}, {"roc_20": _with(talib.ROC, *_C, timeperiod=20)}),
    ("vroc", {"n": 10}, {"vroc_10": _with(talib.ROC, col.ROW_VOLUME, timeperiod=10)}),
    ("momentum", {"n": 10}, {"momentum_10": _with(talib.MOM, *_C, timeperiod=10)}),
    (
        "regression",
        {"n": 20},
        {"regression_slope_20": _with(lambda close: talib.LINEARREG_SLOPE(np.log(close / close[0]), 20) * 1e4, *_C)},
    ),
    (
        "channel",
        {"n": 20},
        {
            "drawdown_20": _with(lambda h, c: c / talib.MAX(h, 20) - 1.0, col.ROW_HIGH, col.ROW_CLOSE),
            "rally_20": _with(lambda lo, c: c / talib.MIN(lo, 20) - 1.0, col.ROW_LOW, col.ROW_CLOSE),
        },
    ),
]


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize(
    ("kind", "params", "oracles"), CASES, ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_values_are_those_of_talib(file: str, kind: str, params: dict[str, float], oracles: dict[str, Oracle]) -> None:
    times, rows = recorded_rows(file, 20_000)
    ours = compute_kind(kind, times, rows, FILES[file], **params)
    for name, oracle in oracles.items():
        theirs = oracle(rows)
        both = ~np.isnan(theirs)
        assert both.sum() > 19_000
        scale = np.nanmax(np.abs(theirs))
        np.testing.assert_allclose(ours[name][both], theirs[both], rtol=1e-8, atol=1e-11 * scale, err_msg=name)


@pytest.mark.parametrize(
    ("kind", "params", "oracles"), CASES, ids=lambda value: str(value) if isinstance(value, str) else ""
)
def test_first_value_comes_with_talibs_or_before(
    kind: str, params: dict[str, float], oracles: dict[str, Oracle]
) -> None:
    times, rows = recorded_rows(BTC_5M, 600)
    ours = compute_kind(kind, times, rows, 300, **params)
    for name, oracle in oracles.items():
        ours_first = int(np.argmax(~np.isnan(ours[name])))
        theirs_first = int(np.argmax(~np.isnan(oracle(rows))))
        early = {"macd_line_12_26_9": 8, "stochastic_k_14_3_3": 2}.get(name, 0)
        assert theirs_first - ours_first == early, name
