"""Settings of execution, from PERPFLOW_EXECUTION_<FIELD>."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.domain.instruments import DEFAULT_INSTRUMENTS
from libs.matching import BarFill


class ExecutionSettings(BaseSettings):
    """The account and its venue. Fee rates are of notional (0.0005 = 5 bps); left open they are the instrument's own.

    Paper: `latency_ms` is market time from command to venue, `latency_jitter_ms` a spread on top that each order id
    fixes. Testnet and live: the key, whose account must be one-way, single-asset and this process's alone; the
    addresses, left open those of the venue or its testnet; `venue_speed`, how many times faster than ours the venue's
    clock runs (1 but for a simulated exchange).
    """

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_EXECUTION_", frozen=True, extra="forbid")

    mode: Literal["paper", "testnet", "live"] = "paper"
    account: str = Field(default="paper", pattern=r"^[A-Za-z0-9_-]{1,32}$")
    instruments: tuple[str, ...] = Field(default=DEFAULT_INSTRUMENTS, min_length=1)
    starting_balance_usdt: Decimal = Field(default=Decimal(10_000), gt=0)
    leverage: Decimal = Field(default=Decimal(3), ge=1, le=125)
    latency_ms: int = Field(default=50, ge=0, le=60_000)
    latency_jitter_ms: int = Field(default=0, ge=0, le=60_000)
    maker_fee_rate: Decimal | None = Field(default=None, ge=Decimal("-0.01"), le=Decimal("0.01"))
    taker_fee_rate: Decimal | None = Field(default=None, ge=Decimal("-0.01"), le=Decimal("0.01"))
    slippage_bps: Decimal = Field(default=Decimal(2), ge=0, le=500)
    impact_bps: Decimal = Field(
        default=Decimal(0), ge=0, le=5_000, description="of an order of a bar's whole volume, where bars are the market"
    )
    bar_fill: BarFill = Field(default=BarFill.NEXT_OPEN, description="where bars are the whole market, see `BarFill`")
    no_liquidity_timeout_s: int = Field(default=10, ge=0, le=3_600)
    account_interval_s: int = Field(default=5, ge=1, le=3_600)
    api_key: SecretStr = SecretStr("")
    api_secret: SecretStr = SecretStr("")
    rest_url: str = Field(default="", pattern=r"^(https?://\S+)?$")
    stream_url: str = Field(default="", pattern=r"^(wss?://\S+)?$")
    venue_speed: float = Field(default=1.0, gt=0, le=1e6, allow_inf_nan=False)
    max_command_age_s: int = Field(default=30, ge=1, le=3_600, description="an older order is not sent any more")
    reconcile_interval_s: int = Field(default=10, ge=1, le=300)
    dead_man_countdown_s: int = Field(default=60, ge=6, le=3_600)
