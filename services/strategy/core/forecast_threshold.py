"""Forecast threshold: takes the side that a confident forecast names, leaves when it weakens, turns or grows old."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from pydantic import TypeAdapter

from libs.domain.accounts import AccountState
from libs.domain.bars import Bar
from libs.domain.forecasts import Forecast
from services.strategy.core.parameters import positive_decimal, share
from services.strategy.core.strategy import AccountView, StateValue, Target

_FLAT = Decimal(0)
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class _Held:
    """The side taken: +1 or -1; `expires_at` is the market time (ns) at which the forecast behind it ends."""

    side: int
    expires_at: int


_KEPT = TypeAdapter(dict[str, _Held])


class ForecastThreshold:
    """Trades champions' forecasts.

    It enters long (short) when the probability of up (down) is the larger one and at least `enter_probability` and the
    confidence at least `min_confidence`. The size is `notional_usdt` times confidence / `full_size_confidence`, at most
    `notional_usdt`. A forecast for the other side turns the position; one whose probability of the held side is below
    `exit_probability` closes it; so does the end of the horizon of the last forecast that spoke for it. While a side is
    held its size is left alone.
    """

    def __init__(
        self,
        *,
        enter_probability: float = 0.40,
        exit_probability: float = 0.36,
        min_confidence: float = 0.10,
        full_size_confidence: float = 0.25,
        notional_usdt: str | Decimal = "500",
        name: str = "forecast_threshold",
    ) -> None:
        """Check the parameters; ValueError names the wrong one."""
        self._enter_probability = share("enter_probability", enter_probability)
        self._exit_probability = share("exit_probability", exit_probability)
        self._min_confidence = share("min_confidence", min_confidence)
        self._full_size_confidence = share("full_size_confidence", full_size_confidence)
        self._notional = positive_decimal("notional_usdt", notional_usdt)
        if self._full_size_confidence == 0.0:
            raise ValueError("full_size_confidence is 0, must be above 0")
        if self._exit_probability > self._enter_probability:
            raise ValueError(
                f"exit_probability ({exit_probability}) must not be above enter_probability ({enter_probability})"
            )
        self._name = name
        self._held: dict[str, _Held] = {}

    @property
    def name(self) -> str:
        """Name the strategy."""
        return self._name

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[Target]:
        """Leave when the horizon of the forecast behind the position has passed."""
        held = self._held.get(bar.instrument)
        if held is None or bar.is_history or bar.event_time < held.expires_at:
            return []
        del self._held[bar.instrument]
        return [Target(bar.instrument, _FLAT, "the horizon of the forecast behind the position has passed")]

    def on_forecast(self, forecast: Forecast, _view: AccountView) -> Sequence[Target]:
        """Enter, turn, keep or leave."""
        held = self._held.get(forecast.instrument)
        wanted = self._side_of(forecast)
        if wanted:
            self._held[forecast.instrument] = _Held(wanted, forecast.event_time + forecast.horizon_ns)
            if held is not None and held.side == wanted:
                return []
            return [self._target(forecast, wanted)]
        if held is None:
            return []
        probability = forecast.probability_up if held.side > 0 else forecast.probability_down
        if probability >= self._exit_probability:
            return []
        del self._held[forecast.instrument]
        word = "up" if held.side > 0 else "down"
        reason = f"probability of {word} fell to {probability:.3f}, below {self._exit_probability}"
        return [Target(forecast.instrument, _FLAT, reason, forecast.confidence)]

    def on_account(self, _account: AccountState, _view: AccountView) -> Sequence[Target]:
        """The account does not matter here."""
        return []

    def snapshot(self) -> dict[str, StateValue]:
        """Return the held sides."""
        return {instrument: asdict(held) for instrument, held in self._held.items()}

    def restore(self, state: Mapping[str, StateValue]) -> None:
        """Take over the held sides."""
        self._held = _KEPT.validate_python(state)

    def _side_of(self, forecast: Forecast) -> int:
        up, down = forecast.probability_up, forecast.probability_down
        if forecast.confidence < self._min_confidence or max(up, down) < self._enter_probability or up == down:
            return 0
        return 1 if up > down else -1

    def _target(self, forecast: Forecast, side: int) -> Target:
        part = min(1.0, forecast.confidence / self._full_size_confidence)
        notional = (self._notional * Decimal(repr(part))).quantize(_CENT, rounding=ROUND_HALF_EVEN) * side
        word, probability = ("up", forecast.probability_up) if side > 0 else ("down", forecast.probability_down)
        reason = f"probability of {word} {probability:.3f} with confidence {forecast.confidence:.3f}"
        return Target(forecast.instrument, notional, reason, forecast.confidence)
