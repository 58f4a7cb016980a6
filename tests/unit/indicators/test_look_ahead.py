"""No feature knows the future, and the test that says so would notice one that did."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from libs.indicators import columns as col
from libs.indicators.feature_sets import load_feature_set
from libs.indicators.joins import join_column, join_funding, publish_funding, publish_interest, publish_mark
from tests.unit.indicators.look_ahead import find_look_ahead
from tests.unit.indicators.recorded import BTC_1M, LTC_1M, compute, fill_in, made_rows, recorded_rows

CORE = load_feature_set()
OUTSIDE = load_feature_set("outside_v1")
CUTS = (1, 2, 61, 300, 301, 1439, 1440, 1441, 2875, 5000, 7199, 7201, 11_111, 14_399)


@pytest.mark.slow
@pytest.mark.parametrize("file", [BTC_1M, LTC_1M])
def test_every_feature_is_the_same_on_truncated_history(file: str) -> None:
    times, rows = recorded_rows(file, 14_400, start=333)
    fill_in(rows, times)
    assert find_look_ahead(lambda t, r: compute(CORE, t, r), CORE.names, times, rows, CUTS) == {}


def test_last_value_of_a_growing_history_never_changes() -> None:
    times, rows = made_rows(400)
    whole = compute(CORE, times, rows)
    for cut in range(1, 401, 7):
        last = compute(CORE, times[:cut], rows[:cut])[-1]
        np.testing.assert_array_equal(last, whole[cut - 1])


def _shifted(values: np.ndarray, j: int) -> None:
    values[:-1, j] = values[1:, j]


def _normalised_by_the_whole(values: np.ndarray, j: int) -> None:
    values[:, j] /= 1.0 + np.nanstd(values[:, j])


def _filled_backwards(values: np.ndarray, j: int) -> None:
    """An unfinished hour that already shows how it will close."""
    for first in range(0, len(values), 60):
        values[first : first + 60, j] = values[min(first + 59, len(values) - 1), j]


def _smoothed_on_both_sides(values: np.ndarray, j: int) -> None:
    values[:, j] = np.convolve(np.nan_to_num(values[:, j]), np.ones(3) / 3, mode="same")


@pytest.mark.parametrize("plant", [_shifted, _normalised_by_the_whole, _filled_backwards, _smoothed_on_both_sides])
@pytest.mark.parametrize("victim", ["rsi_14", "log_return_1_1h", "spread"])
def test_a_planted_look_ahead_is_caught_by_name(plant: Callable[[np.ndarray, int], None], victim: str) -> None:
    times, rows = made_rows(1500)
    j = CORE.names.index(victim)

    def leaking(t: np.ndarray, r: np.ndarray) -> np.ndarray:
        values = compute(CORE, t, r)
        plant(values, j)
        return values

    assert set(find_look_ahead(leaking, CORE.names, times, rows, (130, 179, 777, 1259))) == {victim}


def _joined(times: np.ndarray, rows: np.ndarray, until_ms: int) -> np.ndarray:
    """Features with funding, open interest and marks of which only what was published by `until_ms` exists."""
    rows = rows.copy()
    first = int(times[0]) * 1000 - 30 * 86_400_000
    every = {"funding": 28_800_000, "interest": 300_000, "mark": 3_600_000}
    rng = np.random.default_rng(9)
    series = {}
    for name, step in every.items():
        stamps = np.arange(first - first % step, int(times[0]) * 1000 + 5 * 86_400_000, step)
        values = 100.0 + rng.normal(0.0, 1.0, len(stamps))
        known = stamps + (step if name == "mark" else 0) <= until_ms
        series[name] = (stamps[known], values[known])
    closes = times + 60
    join_funding(rows, closes, publish_funding(*series["funding"]))
    join_column(rows, closes, publish_interest(*series["interest"]), col.ROW_INTEREST)
    join_column(rows, closes, publish_mark(*series["mark"]), col.ROW_MARK)
    return compute(OUTSIDE, times, rows)


def test_joined_series_are_known_only_from_their_publication() -> None:
    times, rows = made_rows(2000)
    whole = _joined(times, rows, 2**62)
    for cut in (55, 60, 480, 481, 959, 1999):
        until_ms = (int(times[cut - 1]) + 60) * 1000
        np.testing.assert_array_equal(_joined(times[:cut], rows[:cut], until_ms), whole[:cut])
