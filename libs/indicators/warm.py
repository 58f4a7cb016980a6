"""Compile the engine ahead of its first use, so that a service or a command starts at once.

The machine code is kept on disk; where it is there already, each function here takes a moment only.
"""

from __future__ import annotations

import numpy as np

from libs.indicators.batch import BatchRun
from libs.indicators.columns import ROW_WIDTH
from libs.indicators.feature_sets import load_feature_set
from libs.indicators.handles import INDICATORS, Indicator
from libs.indicators.program import Program, compile_feature_set
from libs.indicators.stream import FeatureStream


def compile_stream() -> None:
    """Compile what a stream of bars needs, by one made-up bar."""
    FeatureStream(_program()).take_row(np.ones(ROW_WIDTH), "1m")


def compile_batch() -> None:
    """Compile what arrays of bars and single indicators need, by one made-up bar."""
    BatchRun(_program()).take(np.zeros(1, dtype=np.int64), np.ones((1, ROW_WIDTH)))
    for kind, count in INDICATORS.items():
        Indicator(kind).update(*[1.0] * count)


def _program() -> Program:
    return compile_feature_set(load_feature_set("seven_v1"))
