"""Logs for tests on each of the three buses; Kafka is shared by the whole run and parted by a prefix a test."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from libs.bus.api import Bus, Consumer, NewRecord, Partitioner, Producer, Record, TopicSpec, hash_partition
from libs.bus.open import open_bus
from tests.kit.kafka import NoKafka, find_kafka


class World:
    """A log of a test's own: `open` gives further connections to it, as other processes would have."""

    def __init__(self, kind: str, url: str, prefix: str) -> None:
        self.kind = kind
        self.url = url
        self.prefix = prefix
        self._stack = ExitStack()
        self.bus = self.open()

    def open(self, prefix: str | None = None, partitioner: Partitioner = hash_partition) -> Bus:
        """Open the log once more."""
        chosen = self.prefix if prefix is None else prefix
        return self._stack.enter_context(open_bus(self.url, prefix=chosen, partitioner=partitioner))

    def create(self, *names: str, partitions: int = 1) -> None:
        """Create topics."""
        self.bus.create_topics([TopicSpec(name, partitions) for name in names])

    def write(self, *records: NewRecord, producer: Producer | None = None) -> None:
        """Commit records in one transaction."""
        writer = producer if producer is not None else self.bus.producer(f"writer-{secrets.token_hex(4)}")
        writer.begin()
        writer.send(records)
        writer.commit()

    def close(self) -> None:
        """Close every connection."""
        self._stack.close()


def make_world(kind: str, directory: Path) -> World:
    """Make a log of the kind, or skip with the reason."""
    token = secrets.token_hex(6)
    if kind == "memory":
        return World(kind, f"memory:{token}", "")
    if kind == "sqlite":
        return World(kind, f"sqlite:{directory / 'bus.db'}", "")
    try:
        address = find_kafka().address
    except NoKafka as reason:
        pytest.skip(str(reason))
    return World(kind, f"kafka:{address}", f"{token}.")


def read_records(consumer: Consumer, count: int, within_polls: int = 100) -> Sequence[Record]:
    """Poll until at least `count` records have come, and fail when they do not."""
    found: list[Record] = []
    for _ in range(within_polls):
        if len(found) >= count:
            break
        found += consumer.poll(5_000, 200)
    assert len(found) >= count, f"{len(found)} of {count} records came"
    return found
