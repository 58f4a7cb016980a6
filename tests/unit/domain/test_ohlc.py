"""One rule makes bars: of trades, of minutes, of any number of bars in a row."""

from __future__ import annotations

from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.ohlc import merge_prices, merge_runs

PRICES = st.integers(1, 10**15)
BARS = st.lists(st.tuples(PRICES, PRICES, PRICES, PRICES), min_size=1, max_size=40)


@pytest.mark.slow
def test_the_first_part_is_the_bar() -> None:
    assert merge_prices(True, (9, 9, 9, 9), (5, 7, 3, 6)) == (5, 7, 3, 6)


def test_a_later_part_moves_the_close_and_what_it_exceeds() -> None:
    assert merge_prices(False, (5, 7, 3, 6), (6, 8, 4, 5)) == (5, 8, 3, 5)
    assert merge_prices(False, (5.0, 7.0, 3.0, 6.0), (6.0, 6.5, 2.5, 2.5)) == (5.0, 7.0, 2.5, 2.5)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(BARS, st.integers(1, 45))
def test_runs_are_the_bars_merged_one_by_one_and_the_last_may_be_short(bars: list, size: int) -> None:
    columns = [np.array(column, dtype=np.int64) for column in zip(*bars, strict=True)]
    merged = list(zip(*(column.tolist() for column in merge_runs(*columns, size)), strict=True))
    runs = [bars[first : first + size] for first in range(0, len(bars), size)]
    assert merged == [reduce(lambda whole, part: merge_prices(False, whole, part), run) for run in runs]
    assert merged == [(run[0][0], max(bar[1] for bar in run), min(bar[2] for bar in run), run[-1][3]) for run in runs]
