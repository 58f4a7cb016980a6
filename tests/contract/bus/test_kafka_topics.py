"""What a broker may not do by itself: a topic that it compacts or expires is set to keep everything."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from libs.bus.api import BusError, NewRecord, TopicPartition, TopicSpec
from libs.bus.kafka import KafkaBus
from libs.bus.replication import Replication
from tests.kit.kafka import NoKafka, find_kafka
from tests.kit.waiting import eventually

KEPT = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


@pytest.fixture(scope="module")
def address() -> str:
    try:
        return find_kafka().address
    except NoKafka as reason:
        pytest.skip(str(reason))


@pytest.fixture
def bus(address: str) -> Iterator[KafkaBus]:
    with KafkaBus(address, prefix=f"{secrets.token_hex(6)}.") as opened:
        yield opened


def settings_of(admin: AdminClient, stored_name: str) -> dict[str, str]:
    resource = ConfigResource(ResourceType.TOPIC, stored_name)
    found = admin.describe_configs([resource])[resource].result()
    return {name: found[name].value for name in KEPT}


def test_a_new_topic_keeps_everything(bus: KafkaBus, address: str) -> None:
    bus.create_topics([TopicSpec("a")])
    assert settings_of(AdminClient({"bootstrap.servers": address}), bus._session.names.stored("a")) == KEPT


@pytest.mark.parametrize(
    "losing",
    [
        {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1"},
        {"retention.ms": "1000"},
        {"retention.bytes": "9"},
    ],
)
def test_a_topic_that_the_broker_would_cut_is_set_to_keep_everything(
    bus: KafkaBus, address: str, losing: dict[str, str]
) -> None:
    name = bus._session.names.stored("a")
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(name, num_partitions=1, config=losing)], operation_timeout=30)[name].result()
    bus.create_topics([TopicSpec("a")])
    # The broker answers when the change is written, and shows it when it has read it back.
    eventually(lambda: settings_of(admin, name) == KEPT, within_s=60.0)
    producer = bus.producer("p")
    producer.begin()
    producer.send(NewRecord("a", b"k", b"%d" % n) for n in range(3))
    producer.commit()
    at = TopicPartition("a", 0)
    bus.delete_before({at: 2})
    assert bus.beginning_offsets([at]) == {at: 2}


def test_a_topic_that_the_broker_does_not_list_yet_is_set_to_keep_everything_too(
    bus: KafkaBus, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = bus._session.names.stored("a")
    admin = AdminClient({"bootstrap.servers": address})
    losing = NewTopic(name, num_partitions=1, config={"retention.ms": "1000"})
    admin.create_topics([losing], operation_timeout=30)[name].result()
    listed = bus._session.counts
    answers: Iterator[dict[str, int]] = iter([{}])
    monkeypatch.setattr(bus._session, "counts", lambda *limits: next(answers, None) or listed(*limits))
    bus.create_topics([TopicSpec("a")])
    eventually(lambda: settings_of(admin, name) == KEPT, within_s=60.0)


def test_a_new_topic_is_replicated_as_said(address: str) -> None:
    with KafkaBus(address, prefix=f"{secrets.token_hex(6)}.", replication=Replication(1, 1)) as bus:
        bus.create_topics([TopicSpec("a")])
        name = bus._session.names.stored("a")
    admin = AdminClient({"bootstrap.servers": address})
    resource = ConfigResource(ResourceType.TOPIC, name)
    found = admin.describe_configs([resource])[resource].result()["min.insync.replicas"]
    # Of the topic itself, not the broker's default, which is 1 as well.
    assert (found.value, found.is_default) == ("1", False)
    with (
        KafkaBus(address, prefix=f"{secrets.token_hex(6)}.", replication=Replication(99)) as bus,
        pytest.raises(BusError, match=r"(?i)creating topic .*replication factor"),
    ):
        bus.create_topics([TopicSpec("a")])
