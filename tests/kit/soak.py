"""What `make test` runs in short runs at length under `make sessions`, from a seed that repeats it."""

from __future__ import annotations

import os
from random import Random

import pytest

TIMES = int(os.environ.get("PERPFLOW_SOAK", "0"))
"""How many times as long as the shortest long run; 0 where none was asked for."""

at_length = pytest.mark.skipif(not TIMES, reason="a long run: make sessions")


def seeded() -> Random:
    """Return the chance of this long run: that of `make sessions SEED=N`."""
    return Random(int(os.environ.get("PERPFLOW_SOAK_SEED", "0")))
