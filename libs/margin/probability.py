"""Chance that a price touches a barrier, such as a liquidation price, within a horizon: four estimates and a
simulation.

All take annual figures or any other unit of time, as long as volatility, drift, funding and horizon share it. The
price is a geometric Brownian motion dS/S = drift dt + volatility dW unless said otherwise, so its logarithm drifts by
drift - volatility^2 / 2. Funding paid by a long lifts its liquidation price as time goes on, and that of a short, who
receives it: seen from the barrier the price drifts that much less. Fees paid shrink the margin and bring the barrier
nearer by fee rate x spot. A test holds both against a simulated wallet. Statistics, so in floats.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from libs.margin.brackets import MarginError
from libs.margin.return_shape import HOURLY_RETURN_SHAPE
from libs.margin.student_t import log_normal_cdf, normal_cdf, student_t_cdf

# Shift of a barrier watched at discrete times, -zeta(1/2)/sqrt(2 pi) (Broadie, Glasserman and Kou 1997).
_DISCRETE_SHIFT = 0.5825971579390106
_PATHS_PER_BLOCK = 4096


@dataclass(frozen=True, slots=True)
class BarrierQuestion:
    """What to estimate. `spot` and `barrier` above zero; the barrier lies below for a long, above for a short.

    `volatility` is per square root of the unit of time, `drift`, `funding_rate` (positive: longs pay) and `horizon`
    per unit; `fee_rate` is a share of notional. Raises `MarginError` naming the first impossible number.
    """

    spot: float
    barrier: float
    volatility: float
    drift: float
    horizon: float
    funding_rate: float = 0.0
    fee_rate: float = 0.0

    def __post_init__(self) -> None:
        for name in ("spot", "barrier", "volatility", "drift", "horizon", "funding_rate", "fee_rate"):
            if not math.isfinite(getattr(self, name)):
                raise MarginError(f"{name}: {getattr(self, name)} is not a finite number")
        for name in ("spot", "barrier"):
            if getattr(self, name) <= 0.0:
                raise MarginError(f"{name}: {getattr(self, name)} must be above zero")
        for name in ("volatility", "horizon", "fee_rate"):
            if getattr(self, name) < 0.0:
                raise MarginError(f"{name}: {getattr(self, name)} must be zero or above")
        if 0.0 < self.volatility < 1e-9:
            raise MarginError(f"volatility: {self.volatility} is too small for its square; give 0 for none")
        if self.fee_rate >= 1.0:
            raise MarginError(f"fee_rate: {self.fee_rate} must be below 1; 0.0005 means 5 bps")

    @property
    def sign(self) -> int:
        """+1 where the barrier lies above the spot, -1 below."""
        return 1 if self.barrier > self.spot else -1

    @property
    def log_distance(self) -> float:
        """Logarithmic way to the barrier after fees, zero or above; 0 is touched already."""
        barrier = self.barrier - self.sign * self.fee_rate * self.spot
        return max(0.0, math.log(barrier / self.spot) * self.sign)

    @property
    def drift_toward(self) -> float:
        """Drift of the log price toward the barrier, funding included.

        Funding is paid on the way from spot to barrier, so on their mean, and moves the barrier by that much.
        """
        carry = self.funding_rate * (self.spot + self.barrier) / (2.0 * self.barrier)
        return self.sign * (self.drift - 0.5 * self.volatility**2 - carry)


@dataclass(frozen=True, slots=True)
class SimulatedProbability:
    """A simulated probability and its standard error."""

    probability: float
    standard_error: float


def _certain(question: BarrierQuestion) -> float | None:
    """The answer where nothing is uncertain."""
    if question.log_distance == 0.0:
        return 1.0
    if question.volatility == 0.0 or question.horizon == 0.0:
        return 1.0 if question.drift_toward * question.horizon >= question.log_distance else 0.0
    return None


def estimate_normal(question: BarrierQuestion) -> float:
    """Return the chance of ending beyond the barrier, the log return being normal: it ignores touching and
    returning.
    """
    certain = _certain(question)
    if certain is not None:
        return certain
    spread = question.volatility * math.sqrt(question.horizon)
    return normal_cdf((question.drift_toward * question.horizon - question.log_distance) / spread)


def estimate_student_t(question: BarrierQuestion, degrees_of_freedom: float = 4.0) -> float:
    """Return the chance of ending beyond the barrier with fat tails: Student's t scaled to the same variance.

    `degrees_of_freedom` must exceed 2, where the variance is finite; infinitely many are the normal.
    """
    if not degrees_of_freedom > 2.0:
        raise MarginError(f"degrees_of_freedom: {degrees_of_freedom} must be above 2, where the variance is finite")
    certain = _certain(question)
    if certain is not None:
        return certain
    spread = question.volatility * math.sqrt(question.horizon)
    scale = spread * math.sqrt(1.0 - 2.0 / degrees_of_freedom)
    return student_t_cdf((question.drift_toward * question.horizon - question.log_distance) / scale, degrees_of_freedom)


def estimate_first_passage(question: BarrierQuestion) -> float:
    """Return the chance of touching the barrier at any time, watched without pause; exact for the Brownian motion.

    Phi((mT - b)/(s sqrt T)) + exp(2 m b / s^2) Phi((-mT - b)/(s sqrt T)) with b the log distance and m the log drift
    toward the barrier (Harrison 1985, Brownian Motion and Stochastic Flow Systems, 1.8).
    """
    certain = _certain(question)
    if certain is not None:
        return certain
    spread = question.volatility * math.sqrt(question.horizon)
    travelled = question.drift_toward * question.horizon
    distance = question.log_distance
    reflected = 2.0 * question.drift_toward * distance / question.volatility**2
    again = math.exp(min(0.0, reflected + log_normal_cdf((-travelled - distance) / spread)))
    return min(1.0, normal_cdf((travelled - distance) / spread) + again)


def standardise(returns: Sequence[float]) -> npt.NDArray[np.float64]:
    """Return returns rescaled to mean 0 and variance 1. Raises `MarginError` for fewer than 20, NaN, or no
    variation.
    """
    values = np.asarray(returns, dtype=np.float64)
    if values.ndim != 1 or len(values) < 20:
        raise MarginError(f"returns: {values.size} are too few; give 20 or more")
    if not np.isfinite(values).all():
        raise MarginError(f"returns: entry {int(np.argmin(np.isfinite(values)))} is not a finite number")
    deviation = float(values.std())
    if deviation == 0.0:
        raise MarginError("returns: all are equal; there is nothing to resample")
    standardised: npt.NDArray[np.float64] = (values - values.mean()) / deviation
    return standardised


def estimate_bootstrap(
    question: BarrierQuestion,
    seed: int,
    returns: Sequence[float] = HOURLY_RETURN_SHAPE,
    paths: int = 20_000,
    steps: int = 96,
) -> SimulatedProbability:
    """Return the chance of touching the barrier when steps are drawn from past returns, rescaled to the volatility.

    `returns` gives only the shape. The barrier is watched at every step and moved for the time between them. The same
    seed gives the same answer.
    """
    if paths < 1 or steps < 1:
        raise MarginError(f"paths and steps: {paths} and {steps} must be 1 or above")
    shape = standardise(returns)
    certain = _certain(question)
    if certain is not None:
        return SimulatedProbability(certain, 0.0)
    generator = np.random.default_rng(seed)
    step_time = question.horizon / steps
    step_spread = question.volatility * math.sqrt(step_time)
    distance = max(0.0, question.log_distance - _DISCRETE_SHIFT * step_spread)
    touched = 0
    for start in range(0, paths, _PATHS_PER_BLOCK):
        count = min(_PATHS_PER_BLOCK, paths - start)
        drawn = generator.integers(0, len(shape), size=(count, steps))
        travelled = np.cumsum(question.drift_toward * step_time + step_spread * question.sign * shape[drawn], axis=1)
        touched += int((travelled.max(axis=1) >= distance).sum())
    return _simulated(touched / paths, paths)


def simulate_first_passage(
    question: BarrierQuestion, seed: int, paths: int = 50_000, steps: int = 32
) -> SimulatedProbability:
    """Return the chance of touching the barrier by Monte Carlo, without the bias of discrete steps.

    Between steps the chance of a touch given both ends is that of the Brownian bridge, exp(-2 (b - x0)(b - x1) / (s^2
    dt)), 1 where an end lies beyond.
    """
    if paths < 2 or steps < 1:
        raise MarginError(f"paths and steps: {paths} and {steps} must be 2 and 1 or above")
    certain = _certain(question)
    if certain is not None:
        return SimulatedProbability(certain, 0.0)
    generator = np.random.default_rng(seed)
    step_time = question.horizon / steps
    variance = question.volatility**2 * step_time
    total = squares = 0.0
    for start in range(0, paths, _PATHS_PER_BLOCK):
        count = min(_PATHS_PER_BLOCK, paths - start)
        moves = generator.standard_normal((count, steps)) * math.sqrt(variance) + question.drift_toward * step_time
        ends = np.cumsum(moves, axis=1)
        gaps_after = np.maximum(0.0, question.log_distance - ends)
        gaps_before = np.maximum(0.0, question.log_distance - (ends - moves))
        crossing = np.exp(-2.0 * gaps_before * gaps_after / variance)
        chances = 1.0 - np.prod(1.0 - crossing, axis=1)
        total += float(chances.sum())
        squares += float((chances**2).sum())
    mean = total / paths
    return SimulatedProbability(mean, math.sqrt(max(0.0, squares / paths - mean**2) / (paths - 1)))


def _simulated(share: float, paths: int) -> SimulatedProbability:
    return SimulatedProbability(share, math.sqrt(share * (1.0 - share) / paths))


def without_costs(question: BarrierQuestion) -> BarrierQuestion:
    """Return the same question with funding and fees left out, to see what they add."""
    return replace(question, funding_rate=0.0, fee_rate=0.0)
