"""The engine: one compiled step that runs a feature set's instructions over flat state, and its loop over arrays.

The stream calls `advance` once a bar, the batch calls `run`, which calls the same step for every row; a snapshot is the
memory's bytes. A feature set is data (see `libs.indicators.program`), so that a new one needs no compilation.

Compiled code is kept on disk by numba, which notices a change in this file but not in the files whose steps it calls.
So the entry points close over a digest of all steps' bytecode: a changed formula is compiled afresh, never stale.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from types import CodeType, ModuleType
from typing import Any, Final, TypeAlias

import numpy as np
from numba.core.registry import CPUDispatcher

from libs.indicators import aggregate, averages, distributions, oscillators, price, regimes, rolling, series, windows
from libs.indicators import columns as col
from libs.indicators.aggregate import BUCKET_NONE, begin_bucket, extend_bucket, finish_bucket
from libs.indicators.arrays import Code, Memory, Row, Values
from libs.indicators.averages import (
    step_atr,
    step_bollinger,
    step_ema,
    step_keltner,
    step_macd,
    step_rsi,
    step_sma,
    step_supertrend,
)
from libs.indicators.columns import SERIES_COUNT
from libs.indicators.compiling import compiled, compiled_apart, compiled_entry
from libs.indicators.distributions import (
    step_asymmetry,
    step_correlation,
    step_fractional_difference,
    step_jump_share,
    step_quantiles,
    step_rank,
    step_residual,
)
from libs.indicators.instruction import WIDTH
from libs.indicators.oscillators import (
    step_aroon,
    step_cci,
    step_directional,
    step_ichimoku,
    step_money_flow,
    step_stochastic,
    step_williams,
)
from libs.indicators.price import step_candle, step_channel, step_run
from libs.indicators.regimes import (
    step_autocorrelation,
    step_calendar,
    step_cumulative,
    step_efficiency,
    step_ewma_volatility,
    step_hurst,
    step_moments,
    step_permutation_entropy,
    step_regression,
    step_roll_spread,
    step_slope,
    step_vwap,
    step_yang_zhang,
)
from libs.indicators.series import derive_series
from libs.indicators.windows import (
    step_deviation,
    step_deviation_ratio,
    step_known,
    step_lag_difference,
    step_lag_ratio,
    step_mean,
    step_ratio_to_mean,
    step_root,
    step_root_mean,
    step_share,
    step_sum,
    step_sum_ratio,
    step_value,
    step_zscore,
)

_STEP_FUNCTIONS: Final = (
    step_value,
    step_mean,
    step_sum,
    step_root_mean,
    step_root,
    step_deviation,
    step_zscore,
    step_ratio_to_mean,
    step_deviation_ratio,
    step_sum_ratio,
    step_share,
    step_lag_difference,
    step_lag_ratio,
    step_candle,
    step_channel,
    step_run,
    step_sma,
    step_ema,
    step_rsi,
    step_macd,
    step_bollinger,
    step_atr,
    step_keltner,
    step_supertrend,
    step_directional,
    step_stochastic,
    step_cci,
    step_williams,
    step_money_flow,
    step_aroon,
    step_ichimoku,
    step_cumulative,
    step_vwap,
    step_slope,
    step_autocorrelation,
    step_roll_spread,
    step_yang_zhang,
    step_ewma_volatility,
    step_regression,
    step_efficiency,
    step_hurst,
    step_moments,
    step_permutation_entropy,
    step_calendar,
    step_rank,
    step_quantiles,
    step_correlation,
    step_residual,
    step_jump_share,
    step_fractional_difference,
    step_asymmetry,
    step_known,
)
"""Every step, once: its name is what follows `step_`, its number and its place in the dispatch come from this order."""

STEPS: Final = tuple(step.__name__.removeprefix("step_") for step in _STEP_FUNCTIONS)
"""The steps' names by number."""

HEADER_TIMEFRAMES: Final = 0
HEADER_FEATURES: Final = 1
HEADER_SELECT: Final = 2
HEADER_WIDTH: Final = 3

RECORD_FIRST: Final = 0
RECORD_MASK: Final = 1
RECORD_COUNTER: Final = 2
RECORD_SECONDS: Final = 3
RECORD_PREVIOUS: Final = 4
RECORD_SERIES: Final = 5
RECORD_COUNTS: Final = RECORD_SERIES + SERIES_COUNT
RECORD_WIDTH: Final = RECORD_COUNTS + len(STEPS)


def _bytecode(code: CodeType) -> bytes:
    parts = [code.co_code, repr(code.co_names).encode()]
    parts += [_bytecode(c) if isinstance(c, CodeType) else repr(c).encode() for c in code.co_consts]
    return b"|".join(parts)


