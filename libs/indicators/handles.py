"""Single indicators for a strategy's own use: one bar in, its value out, in a fraction of a microsecond.

The values are the feature engine's, from the same steps; for more than a few of them an engine is the better choice.
Everything of a handle lies in one array, since every array that crosses into compiled code costs time.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from hashlib import sha256
from types import MethodType
from typing import Any, Final

import numpy as np

from libs.indicators.arrays import Memory
from libs.indicators.averages import step_atr, step_bollinger, step_ema, step_macd, step_rsi
from libs.indicators.catalog import CATALOG
from libs.indicators.compiling import compiled, compiled_entry
from libs.indicators.engine import DIGEST
from libs.indicators.feature_set import BASE, FeatureSetError, features_of
from libs.indicators.instruction import VALUE, WIDTH
from libs.indicators.kinds import Number
from libs.indicators.oscillators import step_directional, step_stochastic
from libs.indicators.program import MemoryPlan, assemble, lay_rings

_COUNTER: Final = 0
_MASK: Final = 1
_LAST: Final = 2
_HIGH: Final = 3
_LOW: Final = 4
_CLOSE: Final = 5
_RANGE: Final = 6
_INSTRUCTION: Final = 7
_HEAD: Final = _INSTRUCTION + WIDTH
_RINGS: Final = {"high": _HIGH, "low": _LOW, "close": _CLOSE, "true_range": _RANGE}


@compiled
def _put_close(m: Memory, close: float) -> int:
    if not math.isfinite(close):
        raise ValueError("an indicator takes finite numbers; leave out the bar")
    code = m.view(np.int64)
    i = code[_COUNTER]
    m[code[_CLOSE] + (i & code[_MASK])] = close
    code[_COUNTER] = i + 1
    return int(i)


@compiled
def _put_bar(m: Memory, high: float, low: float, close: float) -> int:
    if not math.isfinite(high + low + close):
        raise ValueError("an indicator takes finite numbers; leave out the bar")
    code = m.view(np.int64)
    i = code[_COUNTER]
    slot = i & code[_MASK]
    m[code[_HIGH] + slot] = high
    m[code[_LOW] + slot] = low
    m[code[_CLOSE] + slot] = close
    last = m[_LAST]
    true_range = max(high - low, max(abs(high - last), abs(low - last)))
    m[code[_RANGE] + slot] = true_range if i > 0 else math.nan
    m[_LAST] = close
    code[_COUNTER] = i + 1
    return int(i)


def _compile_updates(digest: int) -> dict[str, Callable[..., Any]]:
    @compiled_entry
    def ema(m: Memory, close: float) -> float:
        i = _put_close(m, close) if digest else 0
        code = m.view(np.int64)
        step_ema(code, _INSTRUCTION, m, i, code[_MASK])
        return float(m[code[_INSTRUCTION + VALUE]])

    @compiled_entry
    def rsi(m: Memory, close: float) -> float:
        i = _put_close(m, close) if digest else 0
        code = m.view(np.int64)
        step_rsi(code, _INSTRUCTION, m, i, code[_MASK])
        return float(m[code[_INSTRUCTION + VALUE]])

    @compiled_entry
    def macd(m: Memory, close: float) -> tuple[float, float, float]:
        i = _put_close(m, close) if digest else 0
        code = m.view(np.int64)
        step_macd(code, _INSTRUCTION, m, i, code[_MASK])
        v = code[_INSTRUCTION + VALUE]
        return m[v], m[v + 1], m[v + 2]

    @compiled_entry
    def bollinger(m: Memory, close: float) -> tuple[float, float, float]:
        i = _put_close(m, close) if digest else 0
        code = m.view(np.int64)
        step_bollinger(code, _INSTRUCTION, m, i, code[_MASK])
        v = code[_INSTRUCTION + VALUE]
        return m[v], m[v + 1], m[v + 2]

    @compiled_entry
    def atr(m: Memory, high: float, low: float, close: float) -> float:
        i = _put_bar(m, high, low, close) if digest else 0
        code = m.view(np.int64)
        step_atr(code, _INSTRUCTION, m, i, code[_MASK])
        return float(m[code[_INSTRUCTION + VALUE]])

    @compiled_entry
    def directional(m: Memory, high: float, low: float, close: float) -> float:
        i = _put_bar(m, high, low, close) if digest else 0
        code = m.view(np.int64)
        step_directional(code, _INSTRUCTION, m, i, code[_MASK])
        return float(m[code[_INSTRUCTION + VALUE]])

    @compiled_entry
    def stochastic(m: Memory, high: float, low: float, close: float) -> tuple[float, float]:
        i = _put_bar(m, high, low, close) if digest else 0
        code = m.view(np.int64)
        step_stochastic(code, _INSTRUCTION, m, i, code[_MASK])
        v = code[_INSTRUCTION + VALUE]
        return m[v], m[v + 1]

    made: tuple[Any, ...] = (ema, rsi, macd, bollinger, atr, directional, stochastic)
    return {update.__name__: update for update in made}


_UPDATES: Final = _compile_updates(DIGEST)

INDICATORS: Final = {"ema": 1, "rsi": 1, "macd": 1, "bollinger": 1, "atr": 3, "directional": 3, "stochastic": 3}
"""What stands alone, with how many numbers its update takes: a close, or high, low and close."""
_LINES: Final = {"macd": 3, "bollinger": 3, "stochastic": 2}


class Indicator:
    """One indicator with its state. `update` takes a close, or high, low and close, and answers the newest value.

    EMA and RSI take a close and answer a float; MACD (line, signal, histogram) and Bollinger bands (upper, middle,
    lower) take a close; ATR and `directional` (ADX) take high, low, close and answer a float; the Stochastic (%K, %D)
    takes the same. NaN until warm. ValueError for numbers that are not finite, with the state as it was.
    """

    __slots__ = ("_identity", "_lines", "_memory", "update")

    def __init__(self, kind: str, **params: Number) -> None:
        if kind not in _UPDATES:
            raise FeatureSetError(f"no indicator {kind!r} stands alone; there are {', '.join(_UPDATES)}")
        complete = dict(features_of(kind, BASE, (), **params)[0].params)
        self._identity = sha256(repr((kind, sorted(complete.items()))).encode()).digest()
        plan = MemoryPlan(_HEAD, [])
        chosen = CATALOG[kind]
        series = tuple(_RINGS) if "high" in chosen.series or "true_range" in chosen.series else ("close",)
        rings, mask = lay_rings(series, chosen.reach(complete), plan)
        instruction = assemble(chosen, complete, rings, plan)
        self._memory = plan.build()
        code = self._memory.view(np.int64)
        code[_MASK] = mask
        for name in series:
            code[_RINGS[name]] = rings[name]
        code[_INSTRUCTION:_HEAD] = instruction
        self._lines = _LINES.get(kind, 1)
        self.update: Callable[..., Any] = MethodType(_UPDATES[kind], self._memory)

    @property
    def value(self) -> Any:
        """What the last update answered; NaN before the first."""
        code = self._memory.view(np.int64)
        if not code[_COUNTER]:
            return math.nan
        place = int(code[_INSTRUCTION + VALUE])
        values = self._memory[place : place + self._lines].tolist()
        return values[0] if self._lines == 1 else tuple(values)

    def snapshot(self) -> bytes:
        """The whole state as bytes."""
        return self._identity + self._memory.tobytes()

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; FeatureSetError for one of another kind or other parameters."""
        size = len(self._identity)
        if state[:size] != self._identity:
            raise FeatureSetError("the snapshot is of another indicator, or of other parameters")
        self._memory[:] = np.frombuffer(state[size:], dtype=np.float64)
