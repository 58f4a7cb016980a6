"""Features bar by bar and over arrays, beside TA-Lib and talipp in the same run.

Run as `python -m tests.benchmarks.features [--bars N]`; prints one line of JSON per case: microseconds a bar in the
stream (the Python call included), bars a second in batch, cost by length, memory, seconds to the first vector.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import numpy as np
import talib
from talib import stream as talib_stream
from talipp.indicators import ADX, ATR, BB, EMA, MACD, RSI, Stoch
from talipp.ohlcv import OHLCV

from libs.domain.bars import Bar
from libs.indicators.batch import BatchRun
from libs.indicators.columns import ROW_CLOSE, ROW_HIGH, ROW_LOW
from libs.indicators.engine import advance
from libs.indicators.feature_set import FeatureSet, features_of
from libs.indicators.feature_sets import load_feature_set
from libs.indicators.handles import INDICATORS, Indicator
from libs.indicators.program import compile_feature_set
from services.features.core import FeaturesCore
from tests.unit.indicators.recorded import as_bar, made_rows

SEVEN = {
    "EMA": ("ema", {"n": 20}),
    "RSI": ("rsi", {"n": 14}),
    "MACD": ("macd", {}),
    "BB": ("bollinger", {}),
    "ATR": ("atr", {"n": 14}),
    "ADX": ("directional", {"n": 14}),
    "STOCH": ("stochastic", {}),
}
ROUNDS = 5
PIECE_ROWS = 16_384
START = """
import time
began = time.perf_counter()
import numpy as np
from libs.indicators.columns import ROW_WIDTH
from libs.indicators.engine import advance
from libs.indicators.feature_sets import load_feature_set
from libs.indicators.handles import INDICATORS, Indicator
from libs.indicators.program import compile_feature_set
program = compile_feature_set(load_feature_set())
advance(program.code, program.memory, np.ones(ROW_WIDTH), 0, np.empty(len(program.feature_set)))
print(time.perf_counter() - began)
"""


def say(case: str, **numbers: object) -> None:
    """Print one result."""
    print(json.dumps({"case": case, **numbers}), flush=True)


def best_us(make: Callable[[], Callable[[], object]], bars: int, rounds: int = ROUNDS) -> float:
    """Least microseconds a bar over some rounds; `make` prepares a fresh run outside the clock."""
    least = float("inf")
    for _ in range(rounds):
        work = make()
        gc.collect()
        gc.disable()
        began = time.perf_counter()
        work()
        least = min(least, time.perf_counter() - began)
        gc.enable()
    return round(least / bars * 1e6, 3)


def stream_ours(feature_set: FeatureSet, rows: list[np.ndarray]) -> float:
    """Step a set bar by bar from Python."""
    program = compile_feature_set(feature_set)
    code, out = program.code, np.empty(len(feature_set))

    def make() -> Callable[[], None]:
        memory = program.memory.copy()

        def work() -> None:
            for row in rows:
                advance(code, memory, row, 0, out)

        return work

    return best_us(make, len(rows))


def _updates(update: Callable[..., object], is_of_close: bool, bars: dict[str, list[float]]) -> Callable[[], None]:
    def one() -> None:
        for close in bars["c"]:
            update(close)

    def three() -> None:
        for high, low, close in zip(bars["h"], bars["l"], bars["c"], strict=True):
            update(high, low, close)

    return one if is_of_close else three


def talib_handles(history: dict[str, np.ndarray]) -> dict[str, tuple[Any, str]]:
    """TA-Lib's stateful streams, each with the columns that it takes."""
    h, low, c = history["h"], history["l"], history["c"]
    return {
        "EMA": (talib_stream.EMA(c, 20), "c"),
        "RSI": (talib_stream.RSI(c, 14), "c"),
        "MACD": (talib_stream.MACD(c, 12, 26, 9), "c"),
        "BB": (talib_stream.BBANDS(c, 20, 2.0, 2.0), "c"),
        "ATR": (talib_stream.ATR(h, low, c, 14), "hlc"),
        "ADX": (talib_stream.ADX(h, low, c, 14), "hlc"),
        "STOCH": (talib_stream.STOCH(h, low, c, 14, 3, 0, 3, 0), "hlc"),
    }


def stream_pair(name: str, history: dict[str, np.ndarray], bars: dict[str, list[float]]) -> tuple[float, float]:
    """Update one of our single indicators and TA-Lib's in turn, so that both see the same machine."""
    kind, params = SEVEN[name]

    def ours() -> Callable[[], None]:
        return _updates(Indicator(kind, **params).update, INDICATORS[kind] == 1, bars)

    def theirs() -> Callable[[], None]:
        handle, columns = talib_handles(history)[name]
        return _updates(handle.update, columns == "c", bars)

    count = len(bars["c"])
    rounds = [(best_us(ours, count, 1), best_us(theirs, count, 1)) for _ in range(3 * ROUNDS)]
    return min(pair[0] for pair in rounds), min(pair[1] for pair in rounds)


def stream_talipp(bars: list[OHLCV]) -> float:
    """Feed the seven of talipp bar by bar."""

    def make() -> Callable[[], None]:
        of_close = [EMA(20), RSI(14), MACD(12, 26, 9), BB(20, 2)]
        of_bar = [ATR(14), ADX(14, 14), Stoch(14, 3)]

        def work() -> None:
            for bar in bars:
                for indicator in of_close:
                    indicator.add(bar.close)
                for indicator in of_bar:
                    indicator.add(bar)

        return work

    return best_us(make, len(bars))


