"""Splits with purge and embargo, so that no label of training reaches into what is tested, nor the other way round.

After Lopez de Prado, Advances in Financial Machine Learning, 2018, chapters 7 (purge, embargo) and 12 (combinatorial).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Places: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fold:
    """Bars (by number) to train on, to calibrate on and to test on, apart by purge and embargo."""

    train: Places
    calibrate: Places
    test: Places


def split_walk_forward(
    usable: Places, *, folds: int, purge_bars: int, embargo_bars: int, calibration_share: float
) -> list[Fold]:
    """Split usable bars into expanding training windows, each followed by its test window.

    The first third is trained on at least; the rest is cut into `folds` equal test windows, each tested by what was
    fitted to everything before it. Of a training stretch the last `calibration_share` calibrates. Before every later
    part, bars closer than `purge_bars` (the labels' reach) plus `embargo_bars` are left out. Raises ValueError where a
    part would be empty.
    """
    if folds < 1:
        raise ValueError(f"folds is {folds}, must be at least 1")
    edges = [int(edge) for edge in np.linspace(len(usable) // 3, len(usable), folds + 1)]
    made = []
    for number, (first, last) in enumerate(pairwise(edges), start=1):
        test = usable[first:last]
        before = usable[:first]
        if len(test):
            before = before[before < test[0] - purge_bars - embargo_bars]
        train, calibrate = split_calibration(before, purge_bars + embargo_bars, calibration_share)
        made.append(_checked(Fold(train, calibrate, test), number, len(usable), folds))
    return made


def split_combinatorial(
    usable: Places, *, groups: int, test_groups: int, purge_bars: int, embargo_bars: int, calibration_share: float
) -> list[Fold]:
    """Split usable bars into `groups` and test every choice of `test_groups` of them on a fit to the others.

    Training bars closer to a tested stretch than `purge_bars` before it, or `purge_bars` plus `embargo_bars` behind
    it, are left out. Every bar is tested C(groups - 1, test_groups - 1) times. Raises ValueError where a part would be
    empty.
    """
    if not 0 < test_groups < groups:
        raise ValueError(f"{test_groups} of {groups} groups cannot be tested; some must be left to train on")
    edges = [int(edge) for edge in np.linspace(0, len(usable), groups + 1)]
    stretches = [usable[first:last] for first, last in pairwise(edges)]
    made = []
    for number, chosen in enumerate(combinations(range(groups), test_groups), start=1):
        tested = np.concatenate([stretches[one] for one in chosen])
        rest = np.concatenate([one for place, one in enumerate(stretches) if place not in chosen])
        is_free = np.ones(len(rest), dtype=np.bool_)
        for one in (stretches[place] for place in chosen):
            if len(one):
                is_free &= (rest < one[0] - purge_bars) | (rest > one[-1] + purge_bars + embargo_bars)
        train, calibrate = split_calibration(rest[is_free], purge_bars + embargo_bars, calibration_share)
        made.append(_checked(Fold(train, calibrate, tested), number, len(usable), groups))
    return made


def split_calibration(usable: Places, gap_bars: int, calibration_share: float) -> tuple[Places, Places]:
    """Split off the last `calibration_share` of the bars, with more than `gap_bars` between the two parts."""
    cut = len(usable) - max(1, round(len(usable) * calibration_share)) if len(usable) else 0
    calibrate = usable[cut:]
    train = usable[:cut]
    if len(calibrate):
        train = train[train < calibrate[0] - gap_bars]
    return train, calibrate


def _checked(fold: Fold, number: int, usable: int, parts: int) -> Fold:
    for name, part in (("train", fold.train), ("calibrate", fold.calibrate), ("test", fold.test)):
        if not len(part):
            raise ValueError(
                f"fold {number} has no bars to {name} on: {usable} usable bars are too few for {parts} folds; "
                "give more bars or ask for fewer folds"
            )
    return fold
