"""EMA cross: long while the fast average of closes is above the slow one, short while below."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import Decimal

from pydantic import TypeAdapter

from libs.domain.accounts import AccountState
from libs.domain.bars import Bar
from libs.domain.forecasts import Forecast
from libs.domain.numbers import SCALE
from services.strategy.core.parameters import positive_decimal, positive_int
from services.strategy.core.strategy import AccountView, StateValue, Target


class EmaCross:
    """Follows the cross of two exponential averages on bars of one timeframe.

    alpha = 2 / (bars + 1), seeded with the first close. It enters in the direction of the cross as soon as
    `warm_up_bars` bars were seen, history included, and turns when the averages cross.
    """

    def __init__(
        self,
        *,
        fast_bars: int = 3,
        slow_bars: int = 8,
        warm_up_bars: int = 3,
        notional_usdt: str | Decimal = "500",
        timeframe: str = "1m",
        name: str = "ema_cross",
    ) -> None:
        """Check the parameters; ValueError names the wrong one."""
        self._fast_bars = positive_int("fast_bars", fast_bars)
        self._slow_bars = positive_int("slow_bars", slow_bars)
        self._warm_up_bars = positive_int("warm_up_bars", warm_up_bars)
        self._notional = positive_decimal("notional_usdt", notional_usdt)
        if self._fast_bars >= self._slow_bars:
            raise ValueError(f"fast_bars ({fast_bars}) must be below slow_bars ({slow_bars})")
        self._timeframe = timeframe
        self._name = name
        self._averages: dict[str, _Averages] = {}

    @property
    def name(self) -> str:
        """Name the strategy."""
        return self._name

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[Target]:
        """Advance the averages; answer a target when the wanted direction changes."""
        if bar.timeframe != self._timeframe:
            return []
        close = bar.close_e8 / SCALE
        known = self._averages.get(bar.instrument)
        if known is None:
            now = _Averages(close, close, 1, 0)
        else:
            fast = known.fast + (close - known.fast) * 2.0 / (self._fast_bars + 1)
            slow = known.slow + (close - known.slow) * 2.0 / (self._slow_bars + 1)
            now = _Averages(fast, slow, known.bars_seen + 1, known.direction)
        self._averages[bar.instrument] = now
        crossed = (now.fast > now.slow) - (now.fast < now.slow)
        if bar.is_history or now.bars_seen < self._warm_up_bars or crossed in (0, now.direction):
            return []
        now.direction = crossed
        word = "above" if crossed > 0 else "below"
        reason = f"EMA {self._fast_bars} at {now.fast:.2f} is {word} EMA {self._slow_bars} at {now.slow:.2f}"
        return [Target(bar.instrument, self._notional * crossed, reason)]

    def on_forecast(self, _forecast: Forecast, _view: AccountView) -> Sequence[Target]:
        """Forecasts do not matter here."""
        return []

    def on_account(self, _account: AccountState, _view: AccountView) -> Sequence[Target]:
        """The account does not matter here."""
        return []

    def snapshot(self) -> dict[str, StateValue]:
        """Return the averages of every instrument."""
        return {instrument: asdict(kept) for instrument, kept in self._averages.items()}

    def restore(self, state: Mapping[str, StateValue]) -> None:
        """Take over the averages."""
        self._averages = _KEPT.validate_python(state)


@dataclass(slots=True)
class _Averages:
    """The averages of one instrument; `direction` is the last one answered (+1, -1, 0 for none yet)."""

    fast: float
    slow: float
    bars_seen: int
    direction: int


_KEPT = TypeAdapter(dict[str, _Averages])
