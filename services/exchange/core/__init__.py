"""The pure part of the simulated exchange: a seeded market."""

from services.exchange.core.market import HISTORY_MINUTES, START_MS, Minute, SimulatedMarket
from services.exchange.core.offline import generate_events, generate_history, generate_klines

__all__ = [
    "HISTORY_MINUTES",
    "START_MS",
    "Minute",
    "SimulatedMarket",
    "generate_events",
    "generate_history",
    "generate_klines",
]
