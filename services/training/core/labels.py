"""Labels: what a bar was followed by, in the scale of the volatility known at that bar."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Classes: TypeAlias = npt.NDArray[np.int64]

DOWN, FLAT, UP = 0, 1, 2
EWMA_DECAY = 0.97
"""Memory of the volatility estimate: RiskMetrics' monthly decay, about 33 bars."""


def estimate_volatility(closes: Floats) -> Floats:
    """Return the EWMA deviation of one-bar log returns up to and including each bar, NaN for the first.

    RiskMetrics 1996: v = decay x v + (1 - decay) x r^2, seeded with the first squared return.
    """
    returns = np.diff(np.log(closes))
    variance = np.full(len(closes), np.nan)
    running = np.nan
    for position, value in enumerate(returns, start=1):
        squared = value * value
        running = squared if np.isnan(running) else EWMA_DECAY * running + (1.0 - EWMA_DECAY) * squared
        variance[position] = running
    deviation: Floats = np.sqrt(variance)
    return deviation


def forward_returns(closes: Floats, horizon: int) -> Floats:
    """Return ln(close `horizon` bars later / close), NaN where the future is not known yet."""
    forward = np.full(len(closes), np.nan)
    if horizon < len(closes):
        logs = np.log(closes)
        forward[:-horizon] = logs[horizon:] - logs[:-horizon]
    return forward


def scaled_moves(closes: Floats, horizon: int) -> Floats:
    """Return forward returns in units of the volatility over the horizon; NaN where either is unknown."""
    scale = estimate_volatility(closes) * np.sqrt(horizon)
    moves = forward_returns(closes, horizon)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(scale > 0.0, moves / scale, np.where(moves == 0.0, 0.0, np.nan))


def fit_dead_band(moves: Floats) -> float:
    """Return the dead band that makes a third of these scaled moves flat, which balances the classes by construction.

    Raises ValueError where no move is known.
    """
    known = np.abs(moves[np.isfinite(moves)])
    if not len(known):
        raise ValueError("no bar has a known move over the horizon; give more bars")
    return float(np.quantile(known, 1.0 / 3.0))


def classify(moves: Floats, dead_band: float) -> Classes:
    """Return DOWN, FLAT or UP per scaled move; moves of exactly the band are flat, unknown ones too."""
    return np.where(moves > dead_band, UP, np.where(moves < -dead_band, DOWN, FLAT)).astype(np.int64)
