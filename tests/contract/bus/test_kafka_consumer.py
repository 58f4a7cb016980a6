"""A member of a Kafka group that leaves while its share of partitions comes."""

from __future__ import annotations

import secrets

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from libs.bus.api import TopicSpec
from libs.bus.kafka import KafkaBus
from tests.kit.kafka import NoKafka, find_kafka
from tests.kit.waiting import eventually


def test_a_member_that_leaves_before_its_first_poll_leaves_cleanly() -> None:
    try:
        address = find_kafka().address
    except NoKafka as reason:
        pytest.skip(str(reason))
    prefix = f"{secrets.token_hex(6)}."
    with KafkaBus(address, prefix=prefix) as bus:
        bus.create_topics([TopicSpec("a")])
        member = bus.consumer(["a"], group="g", member_id="g-0")
        admin = AdminClient({"bootstrap.servers": address})

        def is_assigned() -> bool:
            found = admin.describe_consumer_groups([f"{prefix}g"])[f"{prefix}g"].result()
            return bool(found.state == ConsumerGroupState.STABLE)

        # The broker has shared the partitions out; the client has yet to be told, which closing does.
        eventually(is_assigned, within_s=60.0)
        member.close()
        assert member.assignment() == frozenset()
