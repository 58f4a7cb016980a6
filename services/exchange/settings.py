"""Settings of the simulated exchange, from PERPFLOW_EXCHANGE_<FIELD>."""

from __future__ import annotations

import re
from decimal import Decimal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.exchange.core.market import MAX_SEED


class ExchangeSettings(BaseSettings):
    """Which market is simulated and where it answers. `speed` paces REST and websockets: market seconds per second.

    A speed of 0 (as fast as possible) belongs to readers of the frames endpoint; REST and websockets then run at 1.
    """

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_EXCHANGE_", frozen=True, extra="forbid")

    seed: int = Field(default=7, ge=0, le=MAX_SEED)
    speed: float = Field(default=1.0, ge=0, le=1e6, allow_inf_nan=False)
    host: str = Field(default="127.0.0.1", min_length=1)
    port: int = Field(default=0, ge=0, le=65535, description="0 takes a free one")
    api_key: SecretStr = Field(default=SecretStr("perpflow"), description="X-MBX-APIKEY; local only")
    api_secret: SecretStr = Field(default=SecretStr("perpflow-secret"), description="signs requests; local only")
    starting_balance_usdt: Decimal = Field(default=Decimal(10_000), gt=0, le=Decimal(10**9), decimal_places=8)
    leverage: int = Field(default=20, ge=1, le=125, description="until POST /fapi/v1/leverage changes it")

    @field_validator("api_key", "api_secret")
    @classmethod
    def _can_stand_in_a_header(cls, value: SecretStr) -> SecretStr:
        if not re.fullmatch(r"[!-~]{1,128}", value.get_secret_value()):
            raise ValueError("1 to 128 printable ASCII characters without blanks")
        return value
