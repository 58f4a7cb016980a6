"""How far the services lag behind, and which of them have stalled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from libs.bus.api import Bus, TopicPartition
from libs.clock import SYSTEM_CLOCK
from libs.runtime.placement import ONE_PARTITION, Placement
from libs.runtime.records import read_range
from libs.runtime.snapshots import group_topics, partitions_of
from libs.wire.topics import CORES

_MARKER_TAIL = 64


_Reads = Mapping[str, Sequence[TopicPartition]]


def _find_reads(
    bus: Bus, services: Iterable[str], placement: Placement, leaving_out: Collection[str] = ()
) -> dict[str, _Reads]:
    """Return what each service reads, by consumer group: one for a service, or one for each of its account tasks."""
    counts = bus.topics()
    found: dict[str, _Reads] = {}
    for service in services:
        reads: dict[str, list[TopicPartition]] = {}
        topics = [topic for topic in group_topics(service) if topic not in leaving_out]
        if service in CORES:
            for task in placement.tasks(service):
                reads.setdefault(task.group, []).extend(task.places(counts, topics))
        else:
            reads[service] = partitions_of(bus, topics)
        found[service] = {group: list(dict.fromkeys(places)) for group, places in reads.items()}
    return found


def _all_places(wanted: Mapping[str, _Reads]) -> set[TopicPartition]:
    return {where for reads in wanted.values() for places in reads.values() for where in places}


def _offsets_behind(committed: int | None, begin: int, end: int) -> int:
    return max(0, end - (begin if committed is None else committed))


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


def read_lags(
    bus: Bus,
    services: Sequence[str],
    leaving_out: Collection[str] = (),
    placement: Placement = ONE_PARTITION,
    *,
    with_markers: bool = False,
) -> dict[str, int]:
    """Return how many offsets the tasks of each service are behind in what they read, but for `leaving_out`.

    `with_markers` counts the log's own markers too, where Kafka keeps any: never 0 there, but without a look at records
    behind each group.
    """
    wanted = _find_reads(bus, services, placement, leaving_out)
    ends = bus.end_offsets(_all_places(wanted))
    return {service: _behind(bus, reads, ends, with_markers=with_markers) for service, reads in wanted.items()}


def _behind(bus: Bus, reads: _Reads, ends: Mapping[TopicPartition, int], *, with_markers: bool = False) -> int:
    behind = 0
    for group, places in reads.items():
        committed = bus.committed(group, places)
        begins = bus.beginning_offsets([where for where in places if committed[where] is None])
        behind += sum(
            _offsets_behind(committed[where], begins.get(where, 0), ends[where])
            if with_markers
            else _records_behind(bus, where, committed[where], begins.get(where, 0), ends[where])
            for where in places
        )
    return behind


class StallDetector:
    """Finds services that have not handled what was in their topics `patience_s` ago, and topics without new records.

    A process that is dead, hung or too slow is found, whatever it reports. Topics in `moving` must have grown
    within that time as well. Look at least every `patience_s`.
    """

    def __init__(
        self,
        bus: Bus,
        services: Sequence[str],
        moving: Sequence[str],
        *,
        patience_s: float = 5.0,
        monotonic: Callable[[], float] = SYSTEM_CLOCK.monotonic_s,
    ) -> None:
        self._bus = bus
        self._wanted = _find_reads(bus, services, ONE_PARTITION)
        self._moving = moving
        self._patience_s = patience_s
        self._monotonic = monotonic
        self._samples: deque[tuple[float, Mapping[TopicPartition, int]]] = deque()

    def find_stalls(self) -> list[str]:
        """Return a phrase for each stall; before `patience_s` have passed, one that says nothing is known yet."""
        now = self._monotonic()
        ends = self._bus.end_offsets(_all_places(self._wanted))
        self._samples.append((now, ends))
        while len(self._samples) > 1 and now - self._samples[1][0] >= self._patience_s:
            self._samples.popleft()
        at, old = self._samples[0]
        if now - at < self._patience_s:
            return [f"nothing is known of the services for the first {self._patience_s:g} s"]
        stalls = [
            f"{service} has stalled or lags by more than {self._patience_s:g} s"
            for service, reads in self._wanted.items()
            if _behind(self._bus, reads, old)
        ]
        for topic in self._moving:
            if all(ends[where] == old[where] for where in ends if where.topic == topic):
                stalls.append(f"nothing came to {topic} for {self._patience_s:g} s")
        return stalls