def digest_steps(modules: tuple[ModuleType, ...]) -> int:
    """Condense the bytecode, compiler options and constants of all compiled functions of some modules into a number."""
    digest = hashlib.sha256()
    for module in modules:
        for name, value in sorted(vars(module).items()):
            if isinstance(value, CPUDispatcher):
                digest.update(name.encode() + _bytecode(value.py_func.__code__))
                digest.update(repr(sorted(value.targetoptions.items())).encode())
            elif isinstance(value, int | float | np.ndarray):
                digest.update(f"{name}={value!r}".encode())
    digest.update(repr((STEPS, WIDTH, RECORD_WIDTH, HEADER_WIDTH)).encode())
    return int.from_bytes(digest.digest()[:7], "big")


DIGEST: Final = digest_steps(
    (aggregate, averages, col, distributions, oscillators, price, regimes, rolling, series, windows)
)


def write_dispatch(names: tuple[str, ...]) -> str:
    """Write one loop per step: a call known at compile time can be put in line, one looked up in a table cannot."""
    loops = [
        f"    for _ in range(code[counts + {number}]):\n"
        f"        step_{name}(code, k, m, i, mask)\n"
        f"        k += {WIDTH}\n"
        for number, name in enumerate(names)
    ]
    return "def run_instructions(code, counts, k, m, i, mask):\n" + "".join(loops)


def _compile_dispatch() -> Callable[[Code, int, int, Memory, int, int], None]:
    namespace: dict[str, Any] = {step.__name__: step for step in _STEP_FUNCTIONS}
    exec(compile(write_dispatch(STEPS), f"{__file__}:dispatch", "exec"), namespace)
    return compiled(namespace["run_instructions"])


_run_instructions: Final = _compile_dispatch()


@compiled_apart
def _step(code: Code, m: Memory, row: Row, timeframe: int) -> None:
    record = HEADER_WIDTH + timeframe * RECORD_WIDTH
    mask = code[record + RECORD_MASK]
    counter = code[record + RECORD_COUNTER]
    i = int(m[counter])
    derive_series(
        code,
        record + RECORD_SERIES,
        m,
        code[record + RECORD_PREVIOUS],
        row,
        i,
        mask,
        float(code[record + RECORD_SECONDS]),
    )
    _run_instructions(code, record + RECORD_COUNTS, code[record + RECORD_FIRST], m, i, mask)
    m[counter] = i + 1.0


@compiled
def _emit(code: Code, m: Memory, out: Values) -> int:
    select = code[HEADER_SELECT]
    known = 0
    for f in range(code[HEADER_FEATURES]):
        x = m[code[select + f]]
        if math.isfinite(x):
            known += 1
        else:
            x = math.nan
        out[f] = x
    return known


Advance: TypeAlias = Callable[[Code, Memory, Row, int, Values], int]
Run: TypeAlias = Callable[[Code, Memory, Memory, Code, Values, Memory, Code], int]


def _compile_entry_points(digest: int) -> tuple[Advance, Run]:
    @compiled_entry
    def advance(code: Code, m: Memory, row: Row, timeframe: int, out: Values) -> int:
        """Take one closed bar of a timeframe; write every feature's latest value into `out`; count the known ones.

        `row` has shape (ROW_WIDTH,), `out` at least (features,). `m` and `out` change in place. -1 if `out` is short.
        """
        if digest == 0 or out.shape[0] < code[HEADER_FEATURES]:
            return -1
        _step(code, m, row, timeframe)
        return _emit(code, m, out)

    @compiled_entry
    def run(code: Code, m: Memory, rows: Memory, open_times: Code, out: Values, pending: Memory, counters: Code) -> int:
        """Take base bars in order, building the higher timeframes from them; write one row of `out` for each.

        `rows` has shape (bars, ROW_WIDTH), `open_times` (bars,) in whole seconds, `out` (bars, features). `pending`
        and `counters` keep the unfinished higher-timeframe bars between calls, so that a file may come in pieces.
        """
        if digest == 0 or out.shape[1] < code[HEADER_FEATURES]:
            return -1
        timeframes = code[HEADER_TIMEFRAMES]
        known = 0
        for r in range(rows.shape[0]):
            row = rows[r]
            opened = open_times[r]
            closed = opened + code[HEADER_WIDTH + RECORD_SECONDS]
            for t in range(timeframes - 1, 0, -1):
                length = code[HEADER_WIDTH + t * RECORD_WIDTH + RECORD_SECONDS]
                bucket = opened - opened % length
                if counters[t, 0] != bucket:
                    if counters[t, 0] != BUCKET_NONE and counters[t, 1] == 1:
                        finish_bucket(pending[t], counters[t], float(counters[t, 0] + length))
                        _step(code, m, pending[t, : col.ROW_WIDTH], t)
                    begin_bucket(pending[t], counters[t], bucket, counters[t, 0] != BUCKET_NONE or opened == bucket)
                extend_bucket(pending[t], counters[t], row)
                if closed == bucket + length:
                    if counters[t, 1] == 1:
                        finish_bucket(pending[t], counters[t], float(closed))
                        _step(code, m, pending[t, : col.ROW_WIDTH], t)
                    counters[t, 0] = bucket
                    counters[t, 1] = 2
            _step(code, m, row, 0)
            known += _emit(code, m, out[r])
        return known

    return advance, run


advance, run = _compile_entry_points(DIGEST)
