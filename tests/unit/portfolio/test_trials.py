"""How much of the best of many trials is luck."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
import pytest

from libs.portfolio.trials import deflated_sharpe, overfitting_probability

NOISE = np.random.default_rng(3).normal(0.0, 0.01, (640, 20))


def with_edge(edge: float) -> npt.NDArray[np.float64]:
    returns = NOISE.copy()
    returns[:, 7] += edge
    return returns


def test_deflated_sharpe_is_that_of_the_papers_example() -> None:
    # Bailey and Lopez de Prado (2014), section "A numerical example": 0.9004.
    found = deflated_sharpe(2.5 / math.sqrt(250), steps=1250, skew=-3.0, kurtosis=10.0, trials=100, variance=0.5 / 250)
    assert found == pytest.approx(0.9004, abs=5e-5)


def test_one_trial_is_held_against_nothing_and_none_against_any() -> None:
    alone = deflated_sharpe(0.1, steps=101, skew=0.0, kurtosis=3.0, trials=1, variance=0.1)
    assert alone == pytest.approx(NormalDist().cdf(1.0 / math.sqrt(1.0 + 0.1**2 / 2)))
    assert deflated_sharpe(0.1, steps=1, skew=0.0, kurtosis=3.0, trials=1, variance=0.1) is None
    assert deflated_sharpe(2.0, steps=100, skew=3.0, kurtosis=3.0, trials=2, variance=0.1) is None


def test_overfitting_is_likely_among_variants_of_noise_and_unlikely_with_a_real_edge() -> None:
    noise, edge = overfitting_probability(NOISE, 10), overfitting_probability(with_edge(0.004), 10)
    assert noise is not None
    assert 0.25 < noise < 0.9
    assert edge == 0.0
    assert overfitting_probability(NOISE[:, :1]) is None
    assert overfitting_probability(NOISE[:31], 16) is None


def test_trials_that_never_trade_do_not_beat_one_another() -> None:
    assert overfitting_probability(np.zeros((640, 5))) == 1.0
