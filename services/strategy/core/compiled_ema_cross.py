"""EMA cross as a compiled strategy: the rule of `ema_cross.py` for a fixed quantity, in one compiled step."""

from __future__ import annotations

import math
from typing import Any

from services.strategy.core.compiled import BarNumbers, CompiledStrategy, Floats, compiled_step
from services.strategy.core.declaration import parameter


class CompiledEmaCross(CompiledStrategy):
    """Follows the cross of two exponential averages: long or short `quantity` base units from the first cross on.

    alpha = 2 / (bars + 1), seeded with the first close, as in `EmaCross`.
    """

    fast_bars: int = parameter(3, minimum=1)
    slow_bars: int = parameter(8, minimum=2)
    warm_up_bars: int = parameter(3, minimum=1)
    quantity: float = parameter(0.01, above=0)
    cells = 4
    """Fast and slow average, bars seen, the last direction answered."""

    def start(self) -> None:
        """Check that the averages differ."""
        super().start()
        if self.fast_bars >= self.slow_bars:
            raise ValueError(f"fast_bars ({self.fast_bars}) must be below slow_bars ({self.slow_bars})")

    @compiled_step
    def step(memory: Floats, given: Any, bar: BarNumbers) -> float:  # noqa: N805
        """Advance the averages; answer a position when the wanted direction changes."""
        if memory[2] == 0.0:
            memory[0] = memory[1] = bar.close
        else:
            memory[0] += (bar.close - memory[0]) * 2.0 / (given.fast_bars + 1.0)
            memory[1] += (bar.close - memory[1]) * 2.0 / (given.slow_bars + 1.0)
        memory[2] += 1.0
        crossed = 0.0
        if memory[0] > memory[1]:
            crossed = 1.0
        elif memory[0] < memory[1]:
            crossed = -1.0
        if memory[2] < given.warm_up_bars or crossed == 0.0 or crossed == memory[3]:
            return math.nan
        memory[3] = crossed
        return float(crossed * given.quantity)
