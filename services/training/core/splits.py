"""Walk-forward splits with purge and embargo, so that no label of training reaches into what is tested.

After Lopez de Prado, Advances in Financial Machine Learning, 2018, chapter 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Places: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Fold:
    """Bars (by number) to train on, to calibrate on and to test on, in order of time, apart by purge and embargo."""

    train: Places
    calibrate: Places
    test: Places


def split_walk_forward(
    usable: Places, *, folds: int, purge_bars: int, embargo_bars: int, calibration_share: float
) -> list[Fold]:
    """Split usable bars into expanding training windows, each followed by its test window.

    The bars are cut into `folds` + 1 equal stretches; fold k trains on the first k and tests on the next. Of a training
    stretch the last `calibration_share` calibrates. Before every later part, bars closer than `purge_bars` (the labels'
    reach) plus `embargo_bars` are left out. Raises ValueError where a part would be empty.
    """
    if folds < 1:
        raise ValueError(f"folds is {folds}, must be at least 1")
    edges = [int(edge) for edge in np.linspace(0, len(usable), folds + 2)]
    made = []
    for number in range(1, folds + 1):
        test = usable[edges[number] : edges[number + 1]]
        before = usable[: edges[number]]
        train, calibrate = split_calibration(before, purge_bars + embargo_bars, calibration_share)
        if len(test):
            calibrate = calibrate[calibrate < test[0] - purge_bars - embargo_bars]
        for name, part in (("train", train), ("calibrate", calibrate), ("test", test)):
            if not len(part):
                raise ValueError(
                    f"fold {number} has no bars to {name} on: {len(usable)} usable bars are too few for {folds} folds; "
                    "give more bars or ask for fewer folds"
                )
        made.append(Fold(train, calibrate, test))
    return made


def split_calibration(usable: Places, gap_bars: int, calibration_share: float) -> tuple[Places, Places]:
    """Split off the last `calibration_share` of the bars, with more than `gap_bars` between the two parts."""
    cut = len(usable) - max(1, round(len(usable) * calibration_share)) if len(usable) else 0
    calibrate = usable[cut:]
    train = usable[:cut]
    if len(calibrate):
        train = train[train < calibrate[0] - gap_bars]
    return train, calibrate
