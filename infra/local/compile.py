"""Compile the hot cores ahead, so that no service compiles while a market waits: a minute of simulated market through
the very cores that the services run. numba keeps the result beside the modules (or under ``NUMBA_CACHE_DIR``)."""

from __future__ import annotations

import sys
import time

from libs.indicators.feature_sets import DEFAULT_FEATURE_SET, load_feature_set
from libs.indicators.warm import compile_engine
from libs.matching.ladder import compile_ahead
from services.bars.core import BarsCore
from services.bars.settings import BarsSettings
from services.exchange.core import generate_events, generate_history
from services.features.core import FeaturesCore


def main() -> None:
    """Run the cores once and say how long it took."""
    started = time.perf_counter()
    compile_ahead()
    compile_engine()
    settings = BarsSettings()
    bars = BarsCore(settings.timeframes, settings.instruments, grace_ms=settings.grace_ms)
    features = FeaturesCore(load_feature_set(DEFAULT_FEATURE_SET))
    for event in (*generate_history(seed=1, minutes=90), *generate_events(seed=1, minutes=2)):
        for bar in bars.handle(event):
            features.handle(bar)
    sys.stderr.write(f"compiled in {time.perf_counter() - started:.1f} s\n")


if __name__ == "__main__":
    main()
