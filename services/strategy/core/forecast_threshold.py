"""Forecast threshold: takes the side that a confident forecast names, leaves when it weakens, turns or grows old."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal

from libs.domain.bars import TIMEFRAMES, Bar
from libs.domain.forecasts import Forecast
from services.strategy.core.declaration import parameter, state
from services.strategy.core.strategy import AccountView, Strategy, TargetPosition

_FLAT = Decimal(0)
_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class Held:
    """The side taken: +1 or -1; `expires_at` is the market time (ns) at which the forecast behind it ends."""

    side: int
    expires_at: int


class ForecastThreshold(Strategy):
    """Trades champions' forecasts.

    It enters long (short) when the probability of up (down) is the larger one and at least `enter_probability` and the
    confidence at least `min_confidence`. The size is `notional_usdt` times confidence / `full_size_confidence`, at most
    `notional_usdt`. A forecast for the other side turns the position; one whose probability of the held side is below
    `exit_probability` closes it; so does the end of the horizon of the last forecast that spoke for it. While a side is
    held its size is left alone. With `round_trip_bps` (fees, spread, funding) it enters only where the expected return
    on its side is more than that, and never on a forecast without one; 0 does not ask.
    """

    enter_probability: float = parameter(0.40, minimum=0.0, maximum=1.0)
    exit_probability: float = parameter(0.36, minimum=0.0, maximum=1.0)
    min_confidence: float = parameter(0.10, minimum=0.0, maximum=1.0)
    full_size_confidence: float = parameter(0.25, above=0.0, maximum=1.0)
    notional_usdt: Decimal = parameter("500", above=0)
    round_trip_bps: float = parameter(0.0, minimum=0.0)
    held: dict[str, Held] = state(dict)

    def start(self) -> None:
        """Check that what is entered is not left at once."""
        if self.exit_probability > self.enter_probability:
            raise ValueError(
                f"exit_probability ({self.exit_probability}) must not be above "
                f"enter_probability ({self.enter_probability})"
            )

    @property
    def timeframes(self) -> Sequence[str]:
        """Bars of every timeframe tell the time."""
        return tuple(TIMEFRAMES)

    def on_bar(self, bar: Bar, _view: AccountView) -> Sequence[TargetPosition]:
        """Leave when the horizon of the forecast behind the position has passed."""
        held = self.held.get(bar.instrument)
        if held is None or bar.is_history or bar.event_time < held.expires_at:
            return []
        del self.held[bar.instrument]
        return [TargetPosition(bar.instrument, _FLAT, "the horizon of the forecast behind the position has passed")]

    def on_forecast(self, forecast: Forecast, _view: AccountView) -> Sequence[TargetPosition]:
        """Enter, turn, keep or leave."""
        held = self.held.get(forecast.instrument)
        wanted = self._side_of(forecast)
        if wanted:
            self.held[forecast.instrument] = Held(wanted, forecast.event_time + forecast.horizon_ns)
            if held is not None and held.side == wanted:
                return []
            return [self._target(forecast, wanted)]
        if held is None:
            return []
        probability = forecast.probability_up if held.side > 0 else forecast.probability_down
        if probability >= self.exit_probability:
            return []
        del self.held[forecast.instrument]
        word = "up" if held.side > 0 else "down"
        reason = f"probability of {word} fell to {probability:.3f}, below {self.exit_probability}"
        return [TargetPosition(forecast.instrument, _FLAT, reason, forecast.confidence)]

    def explain(self, bar: Bar, forecast: Forecast | None) -> str:
        """Say which threshold the last forecast did not reach, or what is held and why it is kept."""
        held = self.held.get(bar.instrument)
        if held is not None:
            return f"holds {'long' if held.side > 0 else 'short'} until {held.expires_at} ns or a forecast against it"
        if forecast is None:
            return "no forecast of a champion had arrived"
        likelier = max(forecast.probability_up, forecast.probability_down)
        if forecast.confidence < self.min_confidence:
            return f"confidence {forecast.confidence:.3f} is below min_confidence {self.min_confidence}"
        if likelier < self.enter_probability:
            return f"probability {likelier:.3f} is below enter_probability {self.enter_probability}"
        if forecast.probability_up == forecast.probability_down:
            return "up and down are equally likely"
        side = 1 if forecast.probability_up > forecast.probability_down else -1
        if not self._pays(forecast, side):
            return (
                f"expected return {forecast.expected_return_bps} bps does not beat round_trip_bps {self.round_trip_bps}"
            )
        return "the last forecast would enter; the position was left since, and the next forecast decides"

    def _side_of(self, forecast: Forecast) -> int:
        up, down = forecast.probability_up, forecast.probability_down
        if forecast.confidence < self.min_confidence or max(up, down) < self.enter_probability or up == down:
            return 0
        side = 1 if up > down else -1
        return side if self._pays(forecast, side) else 0

    def _pays(self, forecast: Forecast, side: int) -> bool:
        return not self.round_trip_bps or (forecast.expected_return_bps or 0.0) * side > self.round_trip_bps

    def _target(self, forecast: Forecast, side: int) -> TargetPosition:
        part = min(1.0, forecast.confidence / self.full_size_confidence)
        notional = (self.notional_usdt * Decimal(repr(part))).quantize(_CENT, rounding=ROUND_HALF_EVEN) * side
        word, probability = ("up", forecast.probability_up) if side > 0 else ("down", forecast.probability_down)
        reason = f"probability of {word} {probability:.3f} with confidence {forecast.confidence:.3f}"
        return TargetPosition(forecast.instrument, notional, reason, forecast.confidence)
