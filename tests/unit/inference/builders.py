"""Builders for inference's tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from libs.domain.control import ControlAction, ControlCommand
from libs.domain.features import FeatureVector
from libs.domain.forecasts import ModelRole
from libs.domain.numbers import NANOSECONDS
from services.inference.core import Manifest, ModelInput, ScoredModel, Scores

BTC = "BTCUSDT.BINANCE"
MINUTE = 60 * NANOSECONDS
START = 1_767_225_600 * NANOSECONDS
HASH = "ab" * 32
DECILES = tuple(float(one) for one in range(9))


def a_manifest(
    name: str = "toy",
    *,
    window: int = 3,
    indices: Sequence[int] = (0, 2),
    schema_hash: str = HASH,
    timeframe: str = "1m",
) -> Manifest:
    """Build a manifest."""
    return Manifest(
        name=name,
        family="linear",
        onnx_sha256="0" * 64,
        feature_set="toy_v1",
        schema_hash=schema_hash,
        timeframe=timeframe,
        window=window,
        horizon_ns=5 * MINUTE,
        inputs=tuple(ModelInput(f"feature_{index}", index, DECILES) for index in indices),
        verdict="no edge after costs",
        training={"seed": 1},
        metrics={"accuracy": 0.5},
    )


def a_model(
    manifest: Manifest | None = None,
    *,
    role: ModelRole = ModelRole.CHAMPION,
    score: Callable[[npt.NDArray[np.float32]], Scores] = lambda _: Scores(0.2, 0.2, 0.6, 1.5),
) -> ScoredModel:
    """Build a model that answers every window alike unless told otherwise."""
    return ScoredModel(manifest or a_manifest(), role, score)


def a_vector(
    minute: int,
    values: Sequence[float] = (1.0, 2.0, 3.0),
    *,
    is_history: bool = False,
    schema_hash: str = HASH,
    instrument: str = BTC,
    timeframe: str = "1m",
) -> FeatureVector:
    """Build the vector of the bar that closes `minute` minutes after the start."""
    packed = np.array(values, dtype="<f8")
    bar_id = f"{instrument}/{timeframe}/{START + (minute - 1) * MINUTE}"
    return FeatureVector(
        instrument=instrument,
        event_id=f"{bar_id}/{schema_hash[:12]}",
        event_time=START + minute * MINUTE,
        bar_id=bar_id,
        timeframe=timeframe,
        feature_set="toy_v1",
        schema_hash=schema_hash,
        packed=packed.tobytes(),
        known_count=int(np.isfinite(packed).sum()),
        reference_price_e8=6_000_000_000_000,
        is_history=is_history,
    )


def a_promotion(number: int, model: str, account: str = "*") -> ControlCommand:
    """Build a command that promotes a model."""
    return ControlCommand(
        f"control/{number}", START, account, ControlAction.PROMOTE_MODEL, "console", "better", {"model": model}
    )
