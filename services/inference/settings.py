"""Settings of inference, from PERPFLOW_INFERENCE_<FIELD>."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class InferenceSettings(BaseSettings):
    """Which models score: `champion` is traded on, `shadows` only scored. References are NAME or NAME/VERSION."""

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_INFERENCE_", frozen=True, extra="forbid")

    models_dir: Path = Field(default=Path("var/models"), description="registry that perpflow train-models writes to")
    champion: str = Field(default="starter", min_length=1)
    shadows: tuple[str, ...] = Field(default=())
