"""A store in memory, in ClickHouse's place: rows by topic, partition and offset, away at times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from libs.bus.api import Bus, Record, TopicPartition
from libs.clock import Clock
from libs.runtime.records import read_range
from libs.runtime.snapshots import partitions_of
from libs.store import StoreUnavailable, Undecodable
from libs.wire import DecodeError
from libs.wire.topics import RECORDED_TOPICS
from services.simulation.mishaps import Killed, Mishaps

# As long as it takes until a recorder holds all the rows it may and reading stops.
_OUTAGE_S = 45.0

Places = dict[tuple[str, int, int], object]


class EventRows(NamedTuple):
    """Records of one topic with the events that they hold, by where they are."""

    topic: str
    events: Places
    undecodable: list[tuple[int, int, str]]

    @property
    def row_count(self) -> int:
        """How many records."""
        return len(self.events)


def read_events(decode: Callable[[str, bytes], Any], topic: str, records: Sequence[Record]) -> EventRows:
    """Make rows of a topic's records for a store of events."""
    rows = EventRows(topic, {}, [])
    for record in records:
        try:
            event = decode(topic, record.value)
        except DecodeError as error:
            event = Undecodable(record.value, str(error))
            rows.undecodable.append((record.partition, record.offset, str(error)))
        rows.events[topic, record.partition, record.offset] = event
    return rows


class MemoryStore:
    """What the recorder writes to; it outlives every recorder of its session."""

    def __init__(self, clock: Clock, mishaps: Mishaps) -> None:
        self._clock = clock
        self._mishaps = mishaps
        self._back_at = 0.0
        self.rows: Places = {}

    def migrate(self) -> Sequence[int]:
        """Have the tables."""
        return ()

    def insert_batch(self, batch: EventRows) -> int:
        """Write rows, all or none; repeating them changes nothing. Raises `StoreUnavailable`."""
        if self._mishaps.strikes("store_outage"):
            self._back_at = self._clock.monotonic_s() + _OUTAGE_S
        if self._clock.monotonic_s() < self._back_at or self._mishaps.strikes("store_down"):
            raise StoreUnavailable("the simulated store is down")
        self.rows.update(batch.events)
        if self._mishaps.strikes("kill_after_insert"):
            raise Killed("after an insert")
        return batch.row_count


class Archive:
    """Every record that was ever readable, kept aside before retention removes it: what the store must hold."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._read_to: dict[TopicPartition, int] = {}
        self._records: list[Record] = []

    def catch_up(self) -> list[Record]:
        """Read what has come since the last time; return everything so far."""
        for at, end in self._bus.end_offsets(partitions_of(self._bus, RECORDED_TOPICS)).items():
            self._records.extend(read_range(self._bus, at.topic, at.partition, self._read_to.get(at, 0), end))
            self._read_to[at] = end
        return self._records
