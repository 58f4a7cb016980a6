from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.core.bars import BarTable
from services.training.core.labels import (
    DOWN,
    FLAT,
    UP,
    LabelOptions,
    call_reversal,
    classify,
    entered_returns,
    estimate_volatility,
    fit_dead_band,
    make_labels,
    meta_classes,
    touch_barriers,
)


def a_walk(count: int, seed: int = 1) -> np.ndarray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 1e-3, count)))


def bars_of(opens: list[float], highs: list[float] | None = None, lows: list[float] | None = None) -> BarTable:
    count = len(opens)
    values = np.array(opens)
    nothing = np.full(count, np.nan)
    return BarTable(
        timeframe="1m",
        open_times=np.arange(count, dtype=np.int64) * 60_000_000_000,
        open=values,
        high=np.array(highs or opens),
        low=np.array(lows or opens),
        close=values,
        volume=np.ones(count),
        quote_volume=nothing,
        trades=nothing,
        taker_buy_volume=nothing,
    )


def test_return_is_from_the_next_open_over_exactly_the_horizon() -> None:
    opens = np.array([100.0, 110.0, 121.0, 133.1, 146.41])
    moved = entered_returns(opens, 2)
    assert moved[:2] == pytest.approx([np.log(133.1 / 110.0), np.log(146.41 / 121.0)])
    assert np.isnan(moved[2:]).all()


def test_label_of_a_bar_does_not_depend_on_its_own_price_but_on_what_can_be_had() -> None:
    walk = a_walk(300)
    jumped = walk.copy()
    jumped[100] *= 1.05
    options = LabelOptions(horizon=5)
    plain, other = (make_labels(bars_of(prices.tolist()), options) for prices in (walk, jumped))
    assert other.moved_bps[100] == plain.moved_bps[100]


def test_first_barrier_touched_decides() -> None:
    opens = [100.0] * 8
    highs, lows = opens.copy(), opens.copy()
    highs[3], lows[4] = 101.0, 98.0
    classes = touch_barriers(bars_of(opens, highs, lows), np.full(8, 0.005), 3)
    # Bar 0 sees bars 1 to 3, bar 3 sees bars 4 to 6, the last four have no whole horizon ahead.
    assert classes.tolist() == [UP, UP, UP, DOWN, FLAT, FLAT, FLAT, FLAT]


def test_both_barriers_within_one_bar_tell_nothing() -> None:
    opens = [100.0] * 6
    highs, lows = opens.copy(), opens.copy()
    highs[1], lows[1], highs[2] = 101.0, 99.0, 101.0
    assert touch_barriers(bars_of(opens, highs, lows), np.full(6, 0.005), 3)[0] == FLAT


def test_barrier_is_never_nearer_than_a_round_trip_costs() -> None:
    prices = (100.0 * np.exp(np.cumsum(np.random.default_rng(1).normal(0, 1e-5, 400)))).tolist()
    labels = make_labels(bars_of(prices), LabelOptions(horizon=5, kind="barrier", round_trip_bps=9.0))
    assert labels.classes is not None
    assert (labels.classes == FLAT).all()


def test_meta_label_takes_the_side_that_was_touched_and_leaves_the_rest() -> None:
    classes = np.array([UP, UP, DOWN, DOWN, FLAT, UP])
    side = np.array([1, -1, -1, 1, 1, 0])
    assert meta_classes(classes, side).tolist() == [UP, FLAT, DOWN, FLAT, FLAT, FLAT]


def test_reversal_calls_against_the_last_return() -> None:
    assert call_reversal(np.array([1.0, 2.0, 1.5, 3.0]), 2).tolist() == [0, 0, -1, -1]


def test_volatility_of_constant_returns_is_that_return() -> None:
    closes = (100.0 * 1.01 ** np.arange(50)).astype(np.float64)
    volatility = estimate_volatility(closes)
    assert np.isnan(volatility[0])
    assert volatility[1:] == pytest.approx(np.full(49, np.log(1.01)))


def test_volatility_knows_nothing_of_later_bars() -> None:
    closes = a_walk(300)
    assert np.array_equal(estimate_volatility(closes)[:200], estimate_volatility(closes[:200]), equal_nan=True)


def test_dead_band_makes_a_third_flat() -> None:
    moves = make_labels(bars_of(a_walk(20_000).tolist()), LabelOptions(horizon=5)).moves
    band = fit_dead_band(moves)
    known = moves[np.isfinite(moves)]
    assert (classify(known, band) == FLAT).mean() == pytest.approx(1 / 3, abs=0.001)
    assert (classify(known, band) == UP).mean() == pytest.approx(1 / 3, abs=0.03)


def test_move_of_exactly_the_band_is_flat() -> None:
    assert classify(np.array([-0.5, -0.4, 0.4, 0.5]), 0.4).tolist() == [DOWN, FLAT, FLAT, UP]


def test_still_prices_are_flat_and_not_unknown() -> None:
    moves = make_labels(bars_of([100.0] * 20), LabelOptions(horizon=5)).moves
    assert (moves[1:14] == 0.0).all()
    assert np.isnan(moves[14:]).all()


def test_no_known_move_is_refused() -> None:
    with pytest.raises(ValueError, match="give more bars"):
        fit_dead_band(np.array([np.nan, np.nan]))


@pytest.mark.slow
@given(st.floats(0.01, 100.0))
def test_labels_do_not_depend_on_the_price_level(scale: float) -> None:
    closes = a_walk(400)
    options = LabelOptions(horizon=5)
    mine, other = (make_labels(bars_of(prices.tolist()), options).moves for prices in (closes, closes * scale))
    assert mine == pytest.approx(other, rel=1e-6, abs=1e-6, nan_ok=True)
