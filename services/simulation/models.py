"""A small linear model for simulated sessions: it leans with the relative strength index, so that forecasts trade."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from libs.domain.forecasts import ModelRole
from libs.domain.numbers import NANOSECONDS
from libs.indicators.feature_sets import load_feature_set
from services.inference.core import InferenceCore
from services.inference.core.inference import ScoredModel, Scores
from services.inference.core.manifest import Manifest, ModelInput

FEATURE_SET = "seven_v1"
_INPUT = "rsi_14"
_HORIZON_NS = 300 * NANOSECONDS


def build_inference() -> InferenceCore:
    """Return a core with the model as its champion."""
    feature_set = load_feature_set(FEATURE_SET)
    manifest = Manifest(
        name="simulated",
        family="linear",
        onnx_sha256="0" * 64,
        feature_set=feature_set.name,
        schema_hash=feature_set.schema_hash,
        timeframe="1m",
        window=2,
        horizon_ns=_HORIZON_NS,
        inputs=(ModelInput(_INPUT, feature_set.names.index(_INPUT), tuple(range(10, 100, 10))),),
        verdict="for simulated sessions alone",
    )
    return InferenceCore([ScoredModel(manifest, ModelRole.CHAMPION, _score)])


def _score(window: npt.NDArray[np.float32]) -> Scores:
    before, now = (np.nan_to_num(window[0, :, 0], nan=50.0) - 50.0) / 10.0
    lean = float(now + 0.5 * before)
    down, up = math.exp(-lean), math.exp(lean)
    whole = down + 1.0 + up
    return Scores(down / whole, 1.0 / whole, up / whole)
