"""Tells which kinds of events have fallen silent, each judged by its own rate: a socket may live while one of its
subscriptions is dead. Pure; times are seconds of a monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass

MIN_COUNT = 20
SILENT_AFTER = 30.0
OVERDUE_AFTER = 5.0
_NEWEST_COUNTS = 0.05


@dataclass(slots=True)
class _Rate:
    came_s: float
    mean_s: float = 0.0
    count: int = 0


class Liveness:
    """Knows the mean time between events of each kind.

    A kind is silent when nothing came for thirty times that, and at least `floor_s`; before its twentieth event it is
    not judged.
    """

    def __init__(self, floor_s: float) -> None:
        self._floor_s = floor_s
        self._rates: dict[str, _Rate] = {}

    def note(self, kind: str, now_s: float) -> None:
        """Take in that an event of this kind came."""
        rate = self._rates.get(kind)
        if rate is None:
            self._rates[kind] = _Rate(now_s)
            return
        interval = now_s - rate.came_s
        rate.count += 1
        rate.mean_s += (interval - rate.mean_s) * max(1.0 / rate.count, _NEWEST_COUNTS)
        rate.came_s = now_s

    def find_silent(self, now_s: float) -> list[tuple[str, float]]:
        """Return the silent kinds, and for how long they have been."""
        return [
            (kind, now_s - rate.came_s)
            for kind, rate in self._rates.items()
            if rate.count >= MIN_COUNT and now_s - rate.came_s > max(self._floor_s, SILENT_AFTER * rate.mean_s)
        ]

    def is_overdue(self, kind: str, now_s: float) -> bool:
        """Tell whether a kind should have come: five times its mean has passed, and a tenth of `floor_s`."""
        rate = self._rates.get(kind)
        return (
            rate is not None
            and rate.count >= MIN_COUNT
            and now_s - rate.came_s > max(0.1 * self._floor_s, OVERDUE_AFTER * rate.mean_s)
        )

    def forget(self, kind: str) -> None:
        """Learn a kind's rate anew, after what carries it was opened again."""
        self._rates.pop(kind, None)
