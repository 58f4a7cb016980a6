"""What the bus on Kafka makes of answers that a real broker gives only at rare moments."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from confluent_kafka import KafkaError

from libs.bus.api import BusUnavailable, NewRecord, TopicPartition
from libs.bus.kafka import KafkaBus
from libs.bus.kafka_session import explain
from tests.kit.kafka_mock import LIST_OFFSETS, a_mock_cluster
from tests.kit.waiting import eventually

ROOT = Path(__file__).resolve().parents[3]
IN = TopicPartition("in", 0)

# In a process of its own: what it guards against is a segmentation fault.
ASK_WHILE_THE_COORDINATOR_MOVES = """
from confluent_kafka import KafkaError
from libs.bus.api import TopicPartition
from libs.bus.kafka import KafkaBus
from libs.bus.kafka_session import explain
from tests.kit.kafka_mock import OFFSET_FETCH, a_mock_cluster

with a_mock_cluster() as cluster:
    cluster.create_topic("in")
    with KafkaBus(cluster.bootstrap) as bus:
        cluster.answer_with(OFFSET_FETCH, [KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_LOAD_IN_PROGRESS])
        print(bus.committed("bars", [TopicPartition("in", 0)]))
"""


def test_committed_offsets_are_read_while_the_coordinator_of_the_group_moves() -> None:
    ended = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", ASK_WHILE_THE_COORDINATOR_MOVES],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == "{TopicPartition(topic='in', partition=0): None}"


def test_offsets_are_read_after_the_leader_of_a_partition_has_changed() -> None:
    with a_mock_cluster(brokers=2) as cluster:
        cluster.create_topic("in")
        cluster.move_leader("in", 0, 1)
        with KafkaBus(cluster.bootstrap) as bus:
            assert bus.end_offsets([IN]) == {IN: 0}
            cluster.move_leader("in", 0, 2)
            cluster.move_leader("in", 0, 1)
            cluster.answer_with(LIST_OFFSETS, [KafkaError.FENCED_LEADER_EPOCH])
            assert bus.end_offsets([IN]) == {IN: 0}


@pytest.mark.slow
def test_a_broker_that_answers_late_or_not_at_all_is_told_by_ping() -> None:
    with a_mock_cluster() as cluster, KafkaBus(cluster.bootstrap) as bus:
        bus.ping()
        cluster.answer_late(1, 3_000)
        with pytest.raises(BusUnavailable, match="does not answer"):
            bus.ping()
        cluster.answer_late(1, 0)
        cluster.stop(1)
        with pytest.raises(BusUnavailable, match="does not answer"):
            bus.ping()


@pytest.mark.parametrize("code", [KafkaError._WAIT_COORD, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError._TRANSPORT])
def test_what_passes_by_itself_is_an_outage_and_no_refusal(code: int) -> None:
    assert isinstance(explain(KafkaError(code), "committing", "broker:9092"), BusUnavailable)


def test_a_producer_is_closed_in_an_outage_with_a_transaction_open(monkeypatch: pytest.MonkeyPatch) -> None:
    # The client's own close waits for the broker without limit: this ends by the test's time limit then.
    monkeypatch.setattr("libs.bus.kafka_producer._CLOSING_TIMEOUT_S", 0.5)
    with a_mock_cluster() as cluster:
        cluster.create_topic("in")
        with KafkaBus(cluster.bootstrap) as bus:
            producer = bus.producer("bars")
            producer.begin()
            producer.send([NewRecord("in", b"k", b"v")])
            eventually(lambda: bus.end_offsets([IN], with_uncommitted=True) == {IN: 1})
            cluster.stop(1)
            producer.close()
            producer.close()
