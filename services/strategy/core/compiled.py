"""Strategies whose decision is one compiled step over flat memory: called for each bar in a session, looped over arrays
in a backtest. There is one definition of it, so both decide the same to the bit.
"""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from libs.domain.bars import Bar
from libs.domain.numbers import SCALE, from_e8
from libs.indicators.compiling import compiled_apart, compiled_loop, compiled_unlocked
from services.strategy.core.declaration import declaration_of, state
from services.strategy.core.strategy import AccountView, Strategy, TargetPosition

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

HOLD = -(2**63) + 1
"""Stands for no answer among targets in 1e-8."""
_MOST_UNITS = 9e10


class BarNumbers(NamedTuple):
    """What a step sees of a bar: prices in quote units, volume in base units."""

    open: float
    high: float
    low: float
    close: float
    volume: float


Step = Callable[[Floats, Any, BarNumbers], float]


def compiled_step(function: Step) -> Any:
    """Compile a step with IEEE arithmetic in the order written; the function itself stays callable as Python."""
    return staticmethod(compiled_apart(function))


class CompiledStrategy(Strategy):
    """Base of strategies that decide by a compiled step on the bars of one timeframe, and on nothing else::

        class Breakout(CompiledStrategy):
            bars: float = parameter(20, minimum=2)
            cells = 2

            @compiled_step
            def step(memory, given, bar):
                ...
                return math.nan  # leave things as they are, or the wanted position in base units

    `cells` doubles of memory, all 0 at first, are the state, saved and restored; `given` holds the numeric parameters
    by name, as doubles. numba compiles the step: numbers, `math` and loops, no Python objects.
    """

    cells: ClassVar[int] = 0
    step: ClassVar[Step]
    memory: dict[str, list[float]] = state(dict)
    """The cells by instrument."""

    def start(self) -> None:
        """Check that there is a step and compile it. Raises ValueError."""
        if not hasattr(type(self), "step"):
            raise ValueError(f"{type(self).__name__} has no step; write it with @compiled_step")

    def given(self) -> Any:
        """Return the numeric parameters as the step sees them."""
        names, kind = _given_of(type(self))
        return kind(*(float(getattr(self, name) or 0.0) for name in names))

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        """Take one step."""
        cells = np.array(self.memory.get(bar.instrument) or [0.0] * self.cells)
        numbers = (bar.open_e8, bar.high_e8, bar.low_e8, bar.close_e8, bar.volume_e8)
        wanted = _call(type(self))(cells, self.given(), BarNumbers(*(float(number) / SCALE for number in numbers)))
        self.memory[bar.instrument] = cells.tolist()
        target = to_target(np.array([wanted]))[0]
        return () if target == HOLD else (self.target_of(bar.instrument, int(target)),)

    def target_of(self, instrument: str, target_e8: int) -> TargetPosition:
        """Return a wanted position in 1e-8 as a target."""
        quantity = from_e8(target_e8)
        reason = f"{self.name} wants {quantity.normalize():f}"
        return TargetPosition(instrument, Decimal(0), reason, quantity=quantity)

    def targets_over(
        self, instrument: str, open_e8: Ints, high_e8: Ints, low_e8: Ints, close_e8: Ints, volume_e8: Ints
    ) -> Ints:
        """Take a step for every bar of one instrument; return the wanted positions in 1e-8, `HOLD` for no answer."""
        return self.targets_of(instrument, to_numbers(open_e8, high_e8, low_e8, close_e8, volume_e8))

    def targets_of(self, instrument: str, numbers: Sequence[Floats]) -> Ints:
        """Take a step for every bar as `targets_over` does, of numbers that `to_numbers` made of them."""
        cells = np.array(self.memory.get(instrument) or [0.0] * self.cells)
        wanted = np.empty(len(numbers[0]))
        _loop(type(self))(cells, self.given(), *numbers, wanted)
        self.memory[instrument] = cells.tolist()
        return to_target(wanted)


def to_numbers(*columns_e8: Ints) -> list[Floats]:
    """Return columns of 1e-8 as what a step sees: doubles in units."""
    return [column.astype(np.float64) / SCALE for column in columns_e8]


def to_target(wanted: Floats) -> Ints:
    """Return positions in base units as 1e-8, half-even; NaN as `HOLD`. Raises ValueError for what does not fit."""
    targets = np.empty(len(wanted), np.int64)
    if not _to_target(wanted, targets):
        raise ValueError(f"a step wants a position beyond {_MOST_UNITS:g} base units")
    return targets


@compiled_loop
def _to_target(wanted: Floats, targets: Ints) -> bool:
    for at in range(len(wanted)):
        if abs(wanted[at]) > _MOST_UNITS:
            return False
        targets[at] = HOLD if math.isnan(wanted[at]) else np.int64(np.rint(wanted[at] * SCALE))
    return True


_GIVEN: dict[type, tuple[tuple[str, ...], Any]] = {}
_LOOPS: dict[type, Callable[..., None]] = {}


def _given_of(kind: type[CompiledStrategy]) -> tuple[tuple[str, ...], Any]:
    known = _GIVEN.get(kind)
    if known is None:
        declared = declaration_of(kind).parameters
        names = tuple(name for name, (_, _, hint) in declared.items() if hint not in (str, "str"))
        known = _GIVEN[kind] = (names, namedtuple(f"{kind.__name__}Given", names))
    return known


def _call(kind: type[CompiledStrategy]) -> Callable[..., float]:
    return cast(Callable[..., float], kind.step)


def _loop(kind: type[CompiledStrategy]) -> Callable[..., None]:
    known = _LOOPS.get(kind)
    if known is None:
        known = _LOOPS[kind] = _make_loop(kind.step)
    return known


def _make_loop(step: Step) -> Callable[..., None]:
    @compiled_unlocked
    def loop(
        cells: Floats,
        given: Any,
        opens: Floats,
        highs: Floats,
        lows: Floats,
        closes: Floats,
        volumes: Floats,
        wanted: Floats,
    ) -> None:
        for at in range(len(closes)):
            wanted[at] = step(cells, given, BarNumbers(opens[at], highs[at], lows[at], closes[at], volumes[at]))

    return cast(Callable[..., None], loop)
