"""Every service does its part on a real broker with exactly the rights that the registry gives it, and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from infra.kafka.acls import PRINCIPALS, TOPICS_JOB, AclRule, apply_rules, rules_of
from libs.bus.api import BusDenied, BusError, NewRecord, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from libs.bus.security import KafkaSecurity
from libs.runtime.placement import Placement
from libs.runtime.settings import CHAIN
from libs.runtime.snapshots import group_topics, output_topics
from libs.wire.topics import BARS_CLOSED, COMMANDS, CONTROL_COMMANDS, CORE_SERVICES, MARKET_EVENTS, journal_topic
from tests.kit.kafka import NoKafka, a_kafka
from tests.kit.waiting import eventually

pytestmark = [pytest.mark.timeout(900), pytest.mark.slow]
PASSWORD = "a password for tests"
PREFIX = "one."
# They take what the broker sends for a refusal: a topic that may not be described is one that is not there.
REFUSED = (BusDenied, BusError)


def login(name: str) -> KafkaSecurity:
    return KafkaSecurity("SASL_PLAINTEXT", "PLAIN", name, PASSWORD)


@dataclass(frozen=True)
class Guarded:
    """A broker that allows what its rules say and nothing else."""

    address: str

    @property
    def url(self) -> str:
        return f"kafka:{self.address}"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    module = "org.apache.kafka.common.security.plain.PlainLoginModule"
    users = " ".join(f'user_{name}="{PASSWORD}"' for name in ("admin", *PRINCIPALS))
    properties = {
        "listeners": "CLIENT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "advertised.listeners": "CLIENT://127.0.0.1:{port}",
        "listener.security.protocol.map": "CLIENT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "CLIENT",
        "sasl.enabled.mechanisms": "PLAIN",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.client.plain.sasl.jaas.config": f'{module} required username="admin" password="{PASSWORD}" '
        f"{users};",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # The controller's listener knows nobody by name.
        "super.users": "User:admin;User:ANONYMOUS",
    }
    try:
        with a_kafka(properties, login("admin")) as broker:
            apply_rules(broker.address, login("admin"), PRINCIPALS, PREFIX)
            found = Guarded(broker.address)
            eventually(lambda: create_topics(found), within_s=60, every_s=0.5)
            yield found
    except NoKafka as reason:
        pytest.skip(str(reason))


def create_topics(guarded: Guarded) -> bool:
    """As the job does; rules take a moment to reach the broker."""
    try:
        with open_bus(guarded.url, prefix=PREFIX, security=login(TOPICS_JOB)) as bus:
            bus.create_topics(Placement().topics())
            return len(bus.topics()) == len(Placement().topics())
    except REFUSED as error:
        print(error, file=sys.stderr)
        return False


@pytest.mark.parametrize("service", CORE_SERVICES)
def test_a_service_reads_its_inputs_and_commits_its_outputs_and_offsets_in_one_transaction(
    service: str, guarded: Guarded
) -> None:
    with open_bus(guarded.url, prefix=PREFIX, security=login(service)) as bus:
        topics = group_topics(service)
        # As the shell does: its group is for offsets alone.
        consumer = bus.consumer(topics, group=service, subscribes=False)
        producer = bus.producer(service)
        producer.begin()
        producer.send([NewRecord(topic, b"k", b"v") for topic in (*output_topics(service), journal_topic(service))])
        producer.send_offsets(consumer, {TopicPartition(topics[0], 0): 0})
        producer.commit()
        assert bus.committed("recorder", [TopicPartition(topics[0], 0)]) == {TopicPartition(topics[0], 0): None}
        consumer.close()
        producer.close()


@pytest.mark.parametrize(
    ("service", "topic"),
    [("risk", MARKET_EVENTS), ("bars", CONTROL_COMMANDS), ("recorder", COMMANDS), ("monitoring", COMMANDS)],
)
def test_a_service_cannot_write_what_is_anothers(service: str, topic: str, guarded: Guarded) -> None:
    with open_bus(guarded.url, prefix=PREFIX, security=login(service)) as bus:
        producer = bus.producer(service)
        with pytest.raises(REFUSED):
            producer.begin()
            producer.send([NewRecord(topic, b"k", b"v")])
            producer.commit()
        producer.close()


def test_a_service_cannot_take_the_transactions_or_the_group_of_another(guarded: Guarded) -> None:
    with open_bus(guarded.url, prefix=PREFIX, security=login("bars")) as bus, pytest.raises(REFUSED):
        producer = bus.producer("execution")
        producer.begin()
        producer.send([NewRecord(BARS_CLOSED, b"k", b"v")])
        producer.commit()


def test_nobody_creates_topics_but_the_job_and_no_other_session_is_in_reach(guarded: Guarded) -> None:
    with open_bus(guarded.url, prefix=PREFIX, security=login("risk")) as bus, pytest.raises(REFUSED):
        bus.create_topics([TopicSpec("mine", 1)])
    with open_bus(guarded.url, prefix="two.", security=login(TOPICS_JOB)) as bus, pytest.raises(REFUSED):
        bus.create_topics([TopicSpec(MARKET_EVENTS, 1)])


def test_the_recorder_alone_removes_records(guarded: Guarded) -> None:
    with open_bus(guarded.url, prefix=PREFIX, security=login("recorder")) as bus:
        bus.delete_before({TopicPartition(BARS_CLOSED, 0): 0})
    with open_bus(guarded.url, prefix=PREFIX, security=login("features")) as bus, pytest.raises(REFUSED):
        bus.delete_before({TopicPartition(BARS_CLOSED, 0): 0})


def test_no_rule_lets_a_principal_do_everything() -> None:
    for principal in PRINCIPALS:
        for rule in rules_of(principal, PREFIX):
            assert "ALL" not in rule.operations
            assert rule.name.startswith(PREFIX)


def test_a_chain_may_do_what_its_services_may_and_polls_under_its_own_name() -> None:
    own = set(rules_of(CHAIN, PREFIX))
    assert own >= {rule for service in CORE_SERVICES for rule in rules_of(service, PREFIX)}
    assert AclRule("group", f"{PREFIX}{CHAIN}", ("READ",), is_prefix=True) in own