def batch_ours(feature_set: FeatureSet, times: np.ndarray, rows: np.ndarray) -> float:
    """Microseconds a bar of the batch engine, in pieces as the command runs it."""
    program = compile_feature_set(feature_set)
    buffer = np.empty((PIECE_ROWS, len(feature_set)))

    def make() -> Callable[[], None]:
        run = BatchRun(program)
        mine = rows.copy()

        def work() -> None:
            for first in range(0, len(mine), PIECE_ROWS):
                piece = slice(first, first + PIECE_ROWS)
                run.take(times[piece], mine[piece], buffer[: len(mine[piece])])

        return work

    return best_us(make, len(rows))


def bench_stream(count: int) -> None:
    """The full set, the core with its bars and vectors, the seven beside their peers."""
    _times, rows = made_rows(count)
    listed = list(rows)
    core = load_feature_set()
    us = stream_ours(core, listed)
    say("stream full set", features=len(core), us_per_bar=us, target=10.0, is_met=us <= 10.0)

    bars = [as_bar("X", "1m", int(time_s), row) for time_s, row in zip(_times[:20_000], listed[:20_000], strict=True)]
    say("stream full set through FeaturesCore.handle", us_per_bar=best_us(lambda: _core_run(bars), len(bars)))

    columns = {"h": ROW_HIGH, "l": ROW_LOW, "c": ROW_CLOSE}
    history = {name: np.ascontiguousarray(rows[:200, j]) for name, j in columns.items()}
    floats = {name: rows[200:20_200, j].tolist() for name, j in columns.items()}
    total = 0.0
    for name in SEVEN:
        ours, theirs = stream_pair(name, history, floats)
        total += theirs
        times = round(ours / theirs, 2)
        say(f"stream {name} alone", us_per_bar=ours, talib_us=theirs, times_talib=times, is_met=times <= 2.0)
    us = stream_ours(load_feature_set("seven_v1"), listed)
    talipp_us = stream_talipp([OHLCV(*map(float, row[:5])) for row in listed[:5_000]])
    say(
        "stream the seven in one set",
        us_per_bar=us,
        talib_us=round(total, 3),
        times_talib=round(us / total, 2),
        talipp_us=talipp_us,
        target="at most 2x TA-Lib",
        is_met=us <= 2.0 * total,
    )


def _core_run(bars: list[Bar]) -> Callable[[], None]:
    core = FeaturesCore(load_feature_set())

    def work() -> None:
        for bar in bars:
            core.handle(bar)

    return work


def bench_batch(count: int) -> None:
    """The full set over arrays by length, singles beside TA-Lib's batch, memory by length."""
    times, rows = made_rows(count)
    core = load_feature_set()
    for length in (count // 4, count // 2, count):
        us = batch_ours(core, times[:length], rows[:length])
        say(
            "batch full set",
            features=len(core),
            bars=length,
            bars_per_second=round(1e6 / us),
            us_per_bar=us,
            target=200_000,
            is_met=1e6 / us >= 200_000,
        )
    h, low, c = (np.ascontiguousarray(rows[:, j]) for j in (ROW_HIGH, ROW_LOW, ROW_CLOSE))
    theirs: dict[str, Callable[[], object]] = {
        "EMA": lambda: talib.EMA(c, 20),
        "RSI": lambda: talib.RSI(c, 14),
        "MACD": lambda: talib.MACD(c, 12, 26, 9),
        "BB": lambda: talib.BBANDS(c, 20, 2, 2),
        "ATR": lambda: talib.ATR(h, low, c, 14),
        "ADX": lambda: talib.ADX(h, low, c, 14),
        "STOCH": lambda: talib.STOCH(h, low, c, 14, 3, 0, 3, 0),
    }
    for name, (kind, params) in SEVEN.items():
        ours_us = batch_ours(FeatureSet("one", 1, tuple(features_of(kind, **cast(Any, params)))), times, rows)
        talib_us = best_us(partial(theirs.__getitem__, name), len(rows))
        say(f"batch {name} alone", us_per_bar=ours_us, talib_us=talib_us)


def bench_memory(count: int) -> None:
    """Growth of the process while a run takes ever more bars, its output let go piece by piece."""
    times, rows = made_rows(16_384)
    program = compile_feature_set(load_feature_set())
    run = BatchRun(program)
    peaks = []
    taken = 0
    while taken < count:
        run.take(times + taken * 60, rows.copy())
        taken += len(rows)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    say(
        "memory",
        state_kb=program.memory.nbytes // 1024,
        bars=taken,
        peak_mb_after_first_piece=peaks[0],
        peak_mb_at_end=peaks[-1],
    )


def bench_start() -> None:
    """Seconds from the start of a process, imports included, to its first vector, with compiled code on disk."""
    seconds = min(float(subprocess.check_output([sys.executable, "-c", START])) for _ in range(5))
    say("start with a warm cache", seconds=round(seconds, 3), target=1.0, is_met=seconds <= 1.0)


def main() -> None:
    """Run everything."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=100_000)
    count = parser.parse_args().bars
    bench_stream(min(count, 50_000))
    bench_batch(count)
    bench_memory(4 * count)
    bench_start()


if __name__ == "__main__":
    main()
