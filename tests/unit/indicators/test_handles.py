"""Single indicators give the feature engine's bits, bar by bar."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from libs.indicators import columns as col
from libs.indicators.feature_set import FeatureSetError
from libs.indicators.handles import Indicator
from tests.unit.indicators.recorded import BTC_1M, compute_kind, recorded_rows, same_bits

CASES = [
    ("ema", {"n": 20}, ["ema_20"]),
    ("rsi", {"n": 14}, ["rsi_14"]),
    ("macd", {}, ["macd_line_12_26_9", "macd_signal_12_26_9", "macd_histogram_12_26_9"]),
    ("bollinger", {"k": 3}, ["bollinger_upper_20_3", "bollinger_middle_20_3", "bollinger_lower_20_3"]),
    ("atr", {"n": 7}, ["atr_7"]),
    ("directional", {"n": 14}, ["adx_14"]),
    ("stochastic", {}, ["stochastic_k_14_3_3", "stochastic_d_14_3_3"]),
]


def _inputs(kind: str, rows: np.ndarray) -> list[list[float]]:
    of_bar = kind in ("atr", "directional", "stochastic")
    return rows[:, [col.ROW_HIGH, col.ROW_LOW, col.ROW_CLOSE] if of_bar else [col.ROW_CLOSE]].tolist()


@pytest.mark.parametrize(("kind", "params", "names"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_single_indicator_gives_the_engines_bits(kind: str, params: dict[str, Any], names: list[str]) -> None:
    times, rows = recorded_rows(BTC_1M, 3000)
    expected = compute_kind(kind, times, rows, **params)
    indicator = Indicator(kind, **params)
    ours = np.array([indicator.update(*numbers) for numbers in _inputs(kind, rows)]).reshape(len(rows), -1)
    np.testing.assert_array_equal(np.ravel(indicator.value), ours[-1])
    for j, name in enumerate(names):
        assert same_bits(np.ascontiguousarray(ours[:, j]), np.ascontiguousarray(expected[name])).all(), name


@pytest.mark.parametrize(("kind", "params", "names"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_a_restored_indicator_goes_on_as_before(kind: str, params: dict[str, Any], names: list[str]) -> None:
    _times, rows = recorded_rows(BTC_1M, 200)
    numbers = _inputs(kind, rows)
    first, second = Indicator(kind, **params), Indicator(kind, **params)
    for each in numbers[:100]:
        first.update(*each)
    second.restore(first.snapshot())
    for each in numbers[100:]:
        np.testing.assert_array_equal(first.update(*each), second.update(*each))
        np.testing.assert_array_equal(first.value, second.value)
    assert first.snapshot() == second.snapshot()
    np.testing.assert_array_equal(Indicator(kind, **params).value, np.nan)


def test_a_number_that_is_not_finite_is_refused_and_leaves_the_state_alone() -> None:
    for kind, count in (("ema", 1), ("atr", 3)):
        indicator = Indicator(kind)
        indicator.update(*[100.0] * count)
        state = indicator.snapshot()
        for bad in (float("nan"), float("inf")):
            with pytest.raises(ValueError, match="an indicator takes finite numbers"):
                indicator.update(*[100.0] * (count - 1), bad)
        assert indicator.snapshot() == state


def test_what_cannot_stand_alone_or_does_not_fit_is_refused() -> None:
    with pytest.raises(FeatureSetError, match="no indicator 'hurst' stands alone; there are ema, rsi"):
        Indicator("hurst")
    with pytest.raises(FeatureSetError, match="n=0 must be a whole number of bars"):
        Indicator("ema", n=0)
    with pytest.raises(FeatureSetError, match="of another indicator, or of other parameters"):
        Indicator("bollinger", k=2).restore(Indicator("bollinger", k=3).snapshot())
