from __future__ import annotations

import numpy as np
import pytest

from services.training.core.scores import brier_score, calibration_error, log_loss, score_forecasts


def test_log_loss_of_a_uniform_forecast_is_ln_3() -> None:
    assert log_loss(np.full((4, 3), 1 / 3), np.array([0, 1, 2, 0])) == pytest.approx(np.log(3))


def test_log_loss_agrees_with_a_hand_reckoned_case() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1]])
    assert log_loss(probabilities, np.array([0, 2])) == pytest.approx(-(np.log(0.7) + np.log(0.1)) / 2)


def test_brier_score_is_0_for_certainty_that_is_right_and_2_where_it_is_wrong() -> None:
    certain = np.array([[1.0, 0.0, 0.0]])
    assert brier_score(certain, np.array([0])) == 0.0
    assert brier_score(certain, np.array([2])) == 2.0


def test_calibration_error_is_the_gap_between_confidence_and_accuracy() -> None:
    probabilities = np.tile([0.9, 0.05, 0.05], (10, 1))
    classes = np.array([0] * 6 + [1] * 4)
    assert calibration_error(probabilities, classes) == pytest.approx(0.3)


def test_forecast_of_the_training_shares_has_no_skill() -> None:
    classes = np.array([0, 1, 2, 2])
    shares = np.array([0.25, 0.25, 0.5])
    scored = score_forecasts(np.tile(shares, (4, 1)), np.zeros(4), classes, np.array([1.0, -1.0, 2.0, 3.0]), classes)
    assert scored["skill_log_loss"] == pytest.approx(0.0)
    assert scored["skill_brier"] == pytest.approx(0.0)
    assert scored["return_skill"] == 0.0
    assert scored["accuracy"] == scored["accuracy_naive"] == 0.5


def test_called_directions_are_scored_by_what_they_earned() -> None:
    probabilities = np.array([[0.1, 0.1, 0.8], [0.8, 0.1, 0.1], [0.4, 0.2, 0.4], [0.1, 0.8, 0.1]])
    moved = np.array([10.0, 4.0, 50.0, 50.0])
    scored = score_forecasts(probabilities, np.zeros(4), np.array([2, 2, 2, 2]), moved, np.array([0, 1, 2]))
    assert scored["called_share"] == 0.5
    assert scored["directional_hit_rate"] == 0.5
    assert scored["called_return_bps"] == pytest.approx(3.0)


def test_nothing_called_is_0_and_not_nan() -> None:
    scored = score_forecasts(np.full((2, 3), 1 / 3), np.zeros(2), np.array([0, 2]), np.ones(2), np.array([0, 1, 2]))
    assert (scored["called_share"], scored["directional_hit_rate"], scored["called_return_bps"]) == (0.0, 0.0, 0.0)
