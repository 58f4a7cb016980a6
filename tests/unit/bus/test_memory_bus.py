"""The memory bus looks the logs of its readers up once: topics that come and go must not be missed."""

from __future__ import annotations

import pytest

from libs.bus.api import NewRecord, TopicPartition, TopicSpec, UnknownTopic
from libs.bus.memory import MemoryBus
from libs.runtime.records import commit_records

A0 = TopicPartition("a", 0)


def write(bus: MemoryBus, value: bytes) -> None:
    commit_records(bus.producer("writer"), [NewRecord("a", b"key", value)])


def test_a_reader_of_a_deleted_topic_hears_of_it() -> None:
    bus = MemoryBus()
    bus.create_topics([TopicSpec("a")])
    reader = bus.consumer(["a"])
    reader.assign({A0: 0})
    write(bus, b"one")
    assert [each.value for each in reader.poll(10, 0)] == [b"one"]
    bus.delete_topics(["a"])
    with pytest.raises(UnknownTopic, match="topic a does not exist"):
        reader.poll(10, 0)


def test_a_reader_follows_a_topic_that_was_made_again() -> None:
    bus = MemoryBus()
    bus.create_topics([TopicSpec("a")])
    reader = bus.consumer(["a"])
    reader.assign({A0: 0})
    bus.delete_topics(["a"])
    bus.create_topics([TopicSpec("a", 2)])
    assert bus.topics() == {"a": 2}
    commit_records(bus.producer("writer"), [NewRecord("a", b"key", b"two", partition=0)])
    assert [each.value for each in reader.poll(10, 0)] == [b"two"]
