"""EMA cross: long while the fast average of closes is above the slow one, short while below."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from libs.domain.bars import Bar
from libs.domain.forecasts import Forecast
from libs.domain.numbers import SCALE
from services.strategy.core.declaration import parameter, state
from services.strategy.core.strategy import AccountView, Strategy, TargetPosition


class EmaCross(Strategy):
    """Follows the cross of two exponential averages on bars of one timeframe.

    alpha = 2 / (bars + 1), seeded with the first close. It enters in the direction of the cross as soon as
    `warm_up_bars` bars were seen, history included, and turns when the averages cross. The size is `notional_usdt`, or
    `quantity` base units where that is given.
    """

    fast_bars: int = parameter(3, minimum=1)
    slow_bars: int = parameter(8, minimum=2)
    warm_up_bars: int = parameter(3, minimum=1)
    notional_usdt: Decimal = parameter("500", above=0)
    quantity: Decimal | None = parameter(None, above=0)
    averages: dict[str, tuple[float, float, int, int]] = state(dict)
    """Fast and slow average, bars seen and the last direction answered (+1, -1, 0 for none yet), by instrument."""

    def start(self) -> None:
        """Check that the averages differ."""
        if self.fast_bars >= self.slow_bars:
            raise ValueError(f"fast_bars ({self.fast_bars}) must be below slow_bars ({self.slow_bars})")

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        """Advance the averages; answer a target when the wanted direction changes."""
        close = bar.close_e8 / SCALE
        known = self.averages.get(bar.instrument)
        if known is None:
            fast, slow, seen, direction = close, close, 1, 0
        else:
            fast = known[0] + (close - known[0]) * 2.0 / (self.fast_bars + 1)
            slow = known[1] + (close - known[1]) * 2.0 / (self.slow_bars + 1)
            seen, direction = known[2] + 1, known[3]
        crossed = (fast > slow) - (fast < slow)
        if bar.is_history or seen < self.warm_up_bars or crossed in (0, direction):
            self.averages[bar.instrument] = (fast, slow, seen, direction)
            return ()
        self.averages[bar.instrument] = (fast, slow, seen, crossed)
        word = "above" if crossed > 0 else "below"
        reason = f"EMA {self.fast_bars} at {fast:.2f} is {word} EMA {self.slow_bars} at {slow:.2f}"
        quantity = None if self.quantity is None else self.quantity * crossed
        return (TargetPosition(bar.instrument, self.notional_usdt * crossed, reason, quantity=quantity),)

    def explain(self, bar: Bar, _forecast: Forecast | None) -> str:
        """Say where the averages stand and what the last answer was."""
        known = self.averages.get(bar.instrument)
        if known is None:
            return "it has seen no bar"
        fast, slow, seen, direction = known
        if seen < self.warm_up_bars:
            return f"it has seen {seen} of the {self.warm_up_bars} bars that it warms up on"
        word = "above" if fast > slow else "below"
        asked = "long" if direction > 0 else "short" if direction < 0 else "nothing"
        averages = f"EMA {self.fast_bars} at {fast:.2f} is {word} EMA {self.slow_bars} at {slow:.2f}"
        return f"{averages}; the last it asked for was {asked}"
