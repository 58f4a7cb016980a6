"""From a failing seed to the smallest mix of mishaps, and the shortest market, that still fails."""

from __future__ import annotations

from services.simulation.running import EVENTS, SeedOutcome, run_seed

_SHORTEST = 20


def shrink(failure: SeedOutcome) -> tuple[SeedOutcome, int]:
    """Return the smallest failure found and the number of events that it needs; the seed stays the same.

    Mishaps go one by one while it still fails, then the market is halved. Another mix draws other random numbers, so
    that what remains is the smallest that this search met, not the smallest there is.
    """
    smallest = failure
    for kind in sorted(failure.mix):
        without = {name: chance for name, chance in smallest.mix.items() if name != kind}
        attempt = run_seed(failure.seed, without)
        if attempt.broken:
            smallest = attempt
    events = EVENTS
    while events // 2 >= _SHORTEST:
        attempt = run_seed(failure.seed, smallest.mix, events // 2)
        if not attempt.broken:
            break
        smallest, events = attempt, events // 2
    return smallest, events
