"""What the starter model is made of: fixed here, so that one command makes the same model anywhere."""

from __future__ import annotations

from pathlib import Path

from services.training.market_data import simulate_bars
from services.training.training import Progress, TrainedModel, TrainingOptions, train_into

STARTER_MARKET_SEED = 20260101
STARTER_DAYS = 30
STARTER_OPTIONS = TrainingOptions(name="starter", seed=20260101)
STARTER_DIR = Path(__file__).parents[1] / "inference" / "starter"


def train_starter(progress: Progress, folder: Path = STARTER_DIR) -> TrainedModel:
    """Train the model that ships, on the simulated market alone, and put it where inference finds it."""
    progress("bars", 0, 1)
    bars = simulate_bars(STARTER_MARKET_SEED, STARTER_DAYS)
    progress("bars", 1, 1)
    return train_into(bars, STARTER_OPTIONS, folder, progress)
