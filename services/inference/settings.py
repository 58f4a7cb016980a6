"""Settings of inference, from PERPFLOW_INFERENCE_<FIELD>."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

STARTER = "starter"
"""The model that ships with the package, for the simulated market."""


class InferenceSettings(BaseSettings):
    """Which models score: `champion` is traded on, `shadows` only scored.

    References are NAME/VERSION, whose version pins every byte of the model, or `starter`, for the simulated market.
    """

    model_config = SettingsConfigDict(env_prefix="PERPFLOW_INFERENCE_", frozen=True, extra="forbid")

    models_dir: Path = Field(default=Path("var/models"), description="registry that perpflow train-models writes to")
    champion: str = Field(default="", description="NAME/VERSION of the model that is traded on; none without one")
    shadows: tuple[str, ...] = Field(default=(), description="NAME/VERSION of models that are only scored")
    market: str = Field(default="", description="the session's; without a champion the simulated one has the starter")

    @property
    def champion_in_force(self) -> str:
        """The champion's reference; empty where there is none."""
        return self.champion or (STARTER if self.market == "simulated" else "")
