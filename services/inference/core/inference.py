"""The inference core: keeps windows of vectors and turns models' scores into forecasts; changes champions by command.

It runs no model itself: a `ScoredModel` carries the function that does. History fills windows and gives no forecast.
Models of any feature set, timeframe and horizon run side by side, each on the vectors of its own feature set. A
PROMOTE_MODEL command makes a shadow the champion and the champion a shadow, between two vectors, so that every vector
gets exactly one forecast of every model.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Annotated, Any, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from libs.domain.bars import TIMEFRAMES
from libs.domain.control import ALL_ACCOUNTS, ControlAction, ControlCommand
from libs.domain.events import Event, Unhandleable
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast, ModelRole
from libs.domain.records import quickly_made
from libs.domain.state import ArrayOf, StateFormat, StateMismatch
from services.inference.core.manifest import Manifest, ManifestError

_UNIFORM = 1.0 / 3.0
_ROOM_ROWS = 64
_DOUBLES = np.dtype("<f8")

PREVIOUS = "previous"
"""What PROMOTE_MODEL names to roll back to the champion before."""

Window: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]


@quickly_made
@dataclass(frozen=True, slots=True)
class Scores:
    """What a model answered: probabilities of down, flat, up, and the expected return in bps if it has that head."""

    probability_down: float
    probability_flat: float
    probability_up: float
    expected_return_bps: float | None = None


@dataclass(frozen=True, slots=True)
class ScoredModel:
    """A model ready to score: `score` takes float32 (1, window, inputs), as the features are, NaN where unknown."""

    manifest: Manifest
    role: ModelRole
    score: Callable[[Singles], Scores]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A model with what every forecast of it needs, looked up once."""

    model: ScoredModel
    model_id: str
    suffix: str
    version: str
    indices: npt.NDArray[np.intp]
    score: Callable[[Singles], Scores]
    window: int
    name: str
    horizon_ns: int
    onnx_sha256: str
    feature_set: str
    schema_hash: str


@dataclass(frozen=True, slots=True)
class _Source:
    """What is common to the models of one feature set over one timeframe."""

    schema_hash: str
    feature_set: str
    timeframe: str
    step_ns: int
    depth: int
    least_width: int
    models: tuple[_Prepared, ...]


@dataclass(slots=True)
class _InstrumentWindow:
    """The last vectors of an instrument, oldest first, NaN rows where there was none; `last_time` is the newest's."""

    last_time: int
    rows: Annotated[Window, ArrayOf("<f8")]


