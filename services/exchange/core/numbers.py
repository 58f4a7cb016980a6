"""Random numbers that are the same bits on every machine: splitmix64 and sums of uniforms, without libm."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from libs.kernels import njit

Seeds = npt.NDArray[np.uint64]

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_S30 = np.uint64(30)
_S27 = np.uint64(27)
_S31 = np.uint64(31)
_S11 = np.uint64(11)
_S32 = np.uint64(32)
_LOW = np.uint64(0xFFFFFFFF)


@njit(cache=True)
def next_bits(state: Seeds) -> Any:
    """Advance the generator (Steele, Lea and Flood 2014, splitmix64) and return 64 random bits."""
    state[0] = state[0] + _GAMMA
    bits = state[0]
    bits = (bits ^ (bits >> _S30)) * _MIX_1
    bits = (bits ^ (bits >> _S27)) * _MIX_2
    return bits ^ (bits >> _S31)


@njit(cache=True)
def next_uniform(state: Seeds) -> float:
    """Return a number in [0, 1) with 53 bits."""
    return float(next_bits(state) >> _S11) * 1.1102230246251565e-16


@njit(cache=True)
def next_normal(state: Seeds) -> float:
    """Return a number of mean 0 and variance 1: the sum of six uniforms of 32 bits, bounded by 4.25."""
    total = 0.0
    for _ in range(3):
        bits = next_bits(state)
        total += float(bits & _LOW) + float(bits >> _S32)
    # Six uniforms have mean 3 and variance 1/2.
    return (total * 2.3283064365386963e-10 - 3.0) * 1.4142135623730951


@njit(cache=True)
def next_pareto(state: Seeds) -> float:
    """Return a number of at least 1 whose tail falls with the square (Pareto, exponent 2)."""
    return float(1.0 / np.sqrt(1.0 - next_uniform(state)))
