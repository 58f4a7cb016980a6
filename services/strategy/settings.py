"""Settings of strategy, from PERPFLOW_STRATEGY_<FIELD>."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.domain.instruments import DEFAULT_INSTRUMENTS


class StrategyChoice(BaseModel):
    """A strategy by name: a shipped one, or the dotted path ``package.module:Class`` of your own."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str = Field(min_length=1)
    parameters: dict[str, Any] = Field(default_factory=dict)


class StrategySettings(BaseSettings):
    """Who trades what: the account, its instruments and the strategies that share it."""

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_STRATEGY_", frozen=True, extra="forbid")

    account: str = Field(default="paper", min_length=1)
    instruments: tuple[str, ...] = Field(default=DEFAULT_INSTRUMENTS, min_length=1)
    model: str = Field(
        default="",
        pattern=r"^([A-Za-z0-9][A-Za-z0-9_.-]*/[0-9a-f]+)?$",
        description="NAME/VERSION whose forecasts are traded, whatever its role; the champion's if empty",
    )
    timeframe: str = Field(default="1m", description="at most one intent per instrument and bar of this timeframe")
    strategies: tuple[StrategyChoice, ...] = Field(
        default=(StrategyChoice(path="forecast_threshold"), StrategyChoice(path="ema_cross")), min_length=1
    )
