"""Compile a feature set into the integers and the first memory that the engine runs on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from libs.indicators.arrays import Code, Memory
from libs.indicators.columns import SERIES, series_index
from libs.indicators.engine import (
    HEADER_FEATURES,
    HEADER_SELECT,
    HEADER_TIMEFRAMES,
    HEADER_WIDTH,
    RECORD_COUNTER,
    RECORD_COUNTS,
    RECORD_FIRST,
    RECORD_MASK,
    RECORD_PREVIOUS,
    RECORD_SECONDS,
    RECORD_SERIES,
    RECORD_WIDTH,
    STEPS,
)
from libs.indicators.feature_set import BASE, TIMEFRAME_SECONDS, Feature, FeatureSet
from libs.indicators.instruction import RING_A, STATE, VALUE, WIDTH, N
from libs.indicators.kinds import PERIODS, Kind, Number
from libs.indicators.series import PREVIOUS_SLOTS

_NEVER: Final = 0
"""The first place in memory is always NaN: what a feature reads whose timeframe this stream does not have."""

_CACHE_LINE: Final = 8
"""Rings lie one cache line apart: at a distance of a power of two their latest values would evict each other."""


@dataclass(frozen=True, slots=True)
class Program:
    """A compiled feature set.

    `code` is what the engine reads, `memory` its state before the first bar (copy it), `timeframes` names the streams
    of bars it wants by number, the base first. `unavailable` are features of timeframes that the base cannot build.
    """

    feature_set: FeatureSet
    code: Code
    memory: Memory
    timeframes: tuple[str, ...]
    seconds: tuple[int, ...]
    unavailable: tuple[str, ...]


@dataclass(slots=True)
class MemoryPlan:
    """Hands out places in memory, from `size` on, and remembers what they start with."""

    size: int
    filled: list[tuple[int, int, float]]

    def take(self, count: int, start: float) -> int:
        """Take `count` floats that start as `start`; the place of the first."""
        place = self.size
        self.size += count
        if count:
            self.filled.append((place, count, start))
        return place

    def build(self) -> Memory:
        """Make the memory as it is before the first bar."""
        memory = np.zeros(self.size)
        for place, count, start in self.filled:
            memory[place : place + count] = start
        return memory


def compile_feature_set(feature_set: FeatureSet, base_seconds: int | None = None) -> Program:
    """Lay out memory and instructions; features that share a kind and parameters share one instruction.

    `base_seconds` is needed where the base timeframe is not one of the named ones. A feature of a timeframe that is not
    a multiple of the base is unavailable and stays NaN.
    """
    base = base_seconds or TIMEFRAME_SECONDS[feature_set.base_timeframe]
    lengths: dict[str, int] = {feature_set.base_timeframe: base}
    unavailable: list[str] = []
    grouped: dict[str, dict[tuple[str, tuple[tuple[str, Number], ...]], Kind]] = {feature_set.base_timeframe: {}}
    homes: list[str] = []
    for feature in feature_set.features:
        home = _home_of(feature, feature_set.base_timeframe, base)
        homes.append(home)
        if not home:
            unavailable.append(feature.name)
            continue
        lengths.setdefault(home, TIMEFRAME_SECONDS.get(home, base))
        grouped.setdefault(home, {})[(feature.kind.name, feature.params)] = feature.kind
    timeframes = tuple(sorted(lengths, key=lambda name: lengths[name]))

    plan = MemoryPlan(0, [])
    plan.take(1, np.nan)
    values: dict[tuple[str, str, tuple[tuple[str, Number], ...]], int] = {}
    records: list[list[int]] = []
    instructions: list[list[int]] = []
    for timeframe in timeframes:
        kinds = grouped[timeframe]
        reach = max([kind.reach(dict(params)) for (_name, params), kind in kinds.items()], default=1)
        rings, mask = lay_rings({name for kind in kinds.values() for name in kind.series}, reach, plan)
        record = [0] * RECORD_WIDTH
        record[RECORD_FIRST] = len(instructions)
        record[RECORD_MASK] = mask
        record[RECORD_COUNTER] = plan.take(1, 0.0)
        record[RECORD_SECONDS] = lengths[timeframe]
        record[RECORD_PREVIOUS] = plan.take(PREVIOUS_SLOTS, np.nan)
        record[RECORD_SERIES:RECORD_COUNTS] = [rings.get(name, -1) for name in SERIES]
        by_step = sorted(kinds.items(), key=lambda item: STEPS.index(item[1].step))
        for (kind_name, params), kind in by_step:
            instruction = assemble(kind, dict(params), rings, plan)
            values[(timeframe, kind_name, params)] = instruction[VALUE]
            instructions.append(instruction)
            record[RECORD_COUNTS + STEPS.index(kind.step)] += 1
        records.append(record)

    first = HEADER_WIDTH + RECORD_WIDTH * len(records)
    for record in records:
        record[RECORD_FIRST] = first + WIDTH * record[RECORD_FIRST]
    select = [
        values[(home, feature.kind.name, feature.params)] + feature.output if home else _NEVER
        for feature, home in zip(feature_set.features, homes, strict=True)
    ]
    header = [0] * HEADER_WIDTH
    header[HEADER_TIMEFRAMES] = len(records)
    header[HEADER_FEATURES] = len(select)
    header[HEADER_SELECT] = first + WIDTH * len(instructions)
    flat = [*header, *(x for r in records for x in r), *(x for r in instructions for x in r), *select]
    return Program(
        feature_set=feature_set,
        code=np.array(flat, dtype=np.int64),
        memory=plan.build(),
        timeframes=timeframes,
        seconds=tuple(lengths[name] for name in timeframes),
        unavailable=tuple(unavailable),
    )


def _home_of(feature: Feature, base_timeframe: str, base: int) -> str:
    if feature.timeframe in (BASE, base_timeframe):
        return base_timeframe
    seconds = TIMEFRAME_SECONDS[feature.timeframe]
    if seconds == base:
        return base_timeframe
    return feature.timeframe if seconds > base and seconds % base == 0 else ""


def lay_rings(series: Iterable[str], reach: int, plan: MemoryPlan) -> tuple[dict[str, int], int]:
    """Give each series a ring for windows of `reach` bars; their places by name, and the mask of their slots."""
    capacity = 1 << max(reach, 1).bit_length()
    rings: dict[str, int] = {}
    for name in sorted(series, key=series_index):
        rings[name] = plan.take(capacity, np.nan)
        plan.take(_CACHE_LINE, 0.0)
    return rings, capacity - 1


def assemble(kind: Kind, params: dict[str, Number], rings: dict[str, int], plan: MemoryPlan) -> list[int]:
    """Give a kind its state and values; the instruction that runs it."""
    instruction = [0] * WIDTH
    if kind.constant is None:
        instruction[STATE] = plan.take(kind.state(params), 0.0)
    else:
        constant = params[kind.constant] if isinstance(kind.constant, str) else kind.constant
        instruction[STATE] = plan.take(1, float(constant))
        plan.take(kind.state(params), 0.0)
    instruction[VALUE] = plan.take(len(kind.outputs), np.nan)
    for j, name in enumerate(kind.series):
        instruction[RING_A + j] = rings[name]
    for j, period in enumerate(PERIODS):
        instruction[N + j] = int(params.get(period, 0))
    return instruction
