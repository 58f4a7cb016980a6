"""Retention on a real Kafka whose broker rolls and cleans as often as it can: services recover and replay all the same.

Two topics are as an earlier version created them, compacted, which took what journals name.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from libs.bus.api import TopicSpec
from libs.bus.kafka import KafkaBus
from libs.runtime.lag import read_lags
from libs.runtime.shell import CoreShell
from libs.runtime.snapshots import group_topics, partitions_of
from libs.runtime.verify import verify_service
from libs.wire import topics
from tests.kit.kafka import NoKafka, find_kafka
from tests.kit.waiting import eventually
from tests.unit.runtime.test_retention import (
    ACCOUNTS,
    INPUTS,
    MARKET,
    SummingCore,
    a_shell,
    begin_of,
    kill,
    publish_round,
    record_everything,
    retain,
)

ROUNDS = 3
# The broker rolls and cleans these at every chance it gets.
HASTY = {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.01", "min.compaction.lag.ms": "0"}
COMPACTED = (topics.ACCOUNTS, topics.CONTROL_STATES)

pytestmark = pytest.mark.timeout(900)


@pytest.fixture
def bus() -> Iterator[KafkaBus]:
    try:
        address = find_kafka().address
    except NoKafka as reason:
        pytest.skip(str(reason))
    prefix = f"{secrets.token_hex(6)}."
    admin = AdminClient({"bootstrap.servers": address})
    made = [
        NewTopic(prefix + name, num_partitions=1, config={**HASTY, "cleanup.policy": "compact" if old else "delete"})
        for name in topics.TOPICS
        for old in [name in COMPACTED]
    ]
    for future in admin.create_topics(made, operation_timeout=60).values():
        future.result()
    with KafkaBus(address, prefix=prefix) as opened:
        opened.create_topics(TopicSpec(name) for name in topics.TOPICS)
        yield opened


def run_dry(bus: KafkaBus, shell: CoreShell) -> None:
    places = partitions_of(bus, group_topics(shell.service))
    # Until its marker is written, a transaction that was just committed is no lag.
    eventually(lambda: bus.end_offsets(places) == bus.end_offsets(places, with_uncommitted=True), within_s=120.0)
    eventually(
        lambda: read_lags(bus, [shell.service])[shell.service] == 0, step=lambda: shell.step(100), within_s=120.0
    )


def test_a_service_killed_after_every_retention_pass_recovers_and_replays(bus: KafkaBus) -> None:
    for number in range(ROUNDS):
        shell = a_shell(bus)
        publish_round(bus, number)
        run_dry(bus, shell)
        kill(shell)
        verified = verify_service("risk", SummingCore(), INPUTS, bus)
        assert verified.difference is None
        assert verified.outputs >= 40
        for service in topics.CORE_SERVICES:
            if service != "risk":
                other = a_shell(bus, service)
                run_dry(bus, other)
                other.close()
        record_everything(bus)
        retain(bus)
    assert begin_of(bus, MARKET) > 0
    assert begin_of(bus, ACCOUNTS) > 0
    again = a_shell(bus)
    publish_round(bus, ROUNDS)
    run_dry(bus, again)
    again.close()
    verified = verify_service("risk", SummingCore(), INPUTS, bus)
    assert verified.difference is None and verified.verified_from is not None
