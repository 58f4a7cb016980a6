"""Features of a table of bars, by the engine that serves the stream: same steps, same bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from libs.domain.numbers import NANOSECONDS
from libs.indicators.batch import BatchRun
from libs.indicators.feature_sets import load_feature_set
from libs.indicators.program import compile_feature_set
from services.training.core.bars import BarTable

Floats: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """Features (bars, features) by name, and the hash of the set they were made by."""

    feature_set: str
    schema_hash: str
    names: tuple[str, ...]
    values: Floats


def compute_features(bars: BarTable, feature_set: str) -> FeatureTable:
    """Return a feature set's values for every bar, NaN where not known."""
    chosen = load_feature_set(feature_set, bars.timeframe)
    values = BatchRun(compile_feature_set(chosen)).take(bars.open_times // NANOSECONDS, bars.rows())
    return FeatureTable(chosen.name, chosen.schema_hash, chosen.names, values)
