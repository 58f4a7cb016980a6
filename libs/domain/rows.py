"""Moves within a row of numbers, compiled: what makes room for an entry and what closes the place of one."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from libs.kernels import njit

Ints: TypeAlias = npt.NDArray[np.int64]


@njit(cache=True)
def shift_up(row: Ints, begin: int, end: int) -> None:
    """Move what lies in [begin, end) up by one place."""
    # A view of its own, in which no place can be negative: so the loop becomes a single move of memory.
    moved = row[begin : end + 1]
    for at in range(len(moved) - 1, 0, -1):
        moved[at] = moved[at - 1]


@njit(cache=True)
def shift_down(row: Ints, begin: int, end: int) -> None:
    """Move what lies in [begin + 1, end] down by one place."""
    moved = row[begin : end + 1]
    for at in range(len(moved) - 1):
        moved[at] = moved[at + 1]
