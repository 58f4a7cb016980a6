"""What forecasts would have earned: one decision per horizon, from open to open, after fees, spread and funding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.training.core.labels import DAY_NS

Floats: TypeAlias = npt.NDArray[np.float64]
Times: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Costs:
    """What trading costs, in bps of the notional: fee and half the spread on each side, funding per hour held long."""

    fee_bps: float = 4.5
    half_spread_bps: float = 0.1
    funding_bps_per_hour: float = 0.0

    @property
    def side_bps(self) -> float:
        """The cost of changing the position by its whole size."""
        return self.fee_bps + self.half_spread_bps

    @property
    def round_trip_bps(self) -> float:
        """The cost of going in and out."""
        return 2.0 * self.side_bps


@dataclass(frozen=True, slots=True)
class Traded:
    """Days (numbers since the epoch), their net and gross returns in bps, and how often a position was changed."""

    days: Times
    net_bps: Floats
    gross_bps: Floats
    trades: int


def trade(times: Times, positions: Floats, moved_bps: Floats, horizon_ns: int, costs: Costs) -> Traded:
    """Hold `positions` (in [-1, 1]), decided at `times`, for one horizon each.

    A decision is taken whenever the last one's horizon has passed, so that no two overlap; staying costs nothing, a
    change costs its size, and what is open at a gap or at the end is closed. Every day with a bar is a day, earning or
    not.
    """
    days = np.unique(times // DAY_NS)
    net, gross = np.zeros(len(days)), np.zeros(len(days))
    held, trades, free_at, place = 0.0, 0, 0, 0
    count = len(times)
    hours = horizon_ns / 3.6e12
    while place < count:
        number = int(np.searchsorted(days, times[place] // DAY_NS))
        if times[place] > free_at and held:
            net[number] -= costs.side_bps * abs(held)
            held, trades = 0.0, trades + 1
        position = float(positions[place])
        change = abs(position - held)
        earned = position * float(moved_bps[place])
        gross[number] += earned
        net[number] += earned - change * costs.side_bps - position * costs.funding_bps_per_hour * hours
        trades += change > 0.0
        held = position
        free_at = int(times[place]) + horizon_ns
        place = int(np.searchsorted(times, free_at, side="left"))
    if held:
        net[-1] -= costs.side_bps * abs(held)
        trades += 1
    return Traded(days, net, gross, trades)


def decide(expected_bps: Floats, costs: Costs) -> Floats:
    """Return the side whose expected return beats a round trip, else 0."""
    return np.where(np.abs(expected_bps) > costs.round_trip_bps, np.sign(expected_bps), 0.0)


def sharpe_ratio(daily_bps: Floats) -> float:
    """Return the daily mean over the daily deviation, a year's worth (365 days); 0 where nothing varies."""
    deviation = float(daily_bps.std())
    return float(daily_bps.mean()) / deviation * float(np.sqrt(365.0)) if deviation > 0.0 else 0.0


def resample_mean(daily_bps: Floats, seed: int, resamples: int = 1000) -> tuple[float, float]:
    """Return the interval that holds the daily mean in 95 of 100 resamples of the days."""
    chance = np.random.default_rng(seed)
    drawn = daily_bps[chance.integers(0, len(daily_bps), (resamples, len(daily_bps)))].mean(axis=1)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)
