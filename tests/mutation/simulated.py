"""Counts the planted defects that simulated sessions find: ``python -m tests.mutation.simulated [SEEDS]``.

A line for each with the first seed that finds it; exit code 1 where one survives all seeds (2,000 by default). Each is
planted in a process of its own, as many side by side as there are cores.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

from services.simulation.running import SeedOutcome, find_failure
from tests.mutation.planted import PLANTED

SEEDS = 2_000


def find(name: str, seeds: int) -> SeedOutcome | None:
    """Plant a defect and look for it; return the first session that finds it."""
    with PLANTED[name]():
        return find_failure(range(seeds))


def main() -> int:
    """Plant each defect and say what finds it."""
    seeds = int(sys.argv[1]) if sys.argv[1:] else SEEDS
    survived = []
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        for name, failure in zip(PLANTED, pool.map(partial(find, seeds=seeds), PLANTED), strict=True):
            if failure is None:
                survived.append(name)
                print(f"{name}: survived {seeds} seeds", flush=True)
            else:
                print(f"{name}: seed {failure.seed}: {failure.broken[0]:.160}", flush=True)
    print(f"{len(PLANTED) - len(survived)} of {len(PLANTED)} found")
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main())
