"""A member of a Kafka group that leaves while its share of partitions comes."""

from __future__ import annotations

import secrets

import pytest
from confluent_kafka import ConsumerGroupState, KafkaError, KafkaException
from confluent_kafka.admin import AdminClient

from libs.bus.api import TopicSpec
from libs.bus.kafka import KafkaBus
from libs.bus.kafka_session import SETTLING_CODES
from tests.kit.kafka import NoKafka, find_kafka
from tests.kit.waiting import eventually


def test_a_member_that_leaves_before_its_first_poll_leaves_cleanly() -> None:
    try:
        address = find_kafka().address
    except NoKafka as reason:
        pytest.skip(str(reason))
    admin = AdminClient({"bootstrap.servers": address})
    prefix = f"{secrets.token_hex(6)}."
    with KafkaBus(address, prefix=prefix) as bus:
        bus.create_topics([TopicSpec("a")])
        # Leaving while the share comes is a race of milliseconds: once was not enough to lose it.
        for attempt in range(30):
            group = f"g{attempt}"
            member = bus.consumer(["a"], group=group, member_id="g-0")
            # The broker has shared the partitions out; the client has yet to hear of it, which closing does.
            eventually(lambda name=f"{prefix}{group}": _is_stable(admin, name), within_s=60.0)
            member.close()
            assert member.assignment() == frozenset()


# A busy broker does not answer in time, or has yet to find or to load who coordinates the group.
_LATER = SETTLING_CODES | {KafkaError._TIMED_OUT}


def _is_stable(admin: AdminClient, group: str) -> bool:
    try:
        return bool(admin.describe_consumer_groups([group])[group].result().state == ConsumerGroupState.STABLE)
    except KafkaException as error:
        if error.args[0].retriable() or error.args[0].code() in _LATER:
            return False
        raise
