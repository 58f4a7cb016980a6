"""Rules without a model, to be better than."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]

RULES = ("last sign", "reversal", "buy and hold")


def rule_scores(closes: Floats, places: Places, horizon: int) -> dict[str, Floats]:
    """Return each rule's score at bars: the last bar's return, minus the last horizon's, and always up."""
    logs = np.log(closes)
    return {
        "last sign": logs[places] - logs[np.maximum(places - 1, 0)],
        "reversal": logs[np.maximum(places - horizon, 0)] - logs[places],
        "buy and hold": np.ones(len(places)),
    }
