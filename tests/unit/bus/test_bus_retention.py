"""Retention and compaction on the buses that do it themselves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libs.bus.api import Bus, NewRecord, TopicPartition, TopicSpec
from libs.bus.open import open_bus

A0 = TopicPartition("a", 0)


@pytest.fixture(params=["memory", "sqlite"])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    with open_bus(f"{request.param}:{tmp_path}/bus.db") as opened:
        yield opened


def write(bus: Bus, *pairs: tuple[bytes, bytes]) -> None:
    producer = bus.producer("p")
    producer.begin()
    producer.send(NewRecord("a", key, value) for key, value in pairs)
    producer.commit()


def read(bus: Bus, offset: int = 0) -> list[tuple[int, bytes]]:
    reader = bus.consumer([])
    reader.assign({A0: offset})
    return [(each.offset, each.value) for each in reader.poll(1_000, 0)]


def test_compaction_keeps_the_last_value_of_each_key_at_its_offset(bus: Bus) -> None:
    bus.create_topics([TopicSpec("a", is_compacted=True)])
    write(bus, (b"x", b"0"), (b"y", b"1"), (b"x", b"2"), (b"z", b"3"), (b"z", b"4"))
    bus.apply_retention()
    assert read(bus) == [(1, b"1"), (2, b"2"), (4, b"4")]
    assert read(bus, 3) == [(4, b"4")]
    assert bus.beginning_offsets([A0]) == {A0: 1}
    write(bus, (b"y", b"5"))
    bus.apply_retention()
    assert read(bus) == [(2, b"2"), (4, b"4"), (5, b"5")]
    assert bus.end_offsets([A0]) == {A0: 6}


def test_a_reader_passes_over_what_compaction_took(bus: Bus) -> None:
    bus.create_topics([TopicSpec("a", is_compacted=True)])
    write(bus, *[(b"k", b"%d" % n) for n in range(10)])
    reader = bus.consumer([])
    reader.assign({A0: 0})
    assert [each.offset for each in reader.poll(3, 0)] == [0, 1, 2]
    bus.apply_retention()
    assert [each.offset for each in reader.poll(10, 0)] == [9]
    assert reader.position(A0) == 10


def test_retention_by_time_drops_the_old_and_keeps_offsets(bus: Bus) -> None:
    bus.create_topics([TopicSpec("a", retention_ms=60)])
    write(bus, *[(b"k", b"old")] * 7)
    kept_until = time.monotonic() + 0.1
    while time.monotonic() < kept_until:
        pass
    write(bus, (b"k", b"new"))
    bus.apply_retention()
    assert read(bus) == [(7, b"new")]
    assert bus.beginning_offsets([A0]) == {A0: 7}


def test_a_partition_emptied_by_retention_goes_on_at_its_offset(bus: Bus) -> None:
    bus.create_topics([TopicSpec("a", retention_ms=1)])
    write(bus, *[(b"k", b"old")] * 3)
    gone_by = time.monotonic() + 0.02
    while time.monotonic() < gone_by:
        pass
    bus.apply_retention()
    assert read(bus) == []
    assert bus.beginning_offsets([A0]) == bus.end_offsets([A0]) == {A0: 3}
    assert bus.offsets_for_times({A0: 0}) == {A0: 3}
    write(bus, (b"k", b"new"))
    assert read(bus) == [(3, b"new")]


def test_without_limits_retention_keeps_everything(bus: Bus) -> None:
    bus.create_topics([TopicSpec("a")])
    write(bus, *[(b"k", b"%d" % n) for n in range(5)])
    bus.apply_retention()
    assert len(read(bus)) == 5
