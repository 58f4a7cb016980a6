"""What the starter model is made of: fixed here, so that one command makes the same model anywhere."""

from __future__ import annotations

import math
import re
from pathlib import Path

from services.training.core.labels import LabelOptions
from services.training.evaluation import Progress
from services.training.market_data import simulate_bars
from services.training.training import TrainedModel, TrainingOptions, train_into

STARTER_MARKET_SEED = 20260101
STARTER_DAYS = 30
STARTER_OPTIONS = TrainingOptions(
    name="starter", seed=20260101, family="logistic", label=LabelOptions(horizon=5), compares=False
)
INFERENCE = Path(__file__).parents[1] / "inference"


def train_starter(progress: Progress, inference: Path = INFERENCE) -> TrainedModel:
    """Train the model that ships, on the simulated market alone, put it where inference finds it, and pin it there."""
    progress("bars", 0, 1, math.nan)
    bars = simulate_bars(STARTER_MARKET_SEED, STARTER_DAYS)
    progress("bars", 1, 1, math.nan)
    trained = train_into(bars, STARTER_OPTIONS, inference / "starter", progress)
    pin = inference / "shipped.py"
    pin.write_text(re.sub(r"[0-9a-f]{64}", trained.manifest.bundle_sha256, pin.read_text()))
    return trained
