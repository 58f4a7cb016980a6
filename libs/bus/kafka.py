"""The bus on Apache Kafka: transactions, read-committed consumers and static membership through confluent-kafka.

It never commits by itself and never creates a topic by accident. A broker that goes away and comes back is waited for;
what the broker refuses for good becomes one of the errors of `libs.bus.api`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException

from libs.bus.api import (
    NO_FOOTPRINT,
    Footprint,
    Partitioner,
    Start,
    TopicPartition,
    TopicSpec,
    Waiting,
    hash_partition,
)
from libs.bus.checks import check_same_partitions, check_spec
from libs.bus.clients import OpenClients
from libs.bus.kafka_consumer import KafkaConsumer
from libs.bus.kafka_producer import KafkaProducer
from libs.bus.kafka_session import (
    ANSWER_TIMEOUT_S,
    EARLIEST,
    LATEST,
    UNKNOWN_TOPIC_CODES,
    KafkaSession,
)
from libs.bus.kafka_topics import delete_records, keep_everything, new_topic
from libs.bus.replication import Replication
from libs.bus.security import KafkaSecurity
from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Entropy

_NO_SECURITY = KafkaSecurity()
_CLUSTERS_OWN = Replication()


class KafkaBus:
    """A bus on a Kafka cluster; `bootstrap` is HOST:PORT[,...]. `prefix` goes before every topic, group and
    transactional id, so that sessions share one cluster. Raises `BusUnavailable` when no broker answers, `BusDenied`
    when one answers that does not take `security`."""

    def __init__(
        self,
        bootstrap: str,
        *,
        prefix: str = "",
        connect_timeout_s: float = 10.0,
        security: KafkaSecurity = _NO_SECURITY,
        replication: Replication = _CLUSTERS_OWN,
        waiting: Waiting = contextlib.nullcontext,
        partitioner: Partitioner = hash_partition,
        clock: Clock = SYSTEM_CLOCK,
        entropy: Entropy = SYSTEM_ENTROPY,
    ) -> None:
        self._partitioner = partitioner
        self._replication = replication
        self._session = KafkaSession(bootstrap, prefix, security, waiting, clock, entropy)
        self._session.connect(connect_timeout_s)
        self._open = OpenClients()

    def create_topics(self, specs: Iterable[TopicSpec]) -> None:
        session = self._session
        existing = set(session.counts())
        missing: dict[str, TopicSpec] = {}
        for spec in specs:
            check_spec(spec)
            missing[session.names.stored(spec.name)] = spec
        new = [new_topic(name, spec, self._replication) for name, spec in missing.items() if name not in existing]
        if new:
            for name, future in session.admin.create_topics(new, operation_timeout=ANSWER_TIMEOUT_S).items():
                try:
                    future.result()
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise session.error(error, f"creating topic {name}") from error
                    # It was not listed above: another process made it meanwhile, or its leader was not known yet.
                    existing.add(name)
            session.await_topics(lambda counts: missing.keys() <= counts.keys(), "creating topics")
        for name, spec in missing.items():
            count = session.count(spec.name)
            check_same_partitions(TopicSpec(name, spec.partitions), count)
        keep_everything(session, missing.keys() & existing)

    def delete_topics(self, names: Iterable[str]) -> None:
        session = self._session
        stored = [session.names.stored(name) for name in names]
        known = session.counts()
        present = [name for name in stored if name in known]
        if not present:
            return
        for name, future in session.admin.delete_topics(present, operation_timeout=ANSWER_TIMEOUT_S).items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() not in UNKNOWN_TOPIC_CODES:
                    raise session.error(error, f"deleting topic {name}") from error
        session.await_topics(lambda counts: not counts.keys() & set(present), "deleting topics")

    def topics(self) -> Mapping[str, int]:
        plain = self._session.names.plain
        return {plain(name): count for name, count in sorted(self._session.counts().items())}

    def consumer(
        self,
        topics: Sequence[str],
        *,
        group: str | None = None,
        member_id: str | None = None,
        start: Start = "earliest",
        subscribes: bool = True,
    ) -> KafkaConsumer:
        opened = KafkaConsumer(
            self._session, topics, group=group, member_id=member_id, start=start, subscribes=subscribes
        )
        return self._open.add(opened)

    def producer(self, transactional_id: str, footprint: Footprint = NO_FOOTPRINT, /) -> KafkaProducer:
        opened = KafkaProducer(self._session, transactional_id, self._partitioner, footprint)
        return self._open.add(opened)

    def beginning_offsets(self, topic_partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int]:
        return self._session.offsets(dict.fromkeys(topic_partitions, EARLIEST), "reading first offsets")

    def end_offsets(
        self, topic_partitions: Iterable[TopicPartition], *, with_uncommitted: bool = False
    ) -> Mapping[TopicPartition, int]:
        wanted = dict.fromkeys(topic_partitions, LATEST)
        return self._session.offsets(wanted, "reading end offsets", with_uncommitted=with_uncommitted)

    def offsets_for_times(self, times_ms: Mapping[TopicPartition, int]) -> Mapping[TopicPartition, int]:
        # Below zero stands what is no time.
        wanted = {at: max(0, time_ms) for at, time_ms in times_ms.items()}
        found = self._session.offsets(wanted, "finding offsets by time")
        ends = self.end_offsets([at for at, offset in found.items() if offset < 0])
        return {**found, **ends}

    def committed(self, group: str, topic_partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, int | None]:
        return self._session.committed(self._session.names.stored(group), topic_partitions)

    def ping(self) -> None:
        self._session.ping()

    def delete_before(self, offsets: Mapping[TopicPartition, int]) -> None:
        delete_records(self._session, offsets, self.end_offsets(offsets, with_uncommitted=True))

    def close(self) -> None:
        self._open.close()
        self._session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
