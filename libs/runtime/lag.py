"""How far the services lag behind, and which of them have stalled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from libs.bus.api import Bus, TopicPartition
from libs.clock import SYSTEM_CLOCK
from libs.runtime.placement import ONE_PARTITION, Placement
from libs.runtime.records import read_ranges
from libs.runtime.snapshots import group_topics, partitions_of
from libs.wire.topics import CORES, TOPICS

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


def read_lags(
    bus: Bus,
    services: Sequence[str],
    leaving_out: Collection[str] = (),
    placement: Placement = ONE_PARTITION,
    *,
    with_markers: bool = False,
) -> dict[str, int]:
    """Return how many offsets the tasks of each service are behind in what they read, but for `leaving_out`.

    `with_markers` counts the log's own markers too, where Kafka keeps any: never 0 there, but without a look at the
    records.
    """
    wanted = _find_reads(bus, services, placement, leaving_out)
    return _count_behind(bus, wanted, bus.end_offsets(_all_places(wanted)), with_markers=with_markers)


def _count_behind(
    bus: Bus, wanted: Mapping[str, _Reads], ends: Mapping[TopicPartition, int], *, with_markers: bool = False
) -> dict[str, int]:
    """Return how many offsets each service is behind `ends`; unless `with_markers`, 0 where no record lies there."""
    committed = {group: bus.committed(group, places) for reads in wanted.values() for group, places in reads.items()}
    begins = bus.beginning_offsets({at for offsets in committed.values() for at in offsets if offsets[at] is None})
    # Where each group goes on: at the first record where it has committed nothing.
    positions = {
        group: {at: begins[at] if offset is None else offset for at, offset in offsets.items()}
        for group, offsets in committed.items()
    }
    tails = {} if with_markers else _read_tails(bus, positions.values(), ends)
    behind = dict.fromkeys(wanted, 0)
    for service, reads in wanted.items():
        for group, places in reads.items():
            for at in places:
                if committed[group][at] is None and service in TOPICS[at.topic].optional:
                    continue
                position, end = positions[group][at], ends[at]
                is_tail = at in tails and end - position <= _MARKER_TAIL
                behind[service] += (
                    sum(1 for offset in tails[at] if offset >= position) if is_tail else max(0, end - position)
                )
    return behind


def _read_tails(
    bus: Bus, positions: Iterable[Mapping[TopicPartition, int]], ends: Mapping[TopicPartition, int]
) -> dict[TopicPartition, list[int]]:
    """Return the offsets of the records at which a group that is little behind may go on, by one reader for all.

    The tail may hold only the log's own markers, which no reader ever sees.
    """
    starts: dict[TopicPartition, int] = {}
    for offsets in positions:
        for at, position in offsets.items():
            if 0 < ends[at] - position <= _MARKER_TAIL:
                starts[at] = min(starts.get(at, position), position)
    tails: dict[TopicPartition, list[int]] = {at: [] for at in starts}
    for record in read_ranges(bus, {at: (start, ends[at]) for at, start in starts.items()}):
        tails[TopicPartition(record.topic, record.partition)].append(record.offset)
    return tails


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
            for service, behind in _count_behind(self._bus, self._wanted, old).items()
            if behind
        ]
        for topic in self._moving:
            if all(ends[where] == old[where] for where in ends if where.topic == topic):
                stalls.append(f"nothing came to {topic} for {self._patience_s:g} s")
        return stalls
