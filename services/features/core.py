"""The features core: closed bars of all timeframes in, a vector of each feature set out for every bar of its base
timeframe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from libs.domain.bars import Bar
from libs.domain.events import Event, Unhandleable
from libs.domain.features import FeatureVector
from libs.domain.state import StateFormat
from libs.indicators.feature_set import FeatureSet
from libs.indicators.program import compile_feature_set
from libs.indicators.rows import BarError
from libs.indicators.stream import FeatureStream, FeatureStreamState


@dataclass(frozen=True, slots=True)
class FeaturesState:
    """What the core keeps between events: streams by schema hash, then instrument."""

    streams: dict[str, dict[str, FeatureStreamState]]


def _one_set(state: dict[str, Any]) -> dict[str, Any]:
    return {"streams": {state["schema_hash"]: state["streams"]}}


_STATE = StateFormat("features", 2, FeaturesState, migrations={1: _one_set})


class _SetStreams:
    """A feature set, its program, and a stream per instrument."""

    def __init__(self, feature_set: FeatureSet) -> None:
        self.feature_set = feature_set
        self.program = compile_feature_set(feature_set)
        self.suffix = f"/{feature_set.schema_hash[:12]}"
        self.streams: dict[str, FeatureStream] = {}

    def take(self, bar: Bar) -> FeatureVector | None:
        """Take a bar; return its vector where it is a new one of the base timeframe."""
        stream = self.streams.get(bar.instrument)
        if stream is None:
            stream = FeatureStream(self.program)
        is_new = stream.take(bar)
        self.streams[bar.instrument] = stream
        if not is_new:
            return None
        return FeatureVector(
            instrument=bar.instrument,
            event_id=bar.event_id + self.suffix,
            event_time=bar.event_time,
            bar_id=bar.event_id,
            timeframe=bar.timeframe,
            feature_set=self.feature_set.name,
            schema_hash=self.feature_set.schema_hash,
            packed=stream.values.astype("<f8", copy=False).tobytes(),
            known_count=stream.known_count,
            reference_price_e8=bar.close_e8,
            is_history=bar.is_history,
            is_incomplete=bar.is_incomplete,
        )


class FeaturesCore:
    """Keeps one stream of features per set and instrument; the vector of a history bar says that it is one.

    Bars of one instrument come in order of close time, at equal times the higher timeframes first. A bar that was seen
    before is dropped. `Unhandleable` for bars that no market prints and for bars out of that order.
    """

    def __init__(self, *feature_sets: FeatureSet) -> None:
        self._sets = {one.schema_hash: _SetStreams(one) for one in feature_sets}

    def handle(self, event: Event) -> Sequence[Event]:
        """Take a closed bar; return its vectors, in the order of the sets."""
        if not isinstance(event, Bar):
            raise Unhandleable(f"features take closed bars, not {type(event).__name__}")
        try:
            vectors = [one.take(event) for one in self._sets.values()]
        except BarError as error:
            raise Unhandleable(str(error)) from error
        return [vector for vector in vectors if vector is not None]

    def snapshot(self) -> bytes:
        """Return the state of all sets and instruments, in order of name."""
        streams = {
            schema_hash: {name: stream.state() for name, stream in sorted(one.streams.items())}
            for schema_hash, one in sorted(self._sets.items())
        }
        return _STATE.encode(FeaturesState(streams))

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; a set that it does not have begins without memory.

        FeatureSetError where it belongs to other feature sets altogether.
        """
        kept = _STATE.decode(state).streams
        if kept and not set(kept) & set(self._sets):
            next(iter(self._sets.values())).feature_set.check_hash(next(iter(kept)), "the features snapshot")
        for schema_hash, one in self._sets.items():
            one.streams = {}
            for name, stream in kept.get(schema_hash, {}).items():
                one.streams[name] = FeatureStream(one.program)
                one.streams[name].restore(stream)
