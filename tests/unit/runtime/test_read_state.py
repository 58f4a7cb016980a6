"""A core's state at a moment of a session: its inputs up to then, in journalled order."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from libs.bus.api import NewRecord, TopicSpec
from libs.bus.memory import MemoryBus
from libs.domain.bars import TIMEFRAMES
from libs.domain.events import Event
from libs.domain.state import StateFormat
from libs.runtime.handler import Input
from libs.runtime.verify import read_state
from libs.wire import encode, topics
from tests.kit.builders import a_bar

FORMAT = StateFormat("closes", 1, list[str])
BAR_NS = TIMEFRAMES["1m"]


class Closes:
    """Remembers the ids of bars."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def handle(self, event: Event) -> Sequence[Event]:
        self.seen.append(event.event_id)
        return ()

    def snapshot(self) -> bytes:
        return FORMAT.encode(self.seen)

    def restore(self, state: bytes) -> None:
        self.seen = FORMAT.decode(state)


def test_state_is_that_after_the_last_input_of_the_time() -> None:
    bars = [a_bar(number) for number in range(4)]
    bus = MemoryBus(secrets.token_hex(4))
    bus.create_topics(TopicSpec(name) for name in topics.TOPICS)
    producer = bus.producer("test")
    producer.begin()
    producer.send(NewRecord(one.topic, one.key, one.payload) for one in map(encode, bars))
    producer.commit()
    # features reads one topic and keeps no journal: the partition's order is its own.
    inputs = (Input(topics.BARS_CLOSED),)
    found = read_state("features", Closes(), inputs, bus, bars[1].event_time + BAR_NS - 1)
    assert found.inputs == 2
    assert found.state == {"name": "closes", "version": 1, "state": [bars[0].event_id, bars[1].event_id]}
    assert found.last_input == {
        "place": "bars.closed.v1/0@1",
        "event_id": bars[1].event_id,
        "event_time": bars[1].event_time,
    }
    nothing = read_state("features", Closes(), inputs, bus, bars[0].event_time - 1)
    assert (nothing.inputs, nothing.last_input) == (0, None)
