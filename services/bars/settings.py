"""Settings of bars, from PERPFLOW_BARS_<FIELD>."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.domain.bars import TIMEFRAMES


class BarsSettings(BaseSettings):
    """Which bars are built: `instruments` empty takes every one; `grace_ms` is how long a closed minute waits."""

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_BARS_", frozen=True, extra="forbid")

    timeframes: tuple[str, ...] = Field(default=tuple(TIMEFRAMES), min_length=1)
    instruments: tuple[str, ...] = Field(default=())
    grace_ms: int = Field(default=250, ge=0, lt=60_000)

    @field_validator("timeframes")
    @classmethod
    def _are_known(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [name for name in value if name not in TIMEFRAMES]
        if unknown:
            raise ValueError(f"unknown timeframes {unknown}; known are {', '.join(TIMEFRAMES)}")
        return value
