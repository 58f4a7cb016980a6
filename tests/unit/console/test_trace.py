"""A trace says what it cannot show any more."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from libs.bus.api import Bus, NewRecord, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from libs.domain.events import Event
from libs.domain.features import FeatureVector
from libs.domain.orders import PlaceOrder
from libs.runtime.records import commit_records
from libs.wire import encode, topics
from services.console.trace import trace_order
from tests.kit.builders import a_bar, a_trade, an_intent
from tests.kit.golden import examples

VECTOR = next(event for event in examples().values() if isinstance(event, FeatureVector))
COMMAND = next(event for event in examples().values() if isinstance(event, PlaceOrder))


@pytest.fixture
def bus() -> Iterator[Bus]:
    bar = a_bar()
    vector = replace(VECTOR, bar_id=bar.event_id)
    intent = an_intent(cause_ids=(vector.event_id,))
    events: list[Event] = [a_trade(1), bar, vector, intent, replace(COMMAND, intent_id=intent.event_id)]
    with open_bus("memory:trace") as opened:
        opened.create_topics(TopicSpec(name) for name in topics.TOPICS)
        encoded = [encode(event) for event in events]
        commit_records(opened.producer("test"), [NewRecord(each.topic, each.key, each.payload) for each in encoded])
        yield opened


def test_a_chain_whose_records_survive_lacks_nothing(bus: Bus) -> None:
    chain = trace_order(bus, COMMAND.client_order_id)
    assert [link.step for link in chain.links] == ["command", "intent", "vector", "bar", "trade"]
    assert chain.missing == []


@pytest.mark.parametrize(
    ("topic", "lost"),
    [
        (topics.MARKET_EVENTS, ["trade"]),
        (topics.BARS_CLOSED, ["bar", "trade"]),
        (topics.FEATURE_VECTORS, ["vector", "bar", "trade"]),
    ],
)
def test_a_chain_says_what_has_passed_retention(bus: Bus, topic: str, lost: list[str]) -> None:
    at = TopicPartition(topic, 0)
    bus.delete_before({at: 1})
    chain = trace_order(bus, COMMAND.client_order_id)
    assert [link.step for link in chain.links] == [
        step for step in ("command", "intent", "vector", "bar", "trade") if step not in lost
    ]
    assert chain.missing == [f"what {topic} held before offset 1 has passed retention"]
