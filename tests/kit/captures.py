"""Recordings that the project makes itself, in the form that captures of the real exchange have."""

from __future__ import annotations

from services.exchange.core.frames import format_lines
from services.exchange.core.market import SimulatedMarket


def simulated_capture(seed: int, minutes: int) -> list[str]:
    """Return the lines of a recording of the simulated market: ``<receive time ns> <frame>``."""
    market = SimulatedMarket(seed)
    return [line for _ in range(minutes) for line in format_lines(market.next_minute())]
