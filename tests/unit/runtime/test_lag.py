"""Standing still shows, whatever a process says of itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest

from libs.bus.api import Bus, Consumer, NewRecord, TopicPartition, TopicSpec
from libs.bus.memory import MemoryBus
from libs.runtime.lag import StallDetector, read_lags
from libs.wire.topics import BARS_CLOSED, FEATURE_VECTORS, MARKET_EVENTS, TOPICS


@pytest.fixture
def bus() -> Iterator[Bus]:
    with MemoryBus() as made:
        made.create_topics(TopicSpec(name) for name in TOPICS)
        yield made


class Detecting:
    """A detector over two groups on a clock that the test advances."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.seconds = 0.0
        self.detector = StallDetector(bus, ("bars", "features"), [MARKET_EVENTS], monotonic=lambda: self.seconds)

    def publish(self, topic: str, count: int = 1) -> None:
        producer = self.bus.producer("test")
        producer.begin()
        producer.send(NewRecord(topic, b"k", b"v") for _ in range(count))
        producer.commit()
        producer.close()

    def handle(self, group: str, topic: str) -> None:
        """Let a group handle all there is."""
        where = TopicPartition(topic, 0)
        consumer = self.bus.consumer([topic], group=group, member_id=group)
        while consumer.poll(100, 0):
            pass
        consumer.commit({where: self.bus.end_offsets([where])[where]})
        consumer.close()

    def look_after(self, seconds: float) -> list[str]:
        self.seconds += seconds
        return self.detector.find_stalls()


def test_nothing_is_known_at_first(bus: Bus) -> None:
    detecting = Detecting(bus)
    assert detecting.look_after(0) == ["nothing is known of the services for the first 5 s"]
    assert len(detecting.look_after(4.9)) == 1


def test_group_that_keeps_up_is_not_named(bus: Bus) -> None:
    detecting = Detecting(bus)
    for _ in range(6):
        stalls = detecting.look_after(2)
        detecting.publish(MARKET_EVENTS)
        detecting.handle("bars", MARKET_EVENTS)
    assert stalls == []


def test_stalled_group_is_named_and_others_are_not(bus: Bus) -> None:
    detecting = Detecting(bus)
    for _ in range(6):
        stalls = detecting.look_after(2)
        detecting.publish(MARKET_EVENTS)
        detecting.publish(BARS_CLOSED)
        detecting.handle("features", BARS_CLOSED)
    assert stalls == ["bars has stalled or lags by more than 5 s"]
    detecting.handle("bars", MARKET_EVENTS)
    assert detecting.look_after(2) == []


def test_work_that_is_younger_than_the_patience_is_no_stall(bus: Bus) -> None:
    detecting = Detecting(bus)
    detecting.look_after(0)
    detecting.publish(MARKET_EVENTS, 200)
    assert detecting.look_after(6) == []
    assert detecting.look_after(2) == []


def test_topic_without_new_records_is_named(bus: Bus) -> None:
    detecting = Detecting(bus)
    detecting.look_after(0)
    assert detecting.look_after(6) == [f"nothing came to {MARKET_EVENTS} for 5 s"]


def test_lags_are_counted_in_records(bus: Bus) -> None:
    detecting = Detecting(bus)
    detecting.publish(MARKET_EVENTS, 70)
    detecting.publish(FEATURE_VECTORS, 3)
    assert read_lags(bus, ("bars", "inference", "features")) == {"bars": 70, "inference": 3, "features": 0}


def test_lags_with_markers_are_those_without_where_the_log_keeps_none(bus: Bus) -> None:
    detecting = Detecting(bus)
    detecting.publish(MARKET_EVENTS, 5)
    detecting.handle("bars", MARKET_EVENTS)
    detecting.publish(MARKET_EVENTS, 3)
    detecting.publish(BARS_CLOSED, 2)
    found = read_lags(bus, ("bars", "features"), with_markers=True)
    assert found == read_lags(bus, ("bars", "features")) == {"bars": 3, "features": 2}


def test_one_reader_looks_at_the_tails_of_all_groups(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    detecting = Detecting(bus)
    detecting.publish(MARKET_EVENTS, 5)
    detecting.handle("risk", MARKET_EVENTS)
    detecting.publish(MARKET_EVENTS, 3)
    detecting.publish(BARS_CLOSED, 2)
    detecting.handle("bars", MARKET_EVENTS)
    opened: list[Sequence[str]] = []
    open_consumer = bus.consumer

    def note(topics: Sequence[str]) -> Consumer:
        opened.append(topics)
        return open_consumer(topics)

    monkeypatch.setattr(bus, "consumer", note)
    found = read_lags(bus, ("bars", "features", "risk", "execution"))
    assert found == {"bars": 0, "features": 2, "risk": 3 + 2, "execution": 8}
    assert opened == [[BARS_CLOSED, MARKET_EVENTS]]
