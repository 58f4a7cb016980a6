"""Control goes first: what was commanded is handled before whatever else waits, and nothing decided before it goes out.

A process that was stopped and goes on, or comes back from the dead, may have orders before it and a halt behind them,
in another topic. So it looks for commands itself before it handles a batch, wherever its last look is not fresh, and
again before it commits what can lead to an order. Refuses to commit where a command came meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from libs.bus.api import Bus, BusError, Record, TopicPartition
from libs.clock import SYSTEM_CLOCK
from libs.runtime.records import PRODUCER, read_range
from libs.wire.topics import COMMANDS, CONTROL_TOPICS, REPORTS, VERDICTS

# What can lead to an order: nothing else needs to be held back.
ACTING_TOPICS = frozenset({VERDICTS, COMMANDS, REPORTS})
FRESH_S = 0.05


class ControlLane:
    """Follows the control topics of a service beside its consumer.

    `handled` are the next offsets to handle by topic and partition, 0 where there is none. `clock` returns seconds
    that only rise, those included during which the process was stopped. Outputs to `acting_topics` can lead to orders.
    What `own_producers` made was handled in the transaction that published it, and is passed over.
    """

    def __init__(
        self,
        bus: Bus,
        topics: Iterable[str],
        handled: Mapping[tuple[str, int], int],
        clock: Callable[[], float] = SYSTEM_CLOCK.monotonic_s,
        acting_topics: frozenset[str] = ACTING_TOPICS,
        own_producers: frozenset[bytes] = frozenset(),
    ) -> None:
        self._bus = bus
        self._clock = clock
        self._acting_topics = acting_topics
        self._own_producers = own_producers
        self._looked_at = float("-inf")
        counts = bus.topics()
        self._next = {
            TopicPartition(topic, number): handled.get((topic, number), 0)
            for topic in sorted(CONTROL_TOPICS.intersection(topics))
            for number in range(counts.get(topic, 0))
        }
        self._seen_to = dict(self._next)
        self._waiting: list[Record] = []

    def put_first(self, records: Sequence[Record]) -> Sequence[Record]:
        """Return a polled batch with every command known by now before all else, and none that was handled already.

        Raises `BusError` where a control topic is gone or shorter than what was handled of it.
        """
        if not self._next:
            return records
        first, self._waiting = self._waiting, []
        if self._clock() - self._looked_at > FRESH_S:
            first += self.look()
        controls = [record for record in records if record.topic in CONTROL_TOPICS]
        if not first and not controls:
            return records
        for record in controls:
            where = TopicPartition(record.topic, record.partition)
            if record.offset >= self._next[where]:
                first.append(record)
                self._next[where] = record.offset + 1
        return [*first, *(record for record in records if record.topic not in CONTROL_TOPICS)]

    def has_waiting(self) -> bool:
        """Look now, whether a command has come that no batch has held yet; it goes first in the next."""
        self._waiting += self.look()
        return bool(self._waiting)

    def check(self, topics: Iterable[str]) -> None:
        """Raise `BusError` where outputs to these topics can lead to an order and a command came meanwhile."""
        age_s = self._clock() - self._looked_at
        if age_s <= FRESH_S or not self._next or not self._acting_topics.intersection(topics):
            return
        if self.look():
            raise BusError(
                f"a command came while a batch was in hand for {age_s:.2f} s; nothing of the batch was committed, "
                "the next start handles the command first"
            )

    def look(self) -> list[Record]:
        """Return the commands that came since the last look, whenever that was. Raises `BusError` as `put_first`."""
        looked_at = self._clock()
        ends = self._bus.end_offsets(self._next)
        found: list[Record] = []
        for where, end in ends.items():
            at = self._next[where]
            if end < at:
                raise BusError(
                    f"{where.topic}/{where.partition} ends at {end}, but {at} of it were handled: commands may be "
                    "lost; restore the topic or start a new session"
                )
            if end > self._seen_to[where]:
                found += read_range(self._bus, where.topic, where.partition, at, end)
                # Apart from what was handled: behind the last record there may be nothing but a transaction's marker.
                self._seen_to[where] = end
        for record in found:
            self._next[TopicPartition(record.topic, record.partition)] = record.offset + 1
        self._looked_at = looked_at
        return [record for record in found if record.headers.get(PRODUCER) not in self._own_producers]
