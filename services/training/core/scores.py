"""How good probabilities are: against what happened and against naive forecasts."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.training.core.labels import DOWN, FLAT, UP

Floats: TypeAlias = npt.NDArray[np.float64]
Classes: TypeAlias = npt.NDArray[np.int64]

CONFIDENT = 0.45
"""A direction counts as called when its probability is at least this."""


def log_loss(probabilities: Floats, classes: Classes) -> float:
    """Return the mean of -ln p(class), in nats; (n, 3) probabilities, (n,) classes."""
    chosen = probabilities[np.arange(len(classes)), classes]
    return float(-np.log(np.clip(chosen, 1e-12, 1.0)).mean())


def brier_score(probabilities: Floats, classes: Classes) -> float:
    """Return the mean squared distance from the outcome (Brier 1950), in [0, 2]."""
    outcome = np.eye(probabilities.shape[1])[classes]
    return float(((probabilities - outcome) ** 2).sum(axis=1).mean())


def calibration_error(probabilities: Floats, classes: Classes, bins: int = 10) -> float:
    """Return the expected calibration error of the largest probability (Guo et al. 2017), in [0, 1]."""
    confidence = probabilities.max(axis=1)
    is_right = probabilities.argmax(axis=1) == classes
    bin_of = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    error = 0.0
    for number in range(bins):
        inside = bin_of == number
        if inside.any():
            error += float(inside.mean()) * abs(float(confidence[inside].mean()) - float(is_right[inside].mean()))
    return error


def score_forecasts(
    probabilities: Floats, expected_bps: Floats, classes: Classes, moved_bps: Floats, train_classes: Classes
) -> dict[str, float]:
    """Score a test window against the naive forecasts: the training's class shares, and no move at all.

    `skill_*` is 1 - model / naive: above zero is better than naive. `directional_hit_rate` counts the called
    directions (see `CONFIDENT`) whose return had the called sign; NaN-free: 0 where none was called.
    """
    shares = np.bincount(train_classes, minlength=3) / len(train_classes)
    naive = np.broadcast_to(shares, probabilities.shape)
    loss, naive_loss = log_loss(probabilities, classes), log_loss(naive, classes)
    brier, naive_brier = brier_score(probabilities, classes), brier_score(naive, classes)
    squared = float(((expected_bps - moved_bps) ** 2).mean())
    naive_squared = float((moved_bps**2).mean())
    called = (probabilities.argmax(axis=1) != FLAT) & (probabilities.max(axis=1) >= CONFIDENT)
    direction = np.where(probabilities[:, UP] > probabilities[:, DOWN], 1.0, -1.0)
    hits = (direction * moved_bps)[called]
    return {
        "rows": float(len(classes)),
        "accuracy": float((probabilities.argmax(axis=1) == classes).mean()),
        "accuracy_naive": float((classes == int(shares.argmax())).mean()),
        "log_loss": loss,
        "log_loss_naive": naive_loss,
        "skill_log_loss": 1.0 - loss / naive_loss,
        "brier": brier,
        "brier_naive": naive_brier,
        "skill_brier": 1.0 - brier / naive_brier,
        "calibration_error": calibration_error(probabilities, classes),
        "return_skill": 1.0 - squared / naive_squared if naive_squared > 0.0 else 0.0,
        "called_share": float(called.mean()),
        "directional_hit_rate": float((hits > 0.0).mean()) if len(hits) else 0.0,
        "called_return_bps": float(hits.mean()) if len(hits) else 0.0,
        "share_down": float((classes == DOWN).mean()),
        "share_flat": float((classes == FLAT).mean()),
        "share_up": float((classes == UP).mean()),
    }
