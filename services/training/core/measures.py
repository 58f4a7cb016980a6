"""How good forecasts are, over all out-of-sample bars pooled, each with an interval by resampling whole days.

Bars of one day are not independent: their horizons overlap. A day drawn with replacement keeps that together (Künsch's
block bootstrap, with the day as the block).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.training.core.distribution import ScoredReturns
from services.training.core.labels import DAY_NS, DOWN, FLAT, UP

Floats: TypeAlias = npt.NDArray[np.float64]
Classes: TypeAlias = npt.NDArray[np.int64]

RESAMPLES = 200
_COVERED = 0.95


@dataclass(frozen=True, slots=True)
class Measured:
    """A measure with the interval that holds it in 95 of 100 resamples of the days."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Forecasts:
    """Pooled forecasts of bars never fitted to, in order of time, and what followed.

    `score` is larger where up is likelier; for what gives no probabilities they are None. `times` are ns.
    """

    times: npt.NDArray[np.int64]
    score: Floats
    classes: Classes
    moved_bps: Floats
    expected_bps: Floats | None = None
    probabilities: Floats | None = None
    returns: ScoredReturns | None = None

    def __len__(self) -> int:
        return len(self.times)


def measure(forecasts: Forecasts, seed: int, resamples: int = RESAMPLES) -> dict[str, Measured]:
    """Measure forecasts. What needs probabilities or expected returns is left out where there are none.

    ``auc`` is of up against down over every bar that moved, by the sign of the return; ``auc_direction`` over bars
    whose class is not flat; ``auc_move`` of a move against flat. ``balanced_accuracy`` and ``direction_accuracy`` are
    of the sign; ``crps`` is in bps, ``coverage`` the share of returns in the interval, ``interval_bps`` its width.
    """
    days = forecasts.times // DAY_NS
    _, number_of = np.unique(days, return_inverse=True)
    counted = _measures_of(forecasts)
    plain = np.ones(len(forecasts))
    chance = np.random.default_rng(seed)
    count = int(number_of.max()) + 1 if len(number_of) else 0
    drawn: dict[str, list[float]] = {name: [] for name in counted}
    for _ in range(resamples):
        weights = np.bincount(chance.integers(0, count, count), minlength=count)[number_of].astype(np.float64)
        for name, one in counted.items():
            drawn[name].append(one(weights))
    return {name: Measured(one(plain), *_interval(drawn[name])) for name, one in counted.items()}


def _interval(drawn: list[float]) -> tuple[float, float]:
    known = np.array([one for one in drawn if np.isfinite(one)])
    if not len(known):
        return float("nan"), float("nan")
    edge = (1.0 - _COVERED) / 2.0
    low, high = np.quantile(known, (edge, 1.0 - edge))
    return float(low), float(high)


def _measures_of(forecasts: Forecasts) -> dict[str, Callable[[Floats], float]]:
    moved, classes, score = forecasts.moved_bps, forecasts.classes, forecasts.score
    has_moved, is_sided = moved != 0.0, classes != FLAT
    made: dict[str, Callable[[Floats], float]] = {
        "auc": _ranked(score[has_moved], moved[has_moved] > 0.0, has_moved),
        "auc_direction": _ranked(score[is_sided], classes[is_sided] == UP, is_sided),
        "balanced_accuracy": _balanced(score > 0.0, moved > 0.0, has_moved & (score != 0.0)),
        "direction_accuracy": _accuracy((score > 0.0) == (moved > 0.0), has_moved & (score != 0.0)),
    }
    if forecasts.expected_bps is not None:
        residuals, squares = (forecasts.expected_bps - moved) ** 2, moved**2
        made["r2"] = lambda weights: 1.0 - float(weights @ residuals) / max(1e-12, float(weights @ squares))
    if forecasts.probabilities is not None:
        made |= _probabilistic(forecasts.probabilities, classes)
    if forecasts.returns is not None:
        scored = forecasts.returns
        made["crps"] = _mean(scored.crps_bps)
        made["coverage"] = _mean(((scored.low_bps <= moved) & (moved <= scored.high_bps)).astype(np.float64))
        made["interval_bps"] = _mean(scored.high_bps - scored.low_bps)
    return made


def _mean(values: Floats) -> Callable[[Floats], float]:
    return lambda weights: float(weights @ values / weights.sum())


def _probabilistic(probabilities: Floats, classes: Classes) -> dict[str, Callable[[Floats], float]]:
    rows = np.arange(len(classes))
    losses = -np.log(np.clip(probabilities[rows, classes], 1e-12, 1.0))
    briers = ((probabilities - np.eye(3)[classes]) ** 2).sum(axis=1)
    chosen = probabilities.argmax(axis=1)
    confidence, is_right = probabilities.max(axis=1), chosen == classes
    bin_of = np.minimum((confidence * 10).astype(np.int64), 9)

    def calibration_error(weights: Floats) -> float:
        gaps = np.bincount(bin_of, weights * (confidence - is_right), minlength=10)
        return float(np.abs(gaps).sum() / weights.sum())

    def class_accuracy(weights: Floats) -> float:
        totals = np.bincount(classes, weights, minlength=3)
        right = np.bincount(classes, weights * is_right, minlength=3)
        return float(np.mean(right[totals > 0.0] / totals[totals > 0.0]))

    return {
        "auc_move": _ranked(1.0 - probabilities[:, FLAT], classes != FLAT, np.ones(len(classes), dtype=np.bool_)),
        "log_loss": lambda weights: float(weights @ losses / weights.sum()),
        "brier": lambda weights: float(weights @ briers / weights.sum()),
        "calibration_error": calibration_error,
        "class_balanced_accuracy": class_accuracy,
    }


def _ranked(score: Floats, positive: npt.NDArray[np.bool_], chosen: npt.NDArray[np.bool_]) -> Callable[[Floats], float]:
    """Return the area under the ROC curve as a function of weights: sorted once, ties counted half."""
    order = np.argsort(score, kind="stable")
    _, first, tie_of = np.unique(score[order], return_index=True, return_inverse=True)
    is_up = positive[order]

    def area(weights: Floats) -> float:
        if not len(score):
            return float("nan")
        sorted_weights = weights[chosen][order]
        ups = np.bincount(tie_of, sorted_weights * is_up, minlength=len(first))
        downs = np.bincount(tie_of, sorted_weights * ~is_up, minlength=len(first))
        below = np.cumsum(downs) - downs
        pairs = float(ups.sum() * downs.sum())
        return float(ups @ (below + 0.5 * downs)) / pairs if pairs > 0.0 else float("nan")

    return area


def _balanced(
    called: npt.NDArray[np.bool_], happened: npt.NDArray[np.bool_], counted: npt.NDArray[np.bool_]
) -> Callable[[Floats], float]:
    def accuracy(weights: Floats) -> float:
        ups, downs = weights * (counted & happened), weights * (counted & ~happened)
        if not ups.sum() or not downs.sum():
            return float("nan")
        return 0.5 * float(ups @ called / ups.sum() + downs @ ~called / downs.sum())

    return accuracy


def _accuracy(is_right: npt.NDArray[np.bool_], counted: npt.NDArray[np.bool_]) -> Callable[[Floats], float]:
    def accuracy(weights: Floats) -> float:
        total = float(weights @ counted)
        return float(weights @ (is_right & counted)) / total if total > 0.0 else float("nan")

    return accuracy


def side_score(probabilities: Floats) -> Floats:
    """Return P(up) - P(down)."""
    score: Floats = probabilities[:, UP] - probabilities[:, DOWN]
    return score
