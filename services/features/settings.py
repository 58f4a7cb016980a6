"""Settings of the features service, `PERPFLOW_FEATURES_*`."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.indicators.feature_set import TIMEFRAME_SECONDS, FeatureSet
from libs.indicators.feature_sets import DEFAULT_FEATURE_SET, FEATURE_SETS, load_feature_set


class FeaturesSettings(BaseSettings):
    """Settings of the features service."""

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_FEATURES_", extra="forbid", frozen=True)

    feature_sets: tuple[str, ...] = Field(
        default=(f"{DEFAULT_FEATURE_SET}/1m",),
        min_length=1,
        description="shipped feature sets to compute, each with its base timeframe",
    )
    faust_store: str = Field(default="memory://", description="Faust table store, for Kafka only")
    faust_web_port: int = Field(default=0, ge=0, le=65535, description="Faust's own web port; 0 turns it off")

    @field_validator("feature_sets")
    @classmethod
    def _are_shipped(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for one in value:
            name, _, timeframe = one.partition("/")
            if name not in FEATURE_SETS:
                raise ValueError(f"no feature set {name!r}; there are {', '.join(FEATURE_SETS)}")
            if timeframe not in TIMEFRAME_SECONDS:
                raise ValueError(f"{one!r}: write SET/TIMEFRAME, one of {', '.join(TIMEFRAME_SECONDS)}")
        if len(set(value)) < len(value):
            raise ValueError(f"a feature set is listed twice in {', '.join(value)}; list each once")
        return value

    def load(self) -> list[FeatureSet]:
        """Return the feature sets, each over its base timeframe."""
        return [load_feature_set(*one.split("/")) for one in self.feature_sets]
