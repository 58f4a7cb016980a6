"""A bus in memory that tells when the outbox commits, so that a test can kill, hang or replace it there."""

from __future__ import annotations

from collections.abc import Callable

from libs.bus.api import NO_FOOTPRINT, Footprint, TopicSpec
from libs.bus.memory import MemoryBus, MemoryProducer
from libs.wire.topics import OUTBOX, TOPICS
from services.execution.outbox_shell import ANSWERS


class DyingProducer(MemoryProducer):
    """Calls back before and after each commit; the callback may kill the process there."""

    at_commit: Callable[[str], None]

    def commit(self) -> None:
        self.at_commit("before a commit")
        super().commit()
        self.at_commit("after a commit")

    def abort(self) -> None:
        # After the commit a dead process aborts nothing.
        self._clear()


class RoughBus(MemoryBus):
    """A bus whose outbox may die around a commit."""

    def __init__(self, at_commit: Callable[[str], None]) -> None:
        super().__init__()
        self._at_commit = at_commit
        self.create_topics(TopicSpec(topic) for topic in TOPICS)

    def producer(self, transactional_id: str, _footprint: Footprint = NO_FOOTPRINT, /) -> MemoryProducer:
        if transactional_id not in (OUTBOX, ANSWERS):
            return super().producer(transactional_id)
        opened = DyingProducer(self._log, self._names, transactional_id, self._partitioner)
        opened.at_commit = self._at_commit
        return self._open.add(opened)
