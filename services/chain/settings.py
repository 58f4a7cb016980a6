"""Settings of the chain, `PERPFLOW_CHAIN_*`; its cores have the settings of their services."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class ChainSettings(BaseSettings):
    """Settings of the chain."""

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_CHAIN_", extra="forbid", frozen=True)

    accounts: tuple[str, ...] = Field(default=(), description="accounts that this chain runs; all if empty")
