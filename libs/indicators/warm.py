"""Compile the engine ahead of its first use, so that a service or a command starts at once.

Run as `python -m libs.indicators.warm` when an image or an environment is made; the machine code is kept on disk.
"""

from __future__ import annotations

import numpy as np

from libs.indicators.batch import BatchRun
from libs.indicators.columns import ROW_WIDTH
from libs.indicators.feature_sets import load_feature_set
from libs.indicators.handles import INDICATORS, Indicator
from libs.indicators.program import compile_feature_set
from libs.indicators.stream import FeatureStream


def compile_engine() -> None:
    """Compile every entry point by taking one made-up bar through each; does little where that has been done."""
    program = compile_feature_set(load_feature_set("seven_v1"))
    BatchRun(program).take(np.zeros(1, dtype=np.int64), np.ones((1, ROW_WIDTH)))
    FeatureStream(program).take_row(np.ones(ROW_WIDTH), "1m")
    for kind, count in INDICATORS.items():
        Indicator(kind).update(*[1.0] * count)


if __name__ == "__main__":
    compile_engine()
