"""How far the services lag behind, and which of them have stalled."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from libs.bus.api import Bus, TopicPartition
from libs.runtime.records import read_range
from libs.runtime.snapshots import group_topics

_MARKER_TAIL = 64


def _group_partitions(
    bus: Bus, groups: Iterable[str], leaving_out: Collection[str] = ()
) -> dict[str, list[TopicPartition]]:
    """Return the partitions that each group reads."""
    partitions = bus.topics()
    return {
        group: [
            TopicPartition(topic, number)
            for topic in group_topics(group)
            if topic not in leaving_out
            for number in range(partitions.get(topic, 0))
        ]
        for group in groups
    }


def _records_behind(bus: Bus, where: TopicPartition, committed: int | None, begin: int, end: int) -> int:
    """Return how many offsets lie between a group's committed one and `end`, 0 where no record does.

    `begin` stands in for a group that has committed none.
    """
    at = begin if committed is None else committed
    if at >= end:
        return 0
    if end - at <= _MARKER_TAIL:
        # The tail may hold only the log's own markers, which no reader ever sees.
        return sum(1 for _ in read_range(bus, where.topic, where.partition, at, end))
    return end - at


def read_lags(bus: Bus, groups: Sequence[str], leaving_out: Collection[str] = ()) -> dict[str, int]:
    """Return for each group how many offsets it is behind in what it reads, but for the topics in `leaving_out`."""
    wanted = _group_partitions(bus, groups, leaving_out)
    ends = bus.end_offsets({where for each in wanted.values() for where in each})
    return {group: _behind(bus, group, each, ends) for group, each in wanted.items()}


def _behind(bus: Bus, group: str, each: Sequence[TopicPartition], ends: Mapping[TopicPartition, int]) -> int:
    committed = bus.committed(group, each)
    begins = bus.beginning_offsets([where for where in each if committed[where] is None])
    return sum(_records_behind(bus, where, committed[where], begins.get(where, 0), ends[where]) for where in each)


class StallDetector:
    """Finds groups that have not handled what was in their topics `patience_s` ago, and topics without new records.

    A process that is dead, hung or too slow is found, whatever it reports. Topics in `moving` must have grown
    within that time as well. Look at least every `patience_s`.
    """

    def __init__(
        self,
        bus: Bus,
        groups: Sequence[str],
        moving: Sequence[str],
        *,
        patience_s: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bus = bus
        self._wanted = _group_partitions(bus, groups)
        self._moving = moving
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._samples: deque[tuple[float, Mapping[TopicPartition, int]]] = deque()

    def find_stalls(self) -> list[str]:
        """Return a phrase for each stall; before `patience_s` have passed, one that says nothing is known yet."""
        now = self._monotonic()
        ends = self._bus.end_offsets({where for each in self._wanted.values() for where in each})
        self._samples.append((now, ends))
        while len(self._samples) > 1 and now - self._samples[1][0] >= self._patience_s:
            self._samples.popleft()
        at, old = self._samples[0]
        if now - at < self._patience_s:
            return [f"nothing is known of the services for the first {self._patience_s:g} s"]
        stalls = [
            f"{group} has stalled or lags by more than {self._patience_s:g} s"
            for group, each in self._wanted.items()
            if _behind(self._bus, group, each, old)
        ]
        for topic in self._moving:
            if all(ends[where] == old[where] for where in ends if where.topic == topic):
                stalls.append(f"nothing came to {topic} for {self._patience_s:g} s")
        return stalls
