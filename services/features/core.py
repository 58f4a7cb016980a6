"""The features core: closed bars of all timeframes in, one vector for every bar of the base timeframe out."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence

from libs.domain.bars import Bar
from libs.domain.events import Event, Unhandleable
from libs.domain.features import FeatureVector
from libs.indicators.feature_set import FeatureSet
from libs.indicators.program import compile_feature_set
from libs.indicators.rows import BarFault
from libs.indicators.stream import FeatureStream

_LENGTH = struct.Struct("<I")


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
        except BarFault as fault:
            raise Unhandleable(str(fault)) from fault
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
            ),
        )

    def snapshot(self) -> bytes:
        """The state of all instruments, in order of name, after the hash of the feature set they belong to."""
        states = [(name, self._streams[name].snapshot()) for name in sorted(self._streams)]
        header = {
            "schema_hash": self.feature_set.schema_hash,
            "instruments": [[name, len(state)] for name, state in states],
        }
        text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
        return b"".join((_LENGTH.pack(len(text)), text, *(state for _name, state in states)))

    def restore(self, state: bytes) -> None:
        """Take over a snapshot; FeatureSetError where it belongs to another feature set."""
        (length,) = _LENGTH.unpack_from(state)
        start = _LENGTH.size + length
        header = json.loads(state[_LENGTH.size : start])
        self.feature_set.check_hash(header["schema_hash"], "the features snapshot")
        streams: dict[str, FeatureStream] = {}
        for name, size in header["instruments"]:
            streams[name] = FeatureStream(self._program)
            streams[name].restore(state[start : start + size])
            start += size
        self._streams = streams
