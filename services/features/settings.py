"""Settings of the features service, `PERPFLOW_FEATURES_*`."""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.indicators.feature_sets import DEFAULT_FEATURE_SET, FEATURE_SETS

HEADLINES_URL = "https://www.coindesk.com/arc/outboundfeeds/rss/"


class FeaturesSettings(BaseSettings):
    """Settings of the features service."""

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_FEATURES_", extra="forbid", frozen=True)

    feature_set: str = Field(default=DEFAULT_FEATURE_SET, description="name of a shipped feature set")
    faust_store: str = Field(default="memory://", description="Faust table store, for Kafka only")
    glassnode_key: SecretStr = Field(default=SecretStr(""), description="key of the optional on-chain source")
    headlines_url: str = Field(default=HEADLINES_URL, description="RSS 2.0 feed of the optional headline source")
    faust_web_port: int = Field(default=0, ge=0, le=65535, description="Faust's own web port; 0 turns it off")

    @field_validator("feature_set")
    @classmethod
    def _is_shipped(cls, value: str) -> str:
        if value not in FEATURE_SETS:
            raise ValueError(f"no feature set {value!r}; there are {', '.join(FEATURE_SETS)}")
        return value
