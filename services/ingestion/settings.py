"""Settings of ingestion, from PERPFLOW_INGESTION_<FIELD>."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.domain.instruments import DEFAULT_INSTRUMENT, LISTINGS, UnknownInstrument, split_instrument_id

HEADLINES_URL = "https://www.coindesk.com/arc/outboundfeeds/rss/"


class IngestionSettings(BaseSettings):
    """Which market is read, how fast, and what history goes first.

    `market` is ``live``, ``simulated`` or ``recorded:PATH``. `speed` (simulated and recorded) is market seconds per
    wall second, 0 as fast as possible. `span_s` bounds market time from the first event, 0 for no bound.
    """

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_INGESTION_", frozen=True, extra="forbid")

    market: str = Field(default="live", pattern=r"^(live|simulated|recorded:.+)$")
    instrument: str = Field(default=DEFAULT_INSTRUMENT)
    instruments: tuple[str, ...] = Field(default=(), description="several instead of `instrument`, all at once")
    speed: float = Field(default=1.0, ge=0, le=1e6, allow_inf_nan=False)
    span_s: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    history: Path | None = Field(default=None, description="Parquet of 1m klines for a recorded market")
    history_bars: int = Field(default=1500, ge=0, le=20_000)
    exchange_url: str = Field(default="http://127.0.0.1:8090", pattern=r"^https?://", description="simulated exchange")
    exchange_urls: tuple[str, ...] = Field(default=(), description="one for each of several simulated instruments")
    follow_exchange_clock: bool = Field(default=False, description="pace by the simulated exchange's clock")
    rest_url: str = Field(default="", pattern=r"^(https?://\S+)?$", description="left open, the venue's own")
    stream_url: str = Field(default="", pattern=r"^(wss?://\S+)?$", description="left open, the venue's own")
    rest_urls: dict[str, str] = Field(default={}, description="instead of `rest_url`, by venue, for several venues")
    stream_urls: dict[str, str] = Field(default={}, description="instead of `stream_url`, by venue")
    stale_after_s: float = Field(default=10.0, gt=0, le=300, description="reconnect when nothing came for so long")
    wait_for_trades_s: float = Field(
        default=10.0, gt=0, le=60, description="how long a bar waits for trades that are missing"
    )
    renew_after_s: float = Field(default=23 * 3600.0, gt=0, le=24 * 3600, description="connections end after 24 h")
    open_interest_every_s: float = Field(default=10.0, ge=1, le=3600)
    readings: bool = Field(
        default=False, description="poll the sources outside a live market that feature set outside_v1 reads"
    )
    glassnode_key: SecretStr = Field(default=SecretStr(""), description="key of the optional on-chain source")
    headlines_url: str = Field(default=HEADLINES_URL, description="RSS 2.0 feed of the optional headline source")
    queue_frames: int = Field(default=20_000, ge=100, le=1_000_000, description="reading halts when so many wait")

    @field_validator("instruments")
    @classmethod
    def _are_instruments(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            cls._is_instrument(value)
        return values

    @field_validator("rest_urls", "stream_urls")
    @classmethod
    def _are_addresses(cls, values: dict[str, str], info: ValidationInfo) -> dict[str, str]:
        schemes = ("http://", "https://") if info.field_name == "rest_urls" else ("ws://", "wss://")
        for venue, url in values.items():
            if venue not in LISTINGS:
                raise ValueError(f"unknown venue {venue!r}; known: {', '.join(sorted(LISTINGS))}")
            if not url.startswith(schemes):
                raise ValueError(f"the address of {venue} is {url!r}; give one that begins with {schemes[0]}")
        return values

    @field_validator("instrument")
    @classmethod
    def _is_instrument(cls, value: str) -> str:
        try:
            split_instrument_id(value)
        except UnknownInstrument as error:
            raise ValueError(str(error)) from None
        return value
