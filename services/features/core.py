"""The features core: closed bars of all timeframes in, one vector for every bar of the base timeframe out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
    """What the core keeps between events."""

    schema_hash: str
    streams: dict[str, FeatureStreamState]


_STATE = StateFormat("features", 1, FeaturesState)


class FeaturesCore:
    """Keeps one stream of features per instrument; the vector of a history bar says that it is one.

    Bars of one instrument come in order of close time, at equal times the higher timeframes first. A bar that was seen
    before is dropped. `Unhandleable` for bars that no market prints and for bars out of that order.
    """

    def __init__(self, feature_set: FeatureSet) -> None:
        self.feature_set = feature_set
        self._program = compile_feature_set(feature_set)
        self._streams: dict[str, FeatureStream] = {}
        self._suffix = f"/{feature_set.schema_hash[:12]}"

    def handle(self, event: Event) -> Sequence[Event]:
        """Take a closed bar; return its vector, or nothing."""
        if not isinstance(event, Bar):
            raise Unhandleable(f"features take closed bars, not {type(event).__name__}")
        stream = self._streams.get(event.instrument)
        if stream is None:
            stream = FeatureStream(self._program)
        try:
            is_new = stream.take(event)
        except BarError as error:
            raise Unhandleable(str(error)) from error
        self._streams[event.instrument] = stream
        if not is_new:
            return ()
        return (
            FeatureVector(
                instrument=event.instrument,
                event_id=event.event_id + self._suffix,
                event_time=event.event_time,
                bar_id=event.event_id,
                timeframe=event.timeframe,
                feature_set=self.feature_set.name,
                schema_hash=self.feature_set.schema_hash,
                packed=stream.values.astype("<f8", copy=False).tobytes(),
                known_count=stream.known_count,
                reference_price_e8=event.close_e8,
                is_history=event.is_history,
                is_incomplete=event.is_incomplete,
            ),
        )

    def snapshot(self) -> bytes:
        """Return the state of all instruments, in order of name."""
        streams = {name: stream.state() for name, stream in sorted(self._streams.items())}
        return _STATE.encode(FeaturesState(self.feature_set.schema_hash, streams))

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; FeatureSetError where it belongs to another feature set."""
        kept = _STATE.decode(state)
        self.feature_set.check_hash(kept.schema_hash, "the features snapshot")
        streams: dict[str, FeatureStream] = {}
        for name, stream in kept.streams.items():
            streams[name] = FeatureStream(self._program)
            streams[name].restore(stream)
        self._streams = streams
