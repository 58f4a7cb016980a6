"""Transactions that an absent broker overtakes: undelivered messages are sent again, what nobody answered ends."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from libs.bus import kafka
from libs.bus.api import BusError, BusUnavailable, NewRecord, TopicPartition, TopicSpec
from libs.bus.kafka import KafkaBus
from libs.runtime.records import read_topic
from tests.kit.kafka import KafkaBroker, NoKafka, a_kafka
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def broker() -> Iterator[KafkaBroker]:
    try:
        with a_kafka() as made:
            yield made
    except NoKafka as reason:
        pytest.skip(str(reason))


def test_messages_that_waited_too_long_for_a_broker_are_sent_again_and_refused_ones_are_not(
    broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "_TRANSACTION_TIMEOUT_MS", 1_000)
    with KafkaBus(broker.address) as bus:
        bus.create_topics([TopicSpec("a")])
        small = NewTopic("small", num_partitions=1, config={"max.message.bytes": "1000"})
        admin = AdminClient({"bootstrap.servers": broker.address})
        admin.create_topics([small])["small"].result()
        producer = bus.producer("writer")
        producer.begin()
        producer.send([NewRecord("a", b"", b"0")])
        producer.commit()
        await_values(bus, "a", [b"0"])

        producer.begin()
        broker.kill()
        producer.send([NewRecord("a", b"", b"%d" % number) for number in range(1, 400)])
        # It takes longer to start than a message waits.
        broker.start()
        producer.commit()
        await_values(bus, "a", [b"%d" % number for number in range(400)])

        producer.begin()
        producer.send([NewRecord("small", b"", random.Random(1).randbytes(3_000))])
        with pytest.raises(BusError, match="too large"):
            producer.commit()
        producer.abort()
        producer.begin()
        producer.send([NewRecord("a", b"", b"400")])
        producer.commit()
        at = TopicPartition("a", 0)
        assert bus.end_offsets([at])[at] > 400


def test_transaction_that_no_broker_answers_ends_and_the_next_owner_of_its_id_goes_on(
    broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka, "ANSWER_TIMEOUT_S", 0.5)
    with KafkaBus(broker.address) as bus:
        bus.create_topics([TopicSpec("b")])
        producer = bus.producer("second writer")
        broker.kill()
        producer.begin()
        producer.send([NewRecord("b", b"", b"undecided")])
        with pytest.raises(BusUnavailable, match="committing"):
            producer.commit()
        with pytest.raises(BusUnavailable, match="aborting"):
            producer.abort()
        producer.close()
    broker.start()
    monkeypatch.undo()
    with KafkaBus(broker.address) as bus:
        following = bus.producer("second writer")
        following.begin()
        following.send([NewRecord("b", b"", b"decided")])
        following.commit()
        await_values(bus, "b", [b"decided"])


def await_values(bus: KafkaBus, topic: str, expected: list[bytes]) -> None:
    """Wait for a topic's records: the broker answers a commit before it has marked it in the partition."""
    eventually(lambda: [record.value for record in read_topic(bus, topic)] == expected, within_s=60)
