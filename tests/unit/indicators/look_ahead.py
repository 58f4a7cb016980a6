"""Finds features that use the future: whatever changes when the history after a bar is cut away."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from libs.indicators.arrays import Memory, Values
from libs.indicators.batch import Seconds
from tests.unit.indicators.recorded import same_bits

Compute = Callable[[Seconds, Memory], Values]


def find_look_ahead(
    compute: Compute, names: Sequence[str], times: Seconds, rows: Memory, cuts: Sequence[int]
) -> dict[str, int]:
    """Recompute on each truncated history; the features that differ, with the first row where they do."""
    whole = compute(times, rows)
    found: dict[str, int] = {}
    for cut in cuts:
        same = same_bits(compute(times[:cut], rows[:cut]), whole[:cut])
        for j in map(int, np.flatnonzero(~same.all(axis=0))):
            found.setdefault(names[j], int(np.argmin(same[:, j])))
    return found
