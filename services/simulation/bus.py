"""The bus as one process sees it: `MemoryBus` with a death, a hang or a full disk around its commits.

Every instance of a service has a view of its own, so that an old instance that lives on (a zombie) keeps its epoch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from libs.bus.api import NO_FOOTPRINT, BusFull, Consumer, Footprint, NewRecord, Producer, Record, TopicPartition
from libs.bus.memory import MemoryBus
from libs.domain.events import Core, Event
from services.simulation.mishaps import Killed, Mishaps

Hang = Callable[[], None]
Witness = Callable[[list[NewRecord]], None]


class RoughBus:
    """Wraps a `MemoryBus`; whatever it does not change, it passes on.

    `hang` lets the rest of the world go on, `witness` is called with what a transaction committed.
    """

    def __init__(self, bus: MemoryBus, mishaps: Mishaps, hang: Hang, witness: Witness) -> None:
        self._bus = bus
        self._mishaps = mishaps
        self._hang = hang
        self._witness = witness
        self._members: list[Consumer] = []

    def __getattr__(self, name: str) -> object:
        return getattr(self._bus, name)

    def expire_members(self) -> None:
        """Do as the broker does once a process has been silent for too long: let go of its groups' members."""
        for each in self._members:
            each.close()

    def producer(self, transactional_id: str, _footprint: Footprint = NO_FOOTPRINT, /) -> Producer:
        """Open a producer whose commits may go wrong."""
        return RoughProducer(self._bus.producer(transactional_id), self._mishaps, self._hang, self._witness)

    def consumer(self, topics: Sequence[str], *, group: str | None = None, **options: object) -> Consumer:
        """Open a consumer; a group's may be late to see what is there."""
        opened = self._bus.consumer(topics, group=group, **options)  # type: ignore[arg-type]
        if group is None:
            return opened
        self._members.append(opened)
        return RoughConsumer(opened, self._mishaps, self._hang)  # type: ignore[return-value]


class RoughProducer:
    """A producer with mishaps around `commit`."""

    def __init__(self, producer: Producer, mishaps: Mishaps, hang: Hang, witness: Witness) -> None:
        self._producer = producer
        self._mishaps = mishaps
        self._hang = hang
        self._witness = witness
        self._sent: list[NewRecord] = []
        self._is_killed = False

    def begin(self) -> None:
        self._sent = []
        self._producer.begin()

    def send(self, records: Iterable[NewRecord]) -> None:
        sent = list(records)
        self._sent += sent
        self._producer.send(sent)

    def send_offsets(self, consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        inner = consumer.inner if isinstance(consumer, RoughConsumer) else consumer
        self._producer.send_offsets(inner, offsets)

    def commit(self) -> None:
        if self._mishaps.strikes("kill_before_commit"):
            self._is_killed = True
            raise Killed("before a commit")
        if self._mishaps.strikes("disk_full"):
            raise BusFull("the simulated disk is full; nothing of the transaction was committed")
        self._producer.commit()
        self._witness(self._sent)
        if self._mishaps.strikes("kill_after_commit"):
            self._is_killed = True
            raise Killed("after a commit")
        if self._mishaps.strikes("hang_after_commit"):
            self._hang()

    def abort(self) -> None:
        # A killed process aborts nothing; the next one's epoch does.
        if not self._is_killed:
            self._producer.abort()

    def close(self) -> None:
        self._producer.close()


class RoughConsumer:
    """A group's consumer that may see nothing yet, or hang with records in hand."""

    def __init__(self, consumer: Consumer, mishaps: Mishaps, hang: Hang) -> None:
        self.inner = consumer
        self._mishaps = mishaps
        self._hang = hang

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)

    def poll(self, max_records: int, timeout_ms: int) -> Sequence[Record]:  # noqa: ARG002
        if self._mishaps.strikes("delayed_visibility"):
            return ()
        # Nobody else runs while one waits, so that waiting brings nothing.
        records = self.inner.poll(max_records, 0)
        if records and self._mishaps.strikes("hang_before_handling"):
            self._hang()
        return records


class RoughCore:
    """A core whose process may hang in the middle of handling, with what it was given in hand."""

    def __init__(self, core: Core, mishaps: Mishaps, hang: Hang) -> None:
        self._core = core
        self._mishaps = mishaps
        self._hang = hang

    def __getattr__(self, name: str) -> object:
        return getattr(self._core, name)

    def handle(self, event: Event) -> Sequence[Event]:
        if self._mishaps.strikes("hang_while_handling"):
            self._hang()
        return self._core.handle(event)

    def snapshot(self) -> bytes:
        return self._core.snapshot()

    def restore(self, state: bytes) -> None:
        self._core.restore(state)
