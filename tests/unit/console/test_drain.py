"""Waiting for the services to finish goes on through an outage of the bus, and says so."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import pytest

from libs.bus.api import BusLost, BusUnavailable, NewRecord, TopicSpec
from libs.bus.memory import MemoryBus
from libs.wire.topics import ALERTS, BARS_CLOSED, CONTROL_COMMANDS, REPORTS, TOPICS
from services.console.drain import UNENDING, wait_until_drained


class Broker(MemoryBus):
    """A bus whose pings and look-ups fail so many times."""

    def __init__(self, failures: list[BusUnavailable]) -> None:
        super().__init__()
        self.failures = failures
        self.create_topics(TopicSpec(name) for name in TOPICS)

    def ping(self) -> None:
        if self.failures:
            raise self.failures.pop()

    def topics(self) -> Mapping[str, int]:
        self.ping()
        return super().topics()


class Waited:
    """What was told while it was waited for `features`."""

    def __init__(self, bus: MemoryBus, timeout_s: float = 30.0, leaving_out: Collection[str] = ()) -> None:
        self.lags: list[int] = []
        self.outages: list[str] = []
        self.watched = 0
        self.is_drained = wait_until_drained(
            bus,
            ["features"],
            self._watch,
            lambda lags: self.lags.append(lags["features"]),
            lambda error: self.outages.append(str(error)),
            timeout_s,
            leaving_out,
        )

    def _watch(self) -> None:
        self.watched += 1


def test_an_outage_is_waited_for_and_told_while_the_processes_are_watched() -> None:
    with Broker([BusUnavailable("Kafka is away")] * 3) as bus:
        waited = Waited(bus)
    assert waited.is_drained
    assert waited.outages == ["Kafka is away"] * 3
    assert waited.watched >= 4


def test_an_outage_that_does_not_end_is_not_waited_for_longer_than_the_limit() -> None:
    with Broker([BusUnavailable("Kafka is away")] * 1000) as bus:
        assert not Waited(bus, 0.3).is_drained


def test_a_lost_bus_is_not_waited_for() -> None:
    with Broker([BusLost("the bus is lost")]) as bus, pytest.raises(BusLost):
        Waited(bus)


def test_what_is_not_handled_is_waited_for() -> None:
    with Broker([]) as bus:
        producer = bus.producer("test")
        producer.begin()
        producer.send([NewRecord(BARS_CLOSED, b"k", b"v")])
        producer.commit()
        waited = Waited(bus, 0.3)
    assert not waited.is_drained
    assert set(waited.lags) == {1}


def test_topics_that_never_end_are_not_waited_for() -> None:
    with Broker([]) as bus:
        producer = bus.producer("test")
        producer.begin()
        producer.send([NewRecord(BARS_CLOSED, b"k", b"v")])
        producer.commit()
        assert Waited(bus, 30.0, leaving_out=[BARS_CLOSED]).is_drained


def test_what_the_outbox_writes_without_a_market_is_not_waited_for() -> None:
    written = {name for name, topic in TOPICS.items() if "outbox" in topic.producers and not name.startswith("dead.")}
    # Reports follow commands, halts and alerts differences; snapshots are read by nobody else. The rest never rests.
    assert written - UNENDING <= {REPORTS, CONTROL_COMMANDS, ALERTS, "state.outbox.v1"}
