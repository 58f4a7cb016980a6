"""The recorder's settings, from ``PERPFLOW_RECORDER_*``."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class RecorderSettings(BaseSettings):
    """How much is gathered before it is written, and how long an outage is borne."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", env_prefix="PERPFLOW_RECORDER_")

    batch_rows: int = Field(10_000, ge=1, le=1_000_000, description="rows that are written at once at the latest")
    # A write costs ClickHouse about 10 ms of a core per table, however few the rows; a second keeps that small.
    flush_interval_ms: int = Field(1_000, ge=10, le=60_000, description="age at which rows are written at the latest")
    poll_max_records: int = Field(5_000, ge=1, le=100_000)
    max_buffered_rows: int = Field(
        200_000, ge=1, description="rows held while ClickHouse is down; then reading stops until it is back"
    )
    retry_min_ms: int = Field(200, ge=1, description="first pause after ClickHouse was found down; doubles")
    retry_max_ms: int = Field(5_000, ge=1)
    retention_every_s: float = Field(600.0, gt=0, description="how often old records are removed from the topics")
    retention_max_bytes: int = Field(
        20_000_000_000, ge=1_000_000, description="size of the embedded log beyond which records go at a younger age"
    )
    retention_max_age_s: float | None = Field(
        None, gt=0, description="shortens what the topics keep; those kept for ever stay so"
    )
