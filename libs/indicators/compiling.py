"""The one way in which this room compiles a function, so that every step follows the same arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

from numba import njit

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def compiled(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Compile with IEEE arithmetic in the order written: no fast-math, no contraction; x / 0 is infinite or NaN.

    That is what makes the stream and the batch agree to the bit wherever the compiler places a step.
    """
    return cast(Callable[_Arguments, _Result], njit(error_model="numpy")(function))


def compiled_entry(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Compile likewise and keep the machine code on disk; for functions that Python calls."""
    return cast(Callable[_Arguments, _Result], njit(error_model="numpy", cache=True)(function))
