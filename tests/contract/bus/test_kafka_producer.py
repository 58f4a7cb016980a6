"""Transactions that an absent broker overtakes: undelivered messages are sent again, what nobody answered ends."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from libs.bus import kafka_producer
from libs.bus.api import BusError, BusUnavailable, Footprint, NewRecord, TopicPartition, TopicSpec
from libs.bus.kafka import KafkaBus
from libs.runtime.listening import ReservedPort
from libs.runtime.records import commit_records, read_topic
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
    monkeypatch.setattr(kafka_producer, "_TRANSACTION_TIMEOUT_MS", 2_000)
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
        await_values(bus, "a", [b"%d" % number for number in range(401)])


def test_transaction_that_no_broker_answers_ends_and_the_next_owner_of_its_id_goes_on(
    broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_producer, "ANSWER_TIMEOUT_S", 0.5)
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


def test_commits_that_a_killed_broker_answered_and_never_marked_are_there_once() -> None:
    with ReservedPort() as port, ReservedPort() as nobody:
        # The broker writes markers by its own listener, where nobody answers: it answers commits and marks none.
        listeners = (
            f"PLAINTEXT://127.0.0.1:{{port}},INTERNAL://127.0.0.1:{port.number},CONTROLLER://127.0.0.1:{{controller}}"
        )
        properties = {
            "listeners": listeners,
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "INTERNAL",
            # It asks itself about each transaction before it takes its records, by that listener too.
            "transaction.partition.verification.enable": "false",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{{port}},INTERNAL://127.0.0.1:{nobody.number}",
        }
        with a_kafka(properties) as broker, KafkaBus(broker.address) as bus, KafkaBus(broker.address) as dying:
            bus.create_topics([TopicSpec("lasting"), TopicSpec("anew")])
            inputs = TopicPartition("lasting", 0)
            producer, reader = bus.producer("lasting"), bus.consumer(["lasting"], group="readers", subscribes=False)
            producer.begin()
            producer.send([NewRecord("lasting", b"k", b"1", {"h": b"1"}), NewRecord("lasting", b"k", b"2")])
            producer.send_offsets(reader, {inputs: 7})
            producer.commit()
            lost = dying.producer("ends")
            lost.begin()
            lost.send([NewRecord("anew", b"", b"1")])
            lost.commit()
            assert values(bus, "lasting") == values(bus, "anew") == []

            broker.kill()
            broker.configure(
                {"advertised.listeners": f"PLAINTEXT://{broker.address},INTERNAL://127.0.0.1:{port.number}"}
            )
            broker.start()
            producer.begin()
            await_values(bus, "lasting", [b"1", b"2"])
            assert bus.committed("readers", [inputs]) == {inputs: 7}
            producer.send([NewRecord("lasting", b"", b"3")])
            producer.abort()
            producer.begin()
            producer.send([NewRecord("lasting", b"", b"4")])
            producer.commit()
            await_values(bus, "lasting", [b"1", b"2", b"4"])

            # What a process that ended had committed and nobody can read is taken back, and done again.
            successor = bus.producer("ends", Footprint((TopicPartition("anew", 0),)))
            done = values(bus, "anew")
            successor.begin()
            successor.send([NewRecord("anew", b"", b"%d" % number) for number in range(len(done) + 1, 3)])
            successor.commit()
            await_values(bus, "anew", [b"1", b"2"])


def values(bus: KafkaBus, topic: str) -> list[bytes]:
    return [record.value for record in read_topic(bus, topic)]


def await_values(bus: KafkaBus, topic: str, expected: list[bytes]) -> None:
    """Wait for a topic's records: the broker answers a commit before it has marked it in the partition."""
    eventually(lambda: values(bus, topic) == expected, within_s=60)


def test_what_the_client_says_of_a_fatal_error_goes_into_the_log_of_the_process(
    broker: KafkaBroker, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with KafkaBus(broker.address) as bus, KafkaBus(broker.address) as other:
        bus.create_topics([TopicSpec("fenced")])
        record = NewRecord("fenced", b"", b"1")
        elder = bus.producer("of-two")
        commit_records(elder, [record])
        younger = other.producer("of-two")
        commit_records(younger, [record])
        with pytest.raises(BusError):
            commit_records(elder, [record])
        elder.close()
        younger.close()
    said = [each.getMessage() for each in caplog.records if each.name == "confluent_kafka"]
    assert any("fenced by a newer instance" in text for text in said), said
    # The client's own way is a line such as `%0|1700000000.000|FATAL|...`.
    assert "FATAL|" not in capfd.readouterr().err
