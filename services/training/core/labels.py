"""Labels: what a bar was followed by, entered at the next bar's open, which is the first price one can have.

Three kinds. ``terciles``: the return over the horizon in units of the volatility known at the bar; the dead band is
the training bars' tercile, which balances the classes. ``barrier``: which of two barriers the price touches first
within the horizon (the triple barrier of Lopez de Prado, Advances in Financial Machine Learning, 2018, chapter 3);
they are so many deviations away, and never nearer than a round trip costs. ``meta``: whether a rule's call should be
taken (ibid., 3.6): FLAT where the rule's side would not have earned its costs, else that side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from services.training.core.bars import BarTable

Floats: TypeAlias = npt.NDArray[np.float64]
Classes: TypeAlias = npt.NDArray[np.int64]
LabelKind: TypeAlias = Literal["terciles", "barrier", "meta"]

DOWN, FLAT, UP = 0, 1, 2
DAY_NS = 86_400 * 10**9
BPS = 1e4
EWMA_DECAY = 0.97
"""Memory of the volatility estimate: RiskMetrics' monthly decay, about 33 bars."""

ENTRY_DELAY = 1
"""Bars between the bar that is known and the one at whose open one enters."""


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """What to forecast. `horizon` is in bars; barriers are `barrier_deviations` away, at least `round_trip_bps`.

    `outlook_days` are those ahead that a model with an outlook forecasts too, 0 for none.
    """

    horizon: int
    kind: LabelKind = "terciles"
    barrier_deviations: float = 1.0
    round_trip_bps: float = 9.0
    outlook_days: int = 0

    def reach(self, step_ns: int) -> int:
        """Return the bars behind the example's own that its label looks at."""
        return max(self.horizon, self.outlook_days * (DAY_NS // step_ns)) + ENTRY_DELAY


@dataclass(frozen=True, slots=True)
class Labels:
    """Per bar: returns from the next open over the horizon in bps and in deviations, NaN where not known yet.

    `classes` are final for barriers and meta-labels; for terciles they need the training bars' dead band. `side` is
    the rule's call that a meta-label judges, else 0. `deviation_bps` is the volatility over the horizon known at the
    bar.
    """

    moved_bps: Floats
    moves: Floats
    classes: Classes | None
    side: Classes
    deviation_bps: Floats


def make_labels(bars: BarTable, options: LabelOptions) -> Labels:
    """Label every bar."""
    moved_bps = entered_returns(bars.open, options.horizon) * BPS
    deviation = estimate_volatility(bars.close) * np.sqrt(options.horizon)
    with np.errstate(divide="ignore", invalid="ignore"):
        moves = np.where(deviation > 0.0, moved_bps / BPS / deviation, np.where(moved_bps == 0.0, 0.0, np.nan))
    side = np.zeros(len(bars), dtype=np.int64)
    classes: Classes | None = None
    if options.kind != "terciles":
        widths = np.maximum(options.barrier_deviations * deviation, options.round_trip_bps / BPS)
        classes = touch_barriers(bars, widths, options.horizon)
    if options.kind == "meta":
        side = call_reversal(bars.close, options.horizon)
        assert classes is not None
        classes = meta_classes(classes, side)
    return Labels(moved_bps, moves, classes, side, deviation * BPS)


def entered_returns(opens: Floats, horizon: int) -> Floats:
    """Return ln(open `horizon` bars behind the next one / open of the next one), NaN where not known yet."""
    moved = np.full(len(opens), np.nan)
    if horizon + ENTRY_DELAY < len(opens):
        logs = np.log(opens)
        moved[: -horizon - ENTRY_DELAY] = logs[horizon + ENTRY_DELAY :] - logs[ENTRY_DELAY:-horizon]
    return moved


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


def touch_barriers(bars: BarTable, widths: Floats, horizon: int) -> Classes:
    """Return which barrier, `widths` (log) from the next open, is touched first within `horizon` bars of it.

    FLAT where neither is, where both are within one bar, whose order nobody knows, and at the end of the bars.
    """
    count = len(bars)
    classes = np.full(count, FLAT, dtype=np.int64)
    last = count - horizon - ENTRY_DELAY
    if last <= 0:
        return classes
    entry = np.log(bars.open[ENTRY_DELAY : ENTRY_DELAY + last])
    upper, lower = entry + widths[:last], entry - widths[:last]
    highs, lows = np.log(bars.high), np.log(bars.low)
    is_open = np.isfinite(widths[:last])
    for ahead in range(ENTRY_DELAY, ENTRY_DELAY + horizon):
        is_up = is_open & (highs[ahead : ahead + last] >= upper)
        is_down = is_open & (lows[ahead : ahead + last] <= lower)
        classes[:last][is_up & ~is_down] = UP
        classes[:last][is_down & ~is_up] = DOWN
        is_open &= ~(is_up | is_down)
    return classes


def call_reversal(closes: Floats, horizon: int) -> Classes:
    """Return the reversal rule's side: against the return of the last `horizon` bars; 0 where it is not known or 0."""
    side = np.zeros(len(closes), dtype=np.int64)
    side[horizon:] = -np.sign(closes[horizon:] - closes[:-horizon]).astype(np.int64)
    return side


def meta_classes(classes: Classes, side: Classes) -> Classes:
    """Return the side where the barrier on it was touched first, else FLAT: not to be taken."""
    wanted = np.where(side > 0, UP, np.where(side < 0, DOWN, -1))
    return np.where(classes == wanted, wanted, FLAT).astype(np.int64)


def fit_dead_band(moves: Floats) -> float:
    """Return the dead band that makes a third of these moves flat, which balances the classes by construction.

    Raises ValueError where no move is known.
    """
    known = np.abs(moves[np.isfinite(moves)])
    if not len(known):
        raise ValueError("no bar has a known move over the horizon; give more bars")
    return float(np.quantile(known, 1.0 / 3.0))


def classify(moves: Floats, dead_band: float | Floats) -> Classes:
    """Return DOWN, FLAT or UP per move; moves of exactly the band are flat, unknown ones too."""
    return np.where(moves > dead_band, UP, np.where(moves < -dead_band, DOWN, FLAT)).astype(np.int64)
