"""The inference core: keeps a window of vectors per instrument and turns a model's scores into forecasts.

It runs no model itself: a `ScoredModel` carries the function that does. History fills windows and gives no forecast.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, TypeAlias

import numpy as np
import numpy.typing as npt

from libs.domain.bars import TIMEFRAMES
from libs.domain.events import Event, Unhandleable
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast, ModelRole
from libs.domain.state import ArrayOf, StateFormat, StateMismatch
from services.inference.core.manifest import Manifest, ManifestError

_UNIFORM = 1.0 / 3.0

Window: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scores:
    """What a model answered: probabilities of down, flat, up, and the expected return in bps if it has that head."""

    probability_down: float
    probability_flat: float
    probability_up: float
    expected_return_bps: float | None = None


@dataclass(frozen=True, slots=True)
class ScoredModel:
    """A model ready to score: `score` takes float32 (1, window, inputs), normalised, without NaN."""

    manifest: Manifest
    role: ModelRole
    score: Callable[[npt.NDArray[np.float32]], Scores]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A model with its manifest's numbers as arrays."""

    model: ScoredModel
    indices: npt.NDArray[np.intp]
    means: npt.NDArray[np.float64]
    scales: npt.NDArray[np.float64]


@dataclass(slots=True)
class _InstrumentWindow:
    """The last vectors of an instrument, oldest first, NaN rows where there was none; `last_time` is the newest's."""

    last_time: int
    rows: Annotated[Window, ArrayOf("<f8")]


@dataclass(frozen=True, slots=True)
class InferenceState:
    """What the core keeps between events."""

    schema_hash: str
    windows: dict[str, _InstrumentWindow]


_STATE = StateFormat("inference", 1, InferenceState)


