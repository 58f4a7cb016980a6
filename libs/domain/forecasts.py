"""Forecasts of a model over a horizon."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from libs.domain.records import quickly_made


class ModelRole(IntEnum):
    """Champions are traded on; shadows are only scored."""

    CHAMPION = 1
    SHADOW = 2


@quickly_made
@dataclass(frozen=True, slots=True)
class Forecast:
    """Direction probabilities over the next `horizon_ns`; they sum to 1 within float error.

    `confidence` in [0, 1] is the largest probability less the uniform one, rescaled, times `coverage`, the share of
    the model's inputs that were known. `expected_return_bps` is the mean forecast return, if the model has that head.
    An incomplete one was made from a bar that lacks trades: risk refuses to add risk on it.
    """

    instrument: str
    event_id: str
    event_time: int
    vector_id: str
    horizon_ns: int
    probability_down: float
    probability_flat: float
    probability_up: float
    confidence: float
    coverage: float
    expected_return_bps: float | None
    model_name: str
    model_version: str
    model_sha256: str
    role: ModelRole
    feature_set: str
    schema_hash: str
    reference_price_e8: int
    is_incomplete: bool = False

    def is_of(self, model: str) -> bool:
        """Whether it is of a model, NAME/VERSION; without one, whether it is of a champion."""
        if not model:
            return self.role is ModelRole.CHAMPION
        return f"{self.model_name}/{self.model_version}" == model
