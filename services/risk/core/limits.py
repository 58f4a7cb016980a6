"""The limits of the gate: one frozen value, every unit in its name, changed only by building another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from libs.domain.numbers import format_decimal

SETTINGS = "settings"
"""Who issues a SET_LIMITS that carries what the service was configured with."""


class LimitError(ValueError):
    """A limit is unknown or impossible; the text names it and what it may be."""


@dataclass(frozen=True, slots=True)
class RiskLimits:
    """What the gate enforces; a value exactly at its limit passes. Fractions and rates are shares (0.05 = 5 %).

    Order and exposure: `max_order_notional_usdt`, `max_position_notional_usdt` (one instrument, the order's
    direction, open orders of that direction filled), `max_instrument_exposure_usdt` and `max_total_exposure_usdt`
    (gross, both directions), `max_leverage` (worst-case notional of all instruments / equity), `max_margin_ratio`
    (maintenance / equity), `min_liquidation_distance` (share of the reference price), `max_open_orders`,
    `max_orders_per_second`, `max_orders_per_minute`.

    Price: `max_price_deviation` of a limit price from the reference, `max_spread_bps`, `max_slippage_bps` (touch
    against the price the strategy decided on), `max_funding_cost_per_day` (share of notional). `allow_quote_as_mark`
    lets the mid of the best quote stand in where no mark price was ever seen for the instrument.

    Freshness, in market time: `max_market_data_age_ms`, `max_clock_skew_ms` (arrival against the venue's time),
    `max_intent_age_ms` (either way), `max_forecast_age_ms`, `min_forecast_confidence`, `duplicate_window_ms`.

    Loss: `max_daily_loss_fraction` of the equity at the UTC day's start, `soft_drawdown_fraction` and
    `hard_drawdown_fraction` of the equity's peak, `max_consecutive_losses` with `loss_pause_s`,
    `max_volatility_ratio` (range of the last 1m bar against its average; `require_volatility` refuses until the
    average has `volatility_warmup_bars`).

    Protection: `stop_loss_fraction`, `take_profit_fraction`, `trailing_stop_fraction`, `break_even_trigger_fraction`
    of the entry price and `max_holding_s`; 0 turns each off.
    """

    max_order_notional_usdt: Decimal = Decimal(5000)
    max_position_notional_usdt: Decimal = Decimal(20000)
    max_instrument_exposure_usdt: Decimal = Decimal(30000)
    max_total_exposure_usdt: Decimal = Decimal(40000)
    max_leverage: Decimal = Decimal(3)
    max_margin_ratio: Decimal = Decimal("0.5")
    min_liquidation_distance: Decimal = Decimal("0.15")
    max_open_orders: int = 20
    max_orders_per_second: int = 10
    max_orders_per_minute: int = 120
    max_price_deviation: Decimal = Decimal("0.03")
    max_spread_bps: Decimal = Decimal(20)
    max_slippage_bps: Decimal = Decimal(100)
    max_funding_cost_per_day: Decimal = Decimal("0.003")
    allow_quote_as_mark: bool = True
    max_market_data_age_ms: int = 10_000
    max_clock_skew_ms: int = 5_000
    max_intent_age_ms: int = 120_000
    max_forecast_age_ms: int = 600_000
    min_forecast_confidence: Decimal = Decimal(0)
    duplicate_window_ms: int = 1_000
    max_daily_loss_fraction: Decimal = Decimal("0.05")
    soft_drawdown_fraction: Decimal = Decimal("0.10")
    hard_drawdown_fraction: Decimal = Decimal("0.20")
    max_consecutive_losses: int = 10
    loss_pause_s: int = 900
    max_volatility_ratio: Decimal = Decimal(8)
    volatility_warmup_bars: int = 20
    require_volatility: bool = False
    stop_loss_fraction: Decimal = Decimal(0)
    take_profit_fraction: Decimal = Decimal(0)
    trailing_stop_fraction: Decimal = Decimal(0)
    break_even_trigger_fraction: Decimal = Decimal(0)
    max_holding_s: int = 0

    def __post_init__(self) -> None:
        for name, kind in LIMIT_KINDS.items():
            value: Decimal | int = getattr(self, name)
            if type(value) is not kind:
                raise LimitError(f"{name}: {value!r} must be a {kind.__name__}")
            if isinstance(value, Decimal) and not value.is_finite():
                raise LimitError(f"{name}: {value} is not a finite number")
            if value < 0:
                raise LimitError(f"{name}: {value} is negative; limits are zero or above")
        if self.max_leverage < 1:
            raise LimitError(f"max_leverage: {self.max_leverage} is below 1")
        if self.soft_drawdown_fraction > self.hard_drawdown_fraction:
            raise LimitError(
                f"soft_drawdown_fraction: {self.soft_drawdown_fraction} exceeds "
                f"hard_drawdown_fraction {self.hard_drawdown_fraction}; reduce-only must come first"
            )
        if self.volatility_warmup_bars < 1:
            raise LimitError("volatility_warmup_bars: 0 leaves no average to compare with; give 1 or above")
        for name in _SHARES:
            if getattr(self, name) >= 1:
                raise LimitError(f"{name}: {getattr(self, name)} must be below 1 (0.05 means 5 %)")
        if self.trailing_stop_fraction and not Decimal("0.001") <= self.trailing_stop_fraction <= Decimal("0.1"):
            raise LimitError(
                f"trailing_stop_fraction: {self.trailing_stop_fraction} lies outside 0.001 to 0.1, what venues accept"
            )

    def as_strings(self) -> dict[str, str]:
        """Return every limit as text, in the order of the fields, as `ControlState` carries them."""
        return {name: write_limit(getattr(self, name)) for name in LIMIT_KINDS}

    def with_changes(self, changes: Mapping[str, str]) -> RiskLimits:
        """Return limits with some replaced by their texts. Raises `LimitError` naming the first that cannot be."""
        values: dict[str, Any] = {name: read_limit(name, text) for name, text in changes.items()}
        return replace(self, **values)


_SHARES = (
    "min_liquidation_distance",
    "max_price_deviation",
    "max_daily_loss_fraction",
    "soft_drawdown_fraction",
    "hard_drawdown_fraction",
    "stop_loss_fraction",
    "break_even_trigger_fraction",
)
_KINDS: dict[str, type] = {"Decimal": Decimal, "int": int, "bool": bool}
LIMIT_KINDS: dict[str, type] = {field.name: _KINDS[str(field.type)] for field in fields(RiskLimits)}
"""Limit name to Decimal, int or bool."""


def write_limit(value: Decimal | int | bool) -> str:
    """Write a limit as text that `read_limit` reads back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return format_decimal(value) if isinstance(value, Decimal) else str(value)


def read_limit(name: str, text: str) -> Decimal | int | bool:
    """Read one limit from text by its name. Raises `LimitError` for unknown names and texts of the wrong kind."""
    kind = LIMIT_KINDS.get(name)
    if kind is None:
        raise LimitError(f"unknown limit {name!r}; known: {', '.join(LIMIT_KINDS)}")
    if kind is bool:
        if text not in ("true", "false"):
            raise LimitError(f"{name}: {text!r} must be true or false")
        return text == "true"
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise LimitError(f"{name}: {text!r} is not a number") from None
    if kind is Decimal:
        return number
    if not number.is_finite() or number != number.to_integral_value():
        raise LimitError(f"{name}: {text!r} is not a whole number")
    return int(number)
