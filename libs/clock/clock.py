"""Clocks. A simulated one moves only when advanced, so that a simulation takes no time and is repeatable."""

from __future__ import annotations

import time
from typing import Protocol

_NS = 1_000_000_000


class Clock(Protocol):
    """What a process knows of time."""

    def now_ns(self) -> int:
        """Return the wall time in ns since epoch UTC. It may be set back."""
        ...

    def monotonic_s(self) -> float:
        """Return seconds that only rise, those included during which the process was stopped."""
        ...

    def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class SystemClock:
    """The machine's clock."""

    def now_ns(self) -> int:
        return time.time_ns()

    def monotonic_s(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


SYSTEM_CLOCK = SystemClock()
"""The one clock of the machine: what `main` hands in, and what stands in for it where a signature says so."""


class SimulatedClock:
    """A clock that stands still until `advance`, `set_wall` or `sleep` moves it."""

    def __init__(self, start_ns: int) -> None:
        self._wall_ns = start_ns
        self._risen_ns = 0

    def now_ns(self) -> int:
        return self._wall_ns

    def monotonic_s(self) -> float:
        return self._risen_ns / _NS

    def sleep(self, seconds: float) -> None:
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        passed = int(seconds * _NS)
        self._wall_ns += passed
        self._risen_ns += passed

    def set_wall(self, wall_ns: int) -> None:
        """Set the wall time, as a time server may; monotonic time goes on as if nothing had happened."""
        self._wall_ns = wall_ns
