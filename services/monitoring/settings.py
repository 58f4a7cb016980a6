"""Settings of the monitoring service, read once from `PERPFLOW_MONITORING_<FIELD>`."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class MonitoringSettings(BaseSettings):
    """Where the page listens, who may sign in, when an alert is raised.

    `port` 0 takes any free port. Everybody signs in in testnet and live mode, where `host` is not a loopback address,
    and with `require_sign_in`. Without `allowed_hosts` the page answers to loopback names alone. `trusted_proxies` are
    the addresses whose X-Forwarded-For is believed; `is_behind_tls` says that browsers reach the page over https.
    `service_urls` maps a service to the address of its metrics where no run folder tells it (containers).
    The session fields are words for the banner; they change nothing else.
    """

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_MONITORING_", frozen=True, extra="forbid")

    host: str = "127.0.0.1"
    port: int = Field(default=8420, ge=0, le=65535)
    allowed_hosts: tuple[str, ...] = ()
    users_file: Path | None = None
    require_sign_in: bool = False
    session_hours: float = Field(default=12.0, gt=0, le=168)
    sign_in_attempts: int = Field(default=10, ge=1, le=1000)
    sign_in_window_s: float = Field(default=900.0, gt=0)
    trusted_proxies: tuple[str, ...] = ()
    is_behind_tls: bool = False
    default_account: str = "paper"
    default_instrument: str = "BTCUSDT.BINANCE"
    service_urls: dict[str, str] = Field(default_factory=dict)

    session_market: str = ""
    session_is_sample: bool = False
    session_mode: Literal["paper", "testnet", "live"] = "paper"
    session_seed: int | None = None
    session_speed: float | None = Field(default=None, ge=0)

    push_interval_ms: int = Field(default=250, ge=50, le=5000)
    probe_interval_ms: int = Field(default=2000, ge=200, le=60_000)
    market_sample_records: int = Field(default=400, ge=1, le=100_000)
    history_records: int = Field(default=4000, ge=1, le=1_000_000)

    stale_market_after_ms: int = Field(default=15_000, ge=1000)
    dead_letters_clear_after_ms: int = Field(default=300_000, ge=1000)
    lag_limit_records: int = Field(default=20_000, ge=1)
    lag_for_ms: int = Field(default=15_000, ge=0)
    down_for_ms: int = Field(default=5000, ge=0)

    @field_validator("service_urls")
    @classmethod
    def _are_http_urls(cls, urls: dict[str, str]) -> dict[str, str]:
        for service, url in urls.items():
            if not url.startswith(("http://", "https://")):
                raise ValueError(f"service_urls[{service!r}] is {url!r}; give an address such as http://bars:9000")
        return urls

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the page."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def is_sign_in_required(self) -> bool:
        """Whether nobody reads or commands without signing in."""
        return self.require_sign_in or self.session_mode != "paper" or not self.is_loopback
