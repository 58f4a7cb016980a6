"""Counts the planted defects that simulated sessions find: ``python -m tests.mutation.simulated [SEEDS]``.

A line for each with the first seed that finds it; exit code 1 where one survives all seeds (2,000 by default).
"""

from __future__ import annotations

import sys

from services.simulation.running import find_failure
from tests.mutation.planted import PLANTED

SEEDS = 2_000


def main() -> int:
    """Plant each defect and look for it."""
    seeds = int(sys.argv[1]) if sys.argv[1:] else SEEDS
    survived = []
    for name, plant in PLANTED.items():
        with plant():
            failure = find_failure(range(seeds))
        if failure is None:
            survived.append(name)
            print(f"{name}: survived {seeds} seeds", flush=True)
        else:
            print(f"{name}: seed {failure.seed}: {failure.broken[0]:.160}", flush=True)
    print(f"{len(PLANTED) - len(survived)} of {len(PLANTED)} found")
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main())
