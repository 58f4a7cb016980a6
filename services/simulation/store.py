"""A store in memory, in ClickHouse's place: rows by topic, partition and offset, away at times."""

from __future__ import annotations

from collections.abc import Sequence

from libs.bus.api import Bus, Record, TopicPartition
from libs.clock import Clock
from libs.runtime.records import read_range
from libs.runtime.snapshots import partitions_of
from libs.store import StoredRow, StoreUnavailable
from libs.wire.topics import RECORDED_TOPICS
from services.simulation.mishaps import Killed, Mishaps

# As long as it takes until a recorder holds all the rows it may and reading stops.
_OUTAGE_S = 45.0

Places = dict[tuple[str, int, int], object]


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

    def insert(self, topic: str, rows: Sequence[StoredRow]) -> int:
        """Write rows, all or none; repeating them changes nothing. Raises `StoreUnavailable`."""
        if self._mishaps.strikes("store_outage"):
            self._back_at = self._clock.monotonic_s() + _OUTAGE_S
        if self._clock.monotonic_s() < self._back_at or self._mishaps.strikes("store_down"):
            raise StoreUnavailable("the simulated store is down")
        self.rows.update(((topic, row.partition, row.offset), row.event) for row in rows)
        if self._mishaps.strikes("kill_after_insert"):
            raise Killed("after an insert")
        return len(rows)


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
