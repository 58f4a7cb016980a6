from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest

from services.training.core.distribution import COVERAGE, ReturnDistribution, fit_distribution

NORMAL = NormalDist()


def test_score_of_a_normal_distribution_is_the_closed_form() -> None:
    moves = np.array([NORMAL.inv_cdf((place + 0.5) / 20_000) for place in range(20_000)])
    fitted = fit_distribution(moves, np.ones(len(moves), dtype=np.int64), moves[:100], np.full((100, 3), 1 / 3))
    happened = np.array([-12.0, -1.3, 0.0, 0.4, 2.0, 10.0])
    scored = fitted.score(np.tile([0.0, 1.0, 0.0], (6, 1)), np.full(6, 5.0), happened * 5.0)
    # Gneiting and Raftery 2007: y (2 Phi(y) - 1) + 2 phi(y) - 1 / sqrt(pi).
    expected = [y * (2 * NORMAL.cdf(y) - 1) + 2 * NORMAL.pdf(y) - 1 / math.sqrt(math.pi) for y in happened]
    assert scored.crps_bps / 5.0 == pytest.approx(expected, abs=5e-3)


def test_interval_holds_its_share_whatever_the_model_says() -> None:
    chance = np.random.default_rng(1)
    classes = chance.integers(0, 3, 9_000)
    moves = chance.normal((classes - 1) * 2.0, 0.5)
    # A model that is sure, and wrong half the time.
    called = np.where(chance.random(9_000) < 0.5, classes, chance.integers(0, 3, 9_000))
    probabilities = np.eye(3)[called] * 0.97 + 0.01
    fitted = fit_distribution(moves[:3_000], classes[:3_000], moves[3_000:6_000], probabilities[3_000:6_000])
    low, high = fitted.interval(probabilities[6_000:])
    covered = ((low <= moves[6_000:]) & (moves[6_000:] <= high)).mean()
    assert covered == pytest.approx(COVERAGE, abs=0.02)
    plain_low, plain_high = ReturnDistribution(fitted.shares).interval(probabilities[6_000:])
    assert ((plain_low <= moves[6_000:]) & (moves[6_000:] <= plain_high)).mean() < 0.8


def test_forecast_that_knows_the_class_scores_better_than_one_that_does_not() -> None:
    chance = np.random.default_rng(2)
    classes = chance.integers(0, 3, 2_000)
    moves = chance.normal((classes - 1) * 1.0, 0.3)
    known, unknown = np.eye(3)[classes], np.full((2_000, 3), 1 / 3)
    fitted = fit_distribution(moves, classes, moves, unknown)
    deviations = np.ones(2_000)
    better, worse = (fitted.score(one, deviations, moves).crps_bps.mean() for one in (known, unknown))
    assert better < 0.6 * worse


def test_class_without_a_bar_and_a_bar_without_volatility_are_scored_all_the_same() -> None:
    moves = np.array([-1.0, 0.0, 1.0, 0.5])
    fitted = fit_distribution(moves, np.array([0, 1, 1, 1]), moves, np.full((4, 3), 1 / 3))
    scored = fitted.score(np.array([[0.0, 0.0, 1.0]]), np.array([0.0]), np.array([0.0]))
    assert np.isfinite([scored.crps_bps, scored.low_bps, scored.high_bps]).all()
