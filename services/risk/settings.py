"""Settings of the risk service: every limit, its unit in its name, from `PERPFLOW_RISK_<FIELD>`; frozen once read."""

from __future__ import annotations

from decimal import Decimal
from typing import Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.domain.instruments import DEFAULT_INSTRUMENTS
from services.risk.core.limits import LIMIT_KINDS, RiskLimits

_DEFAULTS = RiskLimits()


class RiskSettings(BaseSettings):
    """The account guarded, the limits at start (`RiskLimits` says what each means), where the kill switch looks.

    `halt` (anything but 0, false, no, off) and `kill_switch_file` (a path where something is) halt trading. Limits
    change by SET_LIMITS alone: those given here are put on the control topic at the first start, later what changed.
    """

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_RISK_", frozen=True, extra="forbid")

    account: str = Field(default="paper", pattern=r"^[A-Za-z0-9_-]{1,32}$")
    instruments: tuple[str, ...] = Field(default=DEFAULT_INSTRUMENTS, min_length=1)
    model: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*/[0-9a-f]+)?$",
        description="NAME/VERSION whose forecasts the account trades; the champion's if empty",
    )
    halt: str = ""
    kill_switch_file: str = ""
    max_order_notional_usdt: Decimal = _DEFAULTS.max_order_notional_usdt
    max_position_notional_usdt: Decimal = _DEFAULTS.max_position_notional_usdt
    max_instrument_exposure_usdt: Decimal = _DEFAULTS.max_instrument_exposure_usdt
    max_total_exposure_usdt: Decimal = _DEFAULTS.max_total_exposure_usdt
    max_leverage: Decimal = _DEFAULTS.max_leverage
    max_margin_ratio: Decimal = _DEFAULTS.max_margin_ratio
    min_liquidation_distance: Decimal = _DEFAULTS.min_liquidation_distance
    max_open_orders: int = _DEFAULTS.max_open_orders
    max_orders_per_second: int = _DEFAULTS.max_orders_per_second
    max_orders_per_minute: int = _DEFAULTS.max_orders_per_minute
    max_price_deviation: Decimal = _DEFAULTS.max_price_deviation
    max_spread_bps: Decimal = _DEFAULTS.max_spread_bps
    max_slippage_bps: Decimal = _DEFAULTS.max_slippage_bps
    max_funding_cost_per_day: Decimal = _DEFAULTS.max_funding_cost_per_day
    allow_quote_as_mark: bool = _DEFAULTS.allow_quote_as_mark
    max_market_data_age_ms: int = _DEFAULTS.max_market_data_age_ms
    max_clock_skew_ms: int = _DEFAULTS.max_clock_skew_ms
    max_intent_age_ms: int = _DEFAULTS.max_intent_age_ms
    max_forecast_age_ms: int = _DEFAULTS.max_forecast_age_ms
    min_forecast_confidence: Decimal = _DEFAULTS.min_forecast_confidence
    duplicate_window_ms: int = _DEFAULTS.duplicate_window_ms
    max_daily_loss_fraction: Decimal = _DEFAULTS.max_daily_loss_fraction
    soft_drawdown_fraction: Decimal = _DEFAULTS.soft_drawdown_fraction
    hard_drawdown_fraction: Decimal = _DEFAULTS.hard_drawdown_fraction
    max_consecutive_losses: int = _DEFAULTS.max_consecutive_losses
    loss_pause_s: int = _DEFAULTS.loss_pause_s
    max_volatility_ratio: Decimal = _DEFAULTS.max_volatility_ratio
    volatility_warmup_bars: int = _DEFAULTS.volatility_warmup_bars
    require_volatility: bool = _DEFAULTS.require_volatility
    stop_loss_fraction: Decimal = _DEFAULTS.stop_loss_fraction
    take_profit_fraction: Decimal = _DEFAULTS.take_profit_fraction
    trailing_stop_fraction: Decimal = _DEFAULTS.trailing_stop_fraction
    break_even_trigger_fraction: Decimal = _DEFAULTS.break_even_trigger_fraction
    max_holding_s: int = _DEFAULTS.max_holding_s

    @model_validator(mode="after")
    def _check_limits(self) -> Self:
        self.limits()
        return self

    def limits(self) -> RiskLimits:
        """Return the limits as the gate takes them."""
        return RiskLimits(**{name: getattr(self, name) for name in LIMIT_KINDS})