class _LatestRows:
    """The window of an instrument while it runs: its rows lie in more room, so that few vectors move the others."""

    __slots__ = ("_buffer", "_depth", "_end", "last_time", "width")

    def __init__(self, depth: int, width: int) -> None:
        self._buffer = np.full((depth + _ROOM_ROWS, width), np.nan)
        self._depth = self._end = depth
        self.last_time, self.width = 0, width

    @classmethod
    def of(cls, kept: _InstrumentWindow, depth: int) -> Self:
        """Go on from what was kept, cut or begun with unknown rows where it has another depth."""
        made = cls(depth, kept.rows.shape[1])
        shared = min(depth, len(kept.rows))
        made._buffer[depth - shared : depth] = kept.rows[len(kept.rows) - shared :]
        made.last_time = kept.last_time
        return made

    @property
    def rows(self) -> Window:
        """The last vectors, oldest first."""
        return self._buffer[self._end - self._depth : self._end]

    def append(self, time: int, values: Window, step_ns: int) -> int:
        """Add a vector, unknown rows for those missing before it; return how many are missing."""
        steps = 1
        if self.last_time and time - self.last_time != step_ns:
            steps = min(max(1, (time - self.last_time) // step_ns), self._depth)
        for _ in range(steps - 1):
            self._next_row()[:] = np.nan
        self._next_row()[:] = values
        self.last_time = time
        return steps - 1

    def _next_row(self) -> Window:
        if self._end == len(self._buffer):
            kept = self._depth - 1
            self._buffer[:kept] = self._buffer[self._end - kept :]
            self._end = kept
        row: Window = self._buffer[self._end]
        self._end += 1
        return row


@dataclass(slots=True)
class InferenceState:
    """What the core keeps between events.

    `configured` is the champion that the settings named; `champions` those that commands made since, the one in force
    last. `windows` are by schema hash, then instrument.
    """

    configured: str = ""
    champions: list[str] = field(default_factory=list)
    windows: dict[str, dict[str, _InstrumentWindow]] = field(default_factory=dict)


def _one_set(state: dict[str, Any]) -> dict[str, Any]:
    """Version 1 served one feature set, and the champion that its settings named."""
    return {"windows": {state["schema_hash"]: state["windows"]}}


_STATE = StateFormat("inference", 2, InferenceState, migrations={1: _one_set})


class InferenceCore:
    """Takes feature vectors and returns one forecast per model that reads them, the champion's first.

    A vector that no model reads changes nothing; one of a model's feature set in another definition is `Unhandleable`,
    naming both hashes. Vectors missing in between are unknown rows, and so is what came before the first one: coverage
    says how much was known. A vector not newer than the last one was seen already and changes nothing. Without a
    champion shadows are scored all the same; without any model there are no forecasts.
    """

    def __init__(self, models: Sequence[ScoredModel]) -> None:
        """Check that the models go together. Raises `ManifestError` otherwise."""
        champions = [one.manifest.model_id for one in models if one.role is ModelRole.CHAMPION]
        if len(champions) > 1:
            raise ManifestError(f"one champion at most is possible, got {', '.join(champions)}")
        names = [one.manifest.model_id for one in models]
        if len(set(names)) != len(names):
            raise ManifestError(f"a model is listed twice among {', '.join(names)}; list each once")
        for one in models:
            if one.manifest.timeframe not in TIMEFRAMES:
                raise ManifestError(
                    f"manifest timeframe is {one.manifest.timeframe!r}, expected one of {', '.join(TIMEFRAMES)}"
                )
        prepared = [_prepare(one) for one in sorted(models, key=lambda one: one.role)]
        self._references = {one.model.manifest.reference: one.model_id for one in prepared}
        self._sources = {
            schema_hash: _make_source([one for one in prepared if one.model.manifest.schema_hash == schema_hash])
            for schema_hash in dict.fromkeys(one.model.manifest.schema_hash for one in prepared)
        }
        self._hashes = {(one.feature_set, one.timeframe): key for key, one in self._sources.items()}
        self._orders: dict[str, tuple[str, tuple[tuple[_Prepared, ModelRole], ...]]] = {}
        self._state = InferenceState(champions[0] if champions else "", list(champions))
        self._windows: dict[str, dict[str, _LatestRows]] = {}
        # By schema hash and instrument, then model; made of the windows, and never kept.
        self._inputs: dict[tuple[str, str], dict[str, ModelInputs]] = {}
        # What single precision cannot hold becomes infinite, and a sum with it, without a warning. Numpy keeps what it
        # warns of in the context, and to run in one that ignores it costs a tenth of setting it for each vector.
        self._without_warning = copy_context()
        self._without_warning.run(np.seterr, over="ignore", invalid="ignore")

    @property
    def champion(self) -> str:
        """The id of the model that is traded on, empty where there is none."""
        return self._state.champions[-1] if self._state.champions else ""

    def handle(self, event: Event) -> Sequence[Event]:
        """Add a vector to its instrument's window and forecast from it, unless it is history; or obey a command."""
        if isinstance(event, FeatureVector):
            return self._on_vector(event)
        if isinstance(event, ControlCommand):
            if event.action is ControlAction.PROMOTE_MODEL:
                self._promote(event)
            return []
        raise Unhandleable(f"inference takes feature vectors and commands, not {type(event).__name__}")

    def _on_vector(self, event: FeatureVector) -> Sequence[Event]:
        source = self._sources.get(event.schema_hash)
        if source is None:
            expected = self._hashes.get((event.feature_set, event.timeframe))
            if expected is None:
                return []
            raise Unhandleable(
                f"vector {event.event_id} is of feature set {event.feature_set!r} with schema hash "
                f"{event.schema_hash}, the models were trained on it with {expected}; train them again"
            )
        windows = self._windows.get(event.schema_hash)
        if windows is None:
            windows = self._windows[event.schema_hash] = {}
        values = np.frombuffer(event.packed, _DOUBLES)
        known = windows.get(event.instrument)
        if len(values) < source.least_width or (known is not None and len(values) != known.width):
            width = source.least_width if known is None else known.width
            raise Unhandleable(f"vector {event.event_id} has {len(values)} values, expected {width}")
        if known is not None and event.event_time <= known.last_time:
            return []
        if known is None:
            known = windows[event.instrument] = _LatestRows(source.depth, len(values))
        missed = known.append(event.event_time, values, source.step_ns)
        inputs = self._inputs.get((event.schema_hash, event.instrument))
        if inputs is None or missed:
            inputs = self._without_warning.run(_make_inputs, source.models, known.rows)
            self._inputs[event.schema_hash, event.instrument] = inputs
        else:
            self._without_warning.run(_append_to, inputs, values)
        if event.is_history:
            return []
        return [_forecast(event, one, inputs[one.model_id], role) for one, role in self._order(source)]

    def _order(self, source: _Source) -> tuple[tuple[_Prepared, ModelRole], ...]:
        """Return a source's models, the champion first; kept, for it changes by command alone."""
        champion = self.champion
        kept = self._orders.get(source.schema_hash)
        if kept is None or kept[0] != champion:
            ordered = sorted(source.models, key=lambda one: one.model_id != champion)
            roles = (ModelRole.SHADOW, ModelRole.CHAMPION)
            kept = champion, tuple((one, roles[one.model_id == champion]) for one in ordered)
            self._orders[source.schema_hash] = kept
        return kept[1]

    def _promote(self, command: ControlCommand) -> None:
        if command.account != ALL_ACCOUNTS:
            raise Unhandleable(
                f"command {command.event_id} promotes a model for account {command.account}; models serve all, "
                f"address it to {ALL_ACCOUNTS!r}"
            )
        named = command.arguments.get("model", "")
        champions = self._state.champions
        if named == PREVIOUS:
            if len(champions) < 2:
                raise Unhandleable(f"command {command.event_id} rolls back, but no model was promoted before")
            champions.pop()
            return
        chosen = self._references.get(named)
        if chosen is None:
            raise Unhandleable(
                f"command {command.event_id} promotes {named!r}, which does not run here; there are "
                f"{', '.join(sorted(self._references)) or 'no models'}; a new model starts as a shadow"
            )
        if chosen != self.champion:
            champions.append(chosen)

    def snapshot(self) -> bytes:
        """Return the windows, in order of feature set and instrument, and the champions."""
        state = self._state
        windows = {
            key: {name: _InstrumentWindow(one.last_time, one.rows) for name, one in sorted(kept.items())}
            for key, kept in sorted(self._windows.items())
        }
        return _STATE.encode(InferenceState(state.configured, state.champions, windows))

    def restore(self, state: bytes) -> None:
        """Take over windows and the champion in force. Raises `StateMismatch` where none of them is a model's here.

        Windows of another depth (a model with a longer or shorter memory took over) are cut or begin with unknown rows.
        Settings that name another champion than they did, or no longer a promoted model, are a newer decision than the
        commands before it.
        """
        kept = _STATE.decode(state)
        windows = {key: one for key, one in kept.windows.items() if key in self._sources}
        if kept.windows and self._sources and not windows:
            raise StateMismatch(
                f"the kept windows are of schema hash {', '.join(kept.windows)}, the models of "
                f"{', '.join(self._sources)}; start a new session or give the models that the session began with"
            )
        self._windows = {
            key: {name: _LatestRows.of(one, self._sources[key].depth) for name, one in instruments.items()}
            for key, instruments in windows.items()
        }
        self._inputs.clear()
        if kept.configured == self._state.configured and set(kept.champions) <= set(self._references.values()):
            self._state.champions = kept.champions


def _make_source(models: Sequence[_Prepared]) -> _Source:
    first = models[0].model.manifest
    return _Source(
        schema_hash=first.schema_hash,
        feature_set=first.feature_set,
        timeframe=first.timeframe,
        step_ns=TIMEFRAMES[first.timeframe],
        depth=max(one.model.manifest.window for one in models),
        least_width=max(int(one.indices.max()) + 1 for one in models),
        models=tuple(models),
    )


def _make_inputs(models: Sequence[_Prepared], rows: Window) -> dict[str, ModelInputs]:
    singles = rows.astype(np.float32)
    return {one.model_id: ModelInputs(one.indices, singles[-one.window :]) for one in models}


def _append_to(inputs: Mapping[str, ModelInputs], values: Window) -> None:
    row = values.astype(np.float32)
    for each in inputs.values():
        each.append(row)


def _prepare(model: ScoredModel) -> _Prepared:
    manifest = model.manifest
    indices = np.array([one.index for one in manifest.inputs], dtype=np.intp)
    return _Prepared(
        model=model,
        model_id=manifest.model_id,
        suffix=f"/{manifest.model_id}",
        version=manifest.version,
        indices=indices,
        score=model.score,
        window=manifest.window,
        name=manifest.name,
        horizon_ns=manifest.horizon_ns,
        onnx_sha256=manifest.onnx_sha256,
        feature_set=manifest.feature_set,
        schema_hash=manifest.schema_hash,
    )


class ModelInputs:
    """What a model reads of an instrument: float32 (1, window, inputs), oldest first, NaN where not finite.

    A vector is appended as one row; rows lie in more room than the window takes, so that few appends move the others.
    """

    __slots__ = ("_counts", "_end", "_flags", "_indices", "_known", "_ones", "_rows", "_size", "_width", "_window")

    def __init__(self, indices: npt.NDArray[np.intp], rows: Singles) -> None:
        """Take the places of the inputs in a row and the last `window` rows."""
        self._window, width = len(rows), len(indices)
        self._width = width
        self._ones = np.ones(width, dtype=np.float32)
        self._indices = indices
        self._size = self._window * width
        self._rows = np.empty((1, self._window + _ROOM_ROWS, width), dtype=np.float32)
        self._flags = np.empty(width, dtype=np.bool_)
        self._end = self._known = 0
        self._counts = deque([0] * self._window, maxlen=self._window)
        for row in rows:
            self.append(row)

    def append(self, row: Singles) -> None:
        """Add the newest vector, whole."""
        if self._end == self._rows.shape[1]:
            kept = self._window - 1
            self._rows[0, :kept] = self._rows[0, self._end - kept :]
            self._end = kept
        own = self._rows[0, self._end]
        # Without a mode numpy would buffer what it takes; every place is known to be in the row.
        row.take(self._indices, out=own, mode="clip")
        # What is not finite makes their sum so; it is seldom, and to look at each takes three times as long.
        count = self._width
        if not math.isfinite(own.dot(self._ones)):
            # By bytes: numpy's own ways to count truth values take several times as long.
            count = np.isfinite(own, out=self._flags).tobytes().count(1)
            own[~self._flags] = np.nan
        self._known += count - self._counts[0]
        self._counts.append(count)
        self._end += 1

    @property
    def values(self) -> Singles:
        """The window, for a graph."""
        return self._rows[:, self._end - self._window : self._end]

    @property
    def coverage(self) -> float:
        """The share of the window that is known."""
        return self._known / self._size


def _forecast(vector: FeatureVector, prepared: _Prepared, inputs: ModelInputs, role: ModelRole) -> Forecast:
    scores, coverage = prepared.score(inputs.values), inputs.coverage
    down, flat, up = scores.probability_down, scores.probability_flat, scores.probability_up
    total = down + flat + up
    if not (math.isfinite(total) and min(down, flat, up) >= 0.0 and abs(total - 1.0) < 1e-3):
        raise ArithmeticError(
            f"model {prepared.model_id} answered probabilities {down}, {flat}, {up} to {vector.event_id}"
        )
    down, flat, up = down / total, flat / total, up / total
    excess = (max(down, flat, up) - _UNIFORM) / (1.0 - _UNIFORM)
    return Forecast(
        instrument=vector.instrument,
        event_id=vector.event_id + prepared.suffix,
        event_time=vector.event_time,
        vector_id=vector.event_id,
        horizon_ns=prepared.horizon_ns,
        probability_down=down,
        probability_flat=flat,
        probability_up=up,
        confidence=min(1.0, max(0.0, excess)) * coverage,
        coverage=coverage,
        expected_return_bps=scores.expected_return_bps,
        model_name=prepared.name,
        model_version=prepared.version,
        model_sha256=prepared.onnx_sha256,
        role=role,
        feature_set=prepared.feature_set,
        schema_hash=prepared.schema_hash,
        reference_price_e8=vector.reference_price_e8,
        is_incomplete=vector.is_incomplete,
    )
