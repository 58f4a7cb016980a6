from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.training.core.labels import (
    DOWN,
    FLAT,
    UP,
    classify,
    estimate_volatility,
    fit_dead_band,
    forward_returns,
    scaled_moves,
)


def a_walk(count: int, seed: int = 1) -> np.ndarray:
    return 100.0 * np.exp(np.cumsum(np.random.default_rng(seed).normal(0, 1e-3, count)))


def test_forward_return_looks_exactly_the_horizon_ahead() -> None:
    closes = np.array([100.0, 110.0, 121.0, 133.1])
    forward = forward_returns(closes, 2)
    assert forward[:2] == pytest.approx([np.log(1.21), np.log(1.21)])
    assert np.isnan(forward[2:]).all()


def test_volatility_of_constant_returns_is_that_return() -> None:
    closes = (100.0 * 1.01 ** np.arange(50)).astype(np.float64)
    volatility = estimate_volatility(closes)
    assert np.isnan(volatility[0])
    assert volatility[1:] == pytest.approx(np.full(49, np.log(1.01)))


def test_volatility_knows_nothing_of_later_bars() -> None:
    closes = a_walk(300)
    assert np.array_equal(estimate_volatility(closes)[:200], estimate_volatility(closes[:200]), equal_nan=True)


def test_dead_band_makes_a_third_flat() -> None:
    moves = scaled_moves(a_walk(20_000), 5)
    band = fit_dead_band(moves)
    known = moves[np.isfinite(moves)]
    assert (classify(known, band) == FLAT).mean() == pytest.approx(1 / 3, abs=0.001)
    assert (classify(known, band) == UP).mean() == pytest.approx(1 / 3, abs=0.03)


def test_move_of_exactly_the_band_is_flat() -> None:
    assert classify(np.array([-0.5, -0.4, 0.4, 0.5]), 0.4).tolist() == [DOWN, FLAT, FLAT, UP]


def test_still_prices_are_flat_and_not_unknown() -> None:
    moves = scaled_moves(np.full(20, 100.0), 5)
    assert (moves[1:15] == 0.0).all()
    assert np.isnan(moves[15:]).all()


def test_no_known_move_is_refused() -> None:
    with pytest.raises(ValueError, match="give more bars"):
        fit_dead_band(scaled_moves(np.array([1.0, 2.0]), 5))


@pytest.mark.slow
@given(st.floats(0.01, 100.0))
def test_labels_do_not_depend_on_the_price_level(scale: float) -> None:
    closes = a_walk(400)
    mine, other = scaled_moves(closes, 5), scaled_moves(closes * scale, 5)
    assert mine == pytest.approx(other, rel=1e-6, abs=1e-6, nan_ok=True)
