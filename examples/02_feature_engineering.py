"""Compute features bar by bar as the live service does, then over arrays as research does, and compare the bits."""
# ruff: noqa: T201

from __future__ import annotations

import numpy as np

from libs.domain.bars import Bar
from libs.indicators.batch import BatchRun
from libs.indicators.feature_sets import load_feature_set
from libs.indicators.program import compile_feature_set
from libs.indicators.rows import bar_row
from libs.indicators.stream import FeatureStream
from services.bars.core import BarsCore
from services.bars.settings import BarsSettings
from services.exchange.core import generate_history


def make_bars(seed: int, minutes: int) -> list[Bar]:
    """Return closed bars of every timeframe, made by the bars service's core from a simulated market's klines."""
    settings = BarsSettings()
    core = BarsCore(settings.timeframes, settings.instruments, grace_ms=settings.grace_ms)
    return [
        bar for kline in generate_history(seed, minutes=minutes) for bar in core.handle(kline) if isinstance(bar, Bar)
    ]


def main() -> None:
    """Print how far stream and batch agree, and a few values of the last bar."""
    feature_set = load_feature_set("core_v1")
    program = compile_feature_set(feature_set)
    bars = make_bars(seed=7, minutes=2880)
    minutes = [bar for bar in bars if bar.timeframe == "1m"]

    stream = FeatureStream(program)
    one_by_one = np.array([stream.values.copy() for bar in bars if stream.take(bar)])

    # Over arrays the higher timeframes are built from the minutes.
    open_times = np.array([bar.open_time // 10**9 for bar in minutes])
    rows = np.array([bar_row(bar) for bar in minutes])
    at_once = BatchRun(program).take(open_times, rows)

    is_equal = one_by_one.tobytes() == at_once.tobytes()
    print(f"{len(minutes):,} bars x {len(feature_set)} features of {feature_set.name} ({feature_set.schema_hash[:12]})")
    print(f"stream and batch are {'equal to the bit' if is_equal else 'DIFFERENT'}")
    print(f"known at the last bar: {np.mean(~np.isnan(at_once[-1])):.0%} (klines carry no order book and no funding)")
    for number, feature in enumerate(feature_set.features):
        if feature.name in ("log_return_1", "rsi_14", "historical_volatility_20", "atr_14", "adx_14", "sma_50"):
            print(f"  {feature.name:<26} {at_once[-1, number]:>14.6f}  {feature.describe()['unit']}")
    if not is_equal:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
