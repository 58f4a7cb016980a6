"""How much of a result is the choosing, beside `libs.portfolio.trials`: reality check, cross-validation, Monte Carlo.

Chance comes from the seed that is given. Returns are per step, not annualised; a matrix has a column per variant.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from libs.portfolio.trials import Floats, sharpe_ratios


def reality_check(returns: Floats, *, seed: int, draws: int = 1000, block_steps: float = 10.0) -> float | None:
    """Return the p-value of the best variant's mean against zero, the search among all of them taken into account.

    Source: White (2000), A Reality Check for Data Snooping, with the stationary bootstrap of Politis and Romano (1994);
    `block_steps` is the mean length of its blocks.
    """
    steps = len(returns)
    if steps < 2 or not returns.shape[1]:
        return None
    generator = np.random.default_rng(seed)
    means = returns.mean(axis=0)
    best = float(means.max())
    above = 0
    for _ in range(draws):
        drawn = returns[_stationary_places(generator, steps, block_steps)].mean(axis=0)
        above += bool(float((drawn - means).max()) >= best)
    return above / draws


def _stationary_places(generator: np.random.Generator, steps: int, block_steps: float) -> npt.NDArray[np.int64]:
    begins = generator.random(steps) < 1.0 / block_steps
    begins[0] = True
    starts = np.flatnonzero(begins)
    firsts = generator.integers(0, steps, len(starts))
    block = np.cumsum(begins) - 1
    places: npt.NDArray[np.int64] = (firsts[block] + np.arange(steps) - starts[block]) % steps
    return places


@dataclass(frozen=True, slots=True)
class MonteCarlo:
    """Percentiles (5, 50, 95) over draws of the net profit, in quote units, and of the deepest drawdown, as a share."""

    profit: tuple[float, float, float]
    drawdown: tuple[float, float, float]
    loss_probability: float


def resample_trades(profits: Sequence[float], equity: float, *, seed: int, draws: int = 2000) -> MonteCarlo | None:
    """Draw as many round trips as there were, with repeats, in any order; None without round trips."""
    if not profits:
        return None
    generator = np.random.default_rng(seed)
    drawn: Floats = generator.choice(np.asarray(profits, np.float64), (draws, len(profits)))
    return _summarise(np.asarray(np.cumsum(drawn, axis=1), np.float64), equity)


def resample_paths(
    returns: Floats, equity: float, *, seed: int, draws: int = 2000, block_steps: float = 10.0
) -> MonteCarlo | None:
    """Draw paths of the equity's returns in blocks that keep their neighbours together; None without returns."""
    if not len(returns):
        return None
    generator = np.random.default_rng(seed)
    paths = np.stack([returns[_stationary_places(generator, len(returns), block_steps)] for _ in range(draws)])
    return _summarise(np.asarray((np.cumprod(1.0 + paths, axis=1) - 1.0) * equity, np.float64), equity)


def _summarise(profits: Floats, equity: float) -> MonteCarlo:
    levels = np.concatenate((np.full((len(profits), 1), equity), equity + profits), axis=1)
    peaks = np.maximum.accumulate(levels, axis=1)
    deepest = ((peaks - levels) / peaks).max(axis=1)
    last = profits[:, -1]
    return MonteCarlo(_percentiles(last), _percentiles(deepest), float(np.mean(last < 0.0)))


def _percentiles(values: Floats) -> tuple[float, float, float]:
    low, middle, high = np.percentile(values, (5, 50, 95)).tolist()
    return low, middle, high


@dataclass(frozen=True, slots=True)
class CrossValidation:
    """What the chosen variants came to where they were not chosen: the Sharpe ratio per step of each path through the
    whole time, as percentiles (5, 50, 95), and the share of paths that lost."""

    paths: int
    sharpe: tuple[float, float, float]
    loss_share: float


def cross_validate_choice(
    returns: Floats, *, groups: int = 10, tests: int = 2, purge: int = 1, embargo: int = 1
) -> CrossValidation | None:
    """Choose the best variant by Sharpe ratio in all groups of time but some, and join what it came to in those.

    Every choice of `tests` of the `groups` is one split; steps nearer than `purge` before, or `purge` plus `embargo`
    behind, a tested group are left out of choosing. Source: Lopez de Prado (2018), Advances in Financial Machine
    Learning, chapter 12. None for fewer than two variants or too little time.
    """
    steps, variants = returns.shape
    size = steps // groups
    if variants < 2 or size < 2 * (2 * purge + embargo) or not 0 < tests < groups:
        return None
    group = np.minimum(np.arange(steps) // size, groups - 1)
    tested: list[list[Floats]] = [[] for _ in range(groups)]
    for chosen in itertools.combinations(range(groups), tests):
        is_test = np.isin(group, chosen)
        near = is_test.copy()
        for shift in range(1, purge + 1):
            near[:-shift] |= is_test[shift:]
        for shift in range(1, purge + embargo + 1):
            near[shift:] |= is_test[:-shift]
        inside = returns[~near]
        if len(inside) < 2:
            return None
        best = int(np.argmax(sharpe_ratios(inside.sum(axis=0), np.square(inside).sum(axis=0), len(inside))))
        for one in chosen:
            tested[one].append(returns[group == one, best])
    paths = np.stack([np.concatenate([tested[one][path] for one in range(groups)]) for path in range(len(tested[0]))])
    ratios = sharpe_ratios(paths.sum(axis=1), np.square(paths).sum(axis=1), steps)
    return CrossValidation(len(paths), _percentiles(ratios), float(np.mean(paths.sum(axis=1) < 0.0)))
