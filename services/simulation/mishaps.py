"""What may go wrong in a simulation, how often in a given seed, and how often it did.

A seed has a mix of its own: most mishaps are off in most seeds, so that a failure points at few of them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

KINDS: dict[str, tuple[float, ...]] = {
    "kill_before_commit": (0.002, 0.01),
    "kill_after_commit": (0.002, 0.01),
    "kill_between_steps": (0.002, 0.01),
    "zombie": (0.002, 0.01),
    "hang_before_handling": (0.005, 0.02),
    "hang_while_handling": (0.001, 0.005),
    "hang_after_commit": (0.005, 0.02),
    "disk_full": (0.002, 0.01),
    "delayed_visibility": (0.05, 0.3),
    "repeated_market_events": (0.05, 0.2),
    "clock_jump": (0.005, 0.02),
    "halt": (0.005, 0.02),
    "limits": (0.01, 0.05),
    "retention": (0.01, 0.05),
    "replica_leaves": (0.001, 0.005),
    "replica_lost_in_batch": (0.2, 0.6),
    "store_down": (0.02, 0.2),
    "store_outage": (0.01, 0.05),
    "kill_after_insert": (0.005, 0.02),
    "kill_before_call": (0.005, 0.02),
    "kill_after_call": (0.005, 0.02),
    "lost_request": (0.01, 0.05),
    "lost_answer": (0.01, 0.05),
    "late_request": (0.01, 0.05),
    "venue_down": (0.01, 0.05),
    "late_update": (0.05, 0.5),
}
"""Every mishap with the probabilities (per opportunity) that a seed may draw."""

_SHARE_IN_FORCE = 0.35


class Killed(BaseException):
    """The process died here (kill -9): nothing after this point of it runs."""


@dataclass(slots=True)
class Mishaps:
    """The mix of one simulation. `strikes` draws from the scheduler's random numbers and counts."""

    rng: random.Random
    probabilities: dict[str, float]
    counts: Counter[str] = field(default_factory=Counter)

    def strikes(self, kind: str) -> bool:
        """Whether this mishap happens now."""
        probability = self.probabilities.get(kind, 0.0)
        if probability and self.rng.random() < probability:
            self.counts[kind] += 1
            return True
        return False


def draw_mix(seed: int, only: Iterable[str] | None = None) -> dict[str, float]:
    """Return the probabilities of a seed's mishaps; with `only`, of those among them."""
    rng = random.Random(f"mix/{seed}")
    drawn = {kind: rng.choice(choices) for kind, choices in KINDS.items() if rng.random() < _SHARE_IN_FORCE}
    return drawn if only is None else {kind: chance for kind, chance in drawn.items() if kind in set(only)}
