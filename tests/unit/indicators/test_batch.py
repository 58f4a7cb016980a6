"""What the batch refuses by row, what it notes and lives with, and its point-in-time joins."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from libs.indicators import columns as col
from libs.indicators.batch import (
    InputError,
    InputNotes,
    check_rows,
    drop_repeats,
    infer_step,
    name_timeframe,
    round_rows,
    warm_up_bars,
)
from libs.indicators.feature_set import FeatureSet, features_of
from libs.indicators.joins import join_column, join_funding, join_mark, publish_funding, publish_interest, publish_mark
from tests.unit.indicators.recorded import BTC_5M, SPOT_1H, compute, made_rows, recorded_rows, same_bits


def _check(times: np.ndarray, rows: np.ndarray, first_row: int = 1000) -> InputNotes:
    notes = InputNotes()
    numbers = np.arange(first_row, first_row + len(times))
    times, rows, numbers = drop_repeats(times, rows, numbers, None, notes)
    check_rows(times, rows, numbers, 60, None, notes)
    return notes


def _set(column: int, value: float) -> Callable[[np.ndarray, np.ndarray], None]:
    def change(_times: np.ndarray, rows: np.ndarray) -> None:
        rows[7, column] = value

    return change


def _swap(times: np.ndarray, _rows: np.ndarray) -> None:
    times[[6, 7]] = times[[7, 6]]


def _off_grid(times: np.ndarray, _rows: np.ndarray) -> None:
    times[7] += 7


def _repeat_otherwise(times: np.ndarray, _rows: np.ndarray) -> None:
    times[7] = times[6]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set(col.ROW_CLOSE, np.nan), r"row 1007 \(open_time 2026-01-01T00:07:00Z\) has no finite close"),
        (_set(col.ROW_VOLUME, np.nan), "row 1007 .* has no finite volume"),
        (_set(col.ROW_HIGH, np.inf), "row 1007 .* has no finite high"),
        (_set(col.ROW_OPEN, 0.0), "row 1007 .* has a open that is not above zero"),
        (_set(col.ROW_LOW, -3.0), "row 1007 .* has a low that is not above zero"),
        (_set(col.ROW_LOW, 4e-9), "row 1007 .* has a low that is not above zero"),
        (_set(col.ROW_CLOSE, 1.0), "row 1007 .* has close outside low and high"),
        (_set(col.ROW_VOLUME, -1.0), r"row 1007 .* has a negative volume; fix the row \(-1.0\)"),
        (_set(col.ROW_TAKER, 1e9), "row 1007 .* has taker_buy_volume above volume"),
        (_set(col.ROW_FUNDING, np.inf), "row 1007 .* has an infinite funding_rate; leave it empty"),
        (_swap, "row 1007 .* is not later than the row before it; sort the file"),
        (_off_grid, "row 1007 .* does not start on a multiple of 1m in UTC"),
        (_repeat_otherwise, "row 1007 .* repeats the time of the row before it with other values"),
    ],
)
def test_a_wrong_row_is_refused_by_its_number(change: Callable, message: str) -> None:
    times, rows = made_rows(20)
    change(times, rows)
    with pytest.raises(InputError, match=message):
        _check(times, rows)


def test_further_wrong_rows_are_counted() -> None:
    times, rows = made_rows(20)
    rows[5:9, col.ROW_CLOSE] = np.nan
    with pytest.raises(InputError, match=r"row 1005 .* 3 more such rows"):
        _check(times, rows)


def test_gaps_repeats_and_silent_bars_are_noted_with_their_row() -> None:
    times, rows = made_rows(30)
    rows[12, [col.ROW_VOLUME, col.ROW_TAKER]] = 0.0
    keep = [*range(10), 9, *range(13, 30), *range(29, 30)]
    rows[13] = rows[12]
    notes = _check(times[keep], rows[keep])
    assert (notes.rows, notes.duplicates, notes.first_duplicate_row) == (27, 2, 1010)
    assert (notes.gaps, notes.missing_bars, notes.first_gap_row) == (1, 3, 1011)
    assert (notes.zero_volume_bars, notes.first_zero_volume_row) == (1, 1011)


def test_repeats_across_pieces_are_found() -> None:
    times, rows = made_rows(10)
    notes = InputNotes()
    last = (int(times[4]), rows[4])
    kept, _rows, numbers = drop_repeats(times[4:], rows[4:], np.arange(4, 10), last, notes)
    assert kept.tolist() == times[5:].tolist()
    assert numbers.tolist() == list(range(5, 10))
    assert notes.first_duplicate_row == 4


def test_recorded_outages_are_gaps_not_faults() -> None:
    times, rows = recorded_rows(SPOT_1H)
    notes = InputNotes()
    check_rows(times, rows, np.arange(len(times)), infer_step(times), None, notes)
    assert (notes.rows, notes.gaps, notes.missing_bars, notes.zero_volume_bars) == (65590, 27, 122, 3)


@pytest.mark.slow
def test_recorded_bars_without_volume_give_no_infinity() -> None:
    times, rows = recorded_rows(BTC_5M)
    at = int(np.flatnonzero(rows[:, col.ROW_VOLUME] == 0.0)[0])
    chosen = FeatureSet("x", 1, tuple(features_of("amihud") + features_of("vroc") + features_of("vwap", n=2)))
    out = compute(chosen, times[at - 500 : at + 500], rows[at - 500 : at + 500], 300)
    assert not np.isinf(out).any()
    assert not np.isnan(out[21:]).any()


def test_step_is_the_commonest_one() -> None:
    assert infer_step(np.array([0, 60, 120, 600, 660])) == 60
    with pytest.raises(InputError, match="fewer than two bars"):
        infer_step(np.array([60]))


@pytest.mark.parametrize(("seconds", "name"), [(60, "1m"), (86400, "1d"), (180, "3m"), (7200, "2h"), (90, "90s")])
def test_timeframes_are_named_as_usual(seconds: int, name: str) -> None:
    assert name_timeframe(seconds) == name


def test_rows_are_rounded_to_the_wires_eight_decimals() -> None:
    _times, rows = made_rows(3)
    rows[0, col.ROW_CLOSE] = 0.1 + 0.2
    rows[1, col.ROW_CLOSE] = 1234567890.1234567
    round_rows(rows)
    assert rows[0, col.ROW_CLOSE] == 0.3
    assert rows[1, col.ROW_CLOSE] == 1234567890.1234567


def test_everything_is_known_after_the_stated_number_of_bars() -> None:
    chosen = FeatureSet("x", 1, tuple(features_of("rsi", "1h", n=3) + features_of("sma", n=20)))
    stated = warm_up_bars(chosen, 60)
    for late in (0, 1, 59, 30):
        times, rows = made_rows(400)
        out = compute(chosen, times[late:], rows[late:])
        assert not np.isnan(out[stated - 1 :]).any()


HOUR = 3_600_000
MIDNIGHT = 1_767_225_600


def _joined(join: Callable[[np.ndarray, np.ndarray], None], closes: list[int], column: int) -> list[float]:
    rows = np.full((len(closes), col.ROW_WIDTH), np.nan)
    join(rows, np.array([MIDNIGHT + close for close in closes], dtype=np.int64))
    return rows[:, column].tolist()


def test_funding_is_known_from_its_settlement_until_two_intervals_later() -> None:
    times = MIDNIGHT * 1000 + np.array([0, 8, 16]) * HOUR
    funding = publish_funding(times, np.array([1e-4, 2e-4, 3e-4]))
    closes = [0, 60, 8 * 3600, 8 * 3600 + 60, 32 * 3600, 32 * 3600 + 60]
    rates = _joined(lambda rows, at: join_funding(rows, at, funding), closes, col.ROW_SETTLED_FUNDING)
    np.testing.assert_array_equal(rates, [np.nan, 1e-4, 1e-4, 2e-4, 3e-4, np.nan])
    following = _joined(lambda rows, at: join_funding(rows, at, funding), closes, col.ROW_NEXT_FUNDING)
    hours = (np.array(following) - MIDNIGHT) / 3600
    # The bar that ends with a settlement still has it as its next.
    np.testing.assert_array_equal(hours, [np.nan, 8, 8, 16, 32, np.nan])


def test_a_settlement_stamped_some_ms_late_counts_from_the_next_close() -> None:
    funding = publish_funding(np.array([MIDNIGHT * 1000, MIDNIGHT * 1000 + 8 * HOUR + 3]), np.array([1e-4, 2e-4]))
    closes = [8 * 3600 + 60, 8 * 3600 + 120]
    rates = _joined(lambda rows, at: join_funding(rows, at, funding), closes, col.ROW_SETTLED_FUNDING)
    assert rates == [1e-4, 2e-4]
    following = _joined(lambda rows, at: join_funding(rows, at, funding), closes, col.ROW_NEXT_FUNDING)
    assert [(one - MIDNIGHT) / 3600 for one in following] == [16, 16]


def test_a_mark_of_an_earlier_bar_says_nothing_of_this_one() -> None:
    mark = publish_mark(MIDNIGHT * 1000 + np.array([0, 1]) * HOUR, np.array([100.0, 101.0]))
    closes = [3600, 3900, 7200]
    marks = _joined(lambda rows, at: join_mark(rows, at, mark, col.ROW_MARK, 300), closes, col.ROW_MARK)
    np.testing.assert_array_equal(marks, [100.0, np.nan, 101.0])


def test_a_mark_bar_is_known_when_it_closes_and_until_the_next_is_due() -> None:
    mark = publish_mark(MIDNIGHT * 1000 + np.array([0, 1, 3]) * HOUR, np.array([100.0, 101.0, 103.0]))
    closes = [3540, 3600, 7199, 7200, 3 * 3600, 4 * 3600]
    marks = _joined(lambda rows, at: join_column(rows, at, mark, col.ROW_MARK), closes, col.ROW_MARK)
    np.testing.assert_array_equal(marks, [np.nan, 100.0, 100.0, 101.0, np.nan, 103.0])


def test_marks_of_a_regular_file_follow_each_other_without_a_hole() -> None:
    mark = publish_mark(MIDNIGHT * 1000 + np.arange(3) * HOUR, np.array([100.0, 101.0, 102.0]))
    closes = [3540, 3600, 7140, 7200, 10_800, 14_340, 14_400]
    marks = _joined(lambda rows, at: join_column(rows, at, mark, col.ROW_MARK), closes, col.ROW_MARK)
    np.testing.assert_array_equal(marks, [np.nan, 100.0, 100.0, 101.0, 102.0, 102.0, np.nan])


def test_open_interest_is_known_from_its_stamp_until_two_steps_later() -> None:
    interest = publish_interest(MIDNIGHT * 1000 + np.arange(3) * 300_000, np.array([10.0, 11.0, 12.0]))
    closes = [-60, 0, 299, 300, 1199, 1200]
    joined = _joined(lambda rows, at: join_column(rows, at, interest, col.ROW_INTEREST), closes, col.ROW_INTEREST)
    np.testing.assert_array_equal(joined, [np.nan, 10.0, 10.0, 11.0, 12.0, np.nan])


@pytest.mark.parametrize(
    ("times", "values", "message"),
    [
        ([], [], "no rows"),
        ([0, 2, 1], [1.0, 1.0, 1.0], "row 2 .* is not later"),
        ([0, 1, 1], [1.0, 1.0, 1.0], "row 2 .* is not later"),
        ([0, 1, 2], [1.0, np.nan, 1.0], "row 1 has no finite close"),
        ([0, 1, 2], [1.0, 1.0, 0.0], "row 2 has a close that is not above zero"),
    ],
)
def test_a_wrong_series_is_refused_by_row(times: list[int], values: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        publish_mark(np.array(times, dtype=np.int64) * HOUR, np.array(values))


def test_rows_that_were_not_joined_are_untouched() -> None:
    times, rows = made_rows(50)
    mark = publish_mark(times * 1000, rows[:, col.ROW_CLOSE].copy())
    before = rows.copy()
    join_column(rows, times + 60, mark, col.ROW_MARK)
    others = [j for j in range(col.ROW_WIDTH) if j != col.ROW_MARK]
    assert same_bits(rows[:, others].copy(), before[:, others].copy()).all()