class InferenceCore:
    """Takes feature vectors and returns one forecast per model: the champion's first, then the shadows'.

    All models must be of one feature set. A vector of another schema is `Unhandleable`, naming both hashes. Vectors
    missing in between are unknown rows, and so is what came before the first one: coverage says how much was known.
    A vector not newer than the last one was seen already and changes nothing.
    """

    def __init__(self, models: Sequence[ScoredModel]) -> None:
        """Check that the models go together. Raises `ManifestError` otherwise."""
        if not models:
            raise ManifestError("no model was given; name a champion")
        champions = [one.manifest.model_id for one in models if one.role is ModelRole.CHAMPION]
        if len(champions) != 1:
            raise ManifestError(f"exactly one champion is needed, got {champions or 'none'}")
        names = [one.manifest.model_id for one in models]
        if len(set(names)) != len(names):
            raise ManifestError(f"a model is listed twice among {', '.join(names)}; list each once")
        first = models[0].manifest
        for one in models[1:]:
            other = one.manifest
            if (other.schema_hash, other.timeframe) != (first.schema_hash, first.timeframe):
                raise ManifestError(
                    f"model {other.model_id} was trained on features {other.schema_hash[:12]} ({other.timeframe}) and "
                    f"{first.model_id} on {first.schema_hash[:12]} ({first.timeframe}); train both on one feature set"
                )
        if first.timeframe not in TIMEFRAMES:
            raise ManifestError(f"manifest timeframe is {first.timeframe!r}, expected one of {', '.join(TIMEFRAMES)}")
        ordered = sorted(models, key=lambda one: one.role)
        self._models = tuple(_prepare(one) for one in ordered)
        self._feature_set = first.feature_set
        self._schema_hash = first.schema_hash
        self._step_ns = TIMEFRAMES[first.timeframe]
        self._depth = max(one.manifest.window for one in models)
        self._least_width = max(int(one.indices.max()) + 1 for one in self._models)
        self._windows: dict[str, _InstrumentWindow] = {}

    def handle(self, event: Event) -> Sequence[Event]:
        """Add a vector to its instrument's window and forecast from it, unless it is history."""
        if not isinstance(event, FeatureVector):
            raise Unhandleable(f"inference takes feature vectors, not {type(event).__name__}")
        if event.schema_hash != self._schema_hash:
            raise Unhandleable(
                f"vector {event.event_id} is of feature set {event.feature_set!r} with schema hash "
                f"{event.schema_hash}, the models were trained on {self._feature_set!r} with {self._schema_hash}; "
                "train them again"
            )
        values = event.values
        known = self._windows.get(event.instrument)
        if len(values) < self._least_width or (known is not None and len(values) != known.rows.shape[1]):
            expected = self._least_width if known is None else known.rows.shape[1]
            raise Unhandleable(f"vector {event.event_id} has {len(values)} values, expected {expected}")
        if known is not None and event.event_time <= known.last_time:
            return []
        window = self._advance(event, values, known)
        if event.is_history:
            return []
        return [_forecast(event, one, window.rows) for one in self._models]

    def _advance(self, event: FeatureVector, values: Window, known: _InstrumentWindow | None) -> _InstrumentWindow:
        if known is None:
            known = _InstrumentWindow(event.event_time, np.full((self._depth, len(values)), np.nan))
            self._windows[event.instrument] = known
            steps = 1
        else:
            steps = min(max(1, (event.event_time - known.last_time) // self._step_ns), self._depth)
        rows = np.full_like(known.rows, np.nan)
        rows[: self._depth - steps] = known.rows[steps:]
        rows[-1] = values
        known.rows = rows
        known.last_time = event.event_time
        return known

    def snapshot(self) -> bytes:
        """Return the windows, in order of instrument."""
        return _STATE.encode(InferenceState(self._schema_hash, dict(sorted(self._windows.items()))))

    def restore(self, state: bytes) -> None:
        """Take over windows. Raises `StateMismatch` where they were kept for other features.

        Windows of another depth (a model with a longer or shorter memory took over) are cut or begin with unknown rows.
        """
        kept = _STATE.decode(state)
        if kept.schema_hash != self._schema_hash:
            raise StateMismatch(
                f"the kept windows are of schema hash {kept.schema_hash}, the models of {self._schema_hash}; "
                "start a new session or give the models that the session began with"
            )
        for window in kept.windows.values():
            depth, width = window.rows.shape
            rows = np.full((self._depth, width), np.nan)
            shared = min(depth, self._depth)
            rows[self._depth - shared :] = window.rows[depth - shared :]
            window.rows = rows
        self._windows = kept.windows


def normalise(
    rows: Window, means: npt.NDArray[np.float64], scales: npt.NDArray[np.float64], clip: float
) -> tuple[npt.NDArray[np.float32], float]:
    """Normalise (..., inputs) for a model: (value - mean) / scale, clipped, 0 where unknown; also the share known.

    Training prepares its examples with this very function. What is not finite counts as unknown.
    """
    is_known = np.isfinite(rows)
    scaled = np.clip((np.where(is_known, rows, means) - means) / scales, -clip, clip)
    return scaled.astype(np.float32), float(is_known.mean())


def _prepare(model: ScoredModel) -> _Prepared:
    inputs = model.manifest.inputs
    return _Prepared(
        model=model,
        indices=np.array([one.index for one in inputs], dtype=np.intp),
        means=np.array([one.mean for one in inputs], dtype=np.float64),
        scales=np.array([one.scale for one in inputs], dtype=np.float64),
    )


def _forecast(vector: FeatureVector, prepared: _Prepared, rows: Window) -> Forecast:
    manifest = prepared.model.manifest
    chosen = rows[-manifest.window :, prepared.indices]
    inputs, coverage = normalise(chosen, prepared.means, prepared.scales, manifest.clip)
    scores = prepared.model.score(inputs[np.newaxis])
    down, flat, up = scores.probability_down, scores.probability_flat, scores.probability_up
    total = down + flat + up
    if not (math.isfinite(total) and min(down, flat, up) >= 0.0 and abs(total - 1.0) < 1e-3):
        raise ArithmeticError(
            f"model {manifest.model_id} answered probabilities {down}, {flat}, {up} to {vector.event_id}"
        )
    down, flat, up = down / total, flat / total, up / total
    excess = (max(down, flat, up) - _UNIFORM) / (1.0 - _UNIFORM)
    return Forecast(
        instrument=vector.instrument,
        event_id=f"{vector.event_id}/{manifest.model_id}",
        event_time=vector.event_time,
        vector_id=vector.event_id,
        horizon_ns=manifest.horizon_ns,
        probability_down=down,
        probability_flat=flat,
        probability_up=up,
        confidence=min(1.0, max(0.0, excess)) * coverage,
        coverage=coverage,
        expected_return_bps=scores.expected_return_bps,
        model_name=manifest.name,
        model_version=manifest.version,
        model_sha256=manifest.onnx_sha256,
        role=prepared.model.role,
        feature_set=manifest.feature_set,
        schema_hash=manifest.schema_hash,
        reference_price_e8=vector.reference_price_e8,
        is_incomplete=vector.is_incomplete,
    )
