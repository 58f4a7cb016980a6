"""The bus on Apache Kafka: transactions, read-committed consumers and static membership through confluent-kafka.

It never commits by itself and never creates a topic by accident. A broker that goes away and comes back is waited for;
what the broker refuses for good becomes one of the errors of `libs.bus.api`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as KafkaClientProducer

from libs.bus.api import (
    BusError,
    BusUnavailable,
    Consumer,
    NewRecord,
    Partitioner,
    ProducerFenced,
    Start,
    TopicPartition,
    TopicSpec,
    Waiting,
    hash_partition,
)
from libs.bus.checks import TransactionGuard, check_same_partitions, check_spec, foreign_consumer
from libs.bus.clients import OpenClients
from libs.bus.kafka_consumer import KafkaConsumer
from libs.bus.kafka_session import (
    ANSWER_TIMEOUT_S,
    EARLIEST,
    FENCED_CODES,
    LATEST,
    SETTLING_CODES,
    UNKNOWN_TOPIC_CODES,
    KafkaSession,
)
from libs.bus.kafka_topics import LONGEST_MESSAGE_BYTES, delete_records, keep_everything, new_topic
from libs.bus.replication import Replication
from libs.bus.security import KafkaSecurity
from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Deadline, Entropy

# How long a dead producer's open transaction holds readers back when nobody opens its id again.
_TRANSACTION_TIMEOUT_MS = 15_000
# The coordinator of transactions may still be loading where a cluster is new; nothing is in hand that could not wait.
_OPENING_TIMEOUT_S = 60.0
_CLOSING_TIMEOUT_S = 5.0
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

    def producer(self, transactional_id: str) -> KafkaProducer:
        opened = KafkaProducer(self._session, transactional_id, self._partitioner)
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


class KafkaProducer:
    """A transactional producer. A commit that raises leaves the transaction open: abort it."""

    def __init__(self, session: KafkaSession, transactional_id: str, partitioner: Partitioner) -> None:
        self._session = session
        self._partitioner = partitioner
        self._name = transactional_id
        self._transaction = TransactionGuard(transactional_id)
        self._steps: list[Callable[[float], None]] = []
        self._undelivered: KafkaError | None = None
        self._is_undecided = False
        self._client = KafkaClientProducer(
            {
                **session.settings,
                "transactional.id": session.names.stored(transactional_id),
                "transaction.timeout.ms": _TRANSACTION_TIMEOUT_MS,
                # The next transaction is refused until the last one's markers are written: with the default of 100 ms
                # between questions four hops at 1,000/s take p50 330 ms instead of 25.
                "retry.backoff.ms": 1,
                "retry.backoff.max.ms": 5,
                "linger.ms": 1,
                "compression.type": "lz4",
                "message.max.bytes": LONGEST_MESSAGE_BYTES,
                "queue.buffering.max.messages": 1_000_000,
                # A commit whose messages failed does not say why.
                "delivery.report.only.error": True,
                "on_delivery": self._note_undelivered,
            }
        )
        self._run(lambda left_s: self._client.init_transactions(left_s), "opening", limit_s=_OPENING_TIMEOUT_S)

    @property
    def is_closed(self) -> bool:
        return self._transaction.is_closed

    def begin(self) -> None:
        self._transaction.require_none()
        self._run(lambda _: self._client.begin_transaction(), "beginning a transaction of")
        self._transaction.begin()
        self._steps, self._undelivered = [], None

    def _note_undelivered(self, error: KafkaError, _message: object) -> None:
        # What follows the first failure is given up with it.
        self._undelivered = self._undelivered or error

    def send(self, records: Iterable[NewRecord]) -> None:
        self._transaction.require("send")
        session = self._session
        stored, count_of = session.names.stored, session.count
        messages: list[tuple[str, bytes, bytes, int, list[tuple[str, bytes]]]] = []
        for record in records:
            count = count_of(record.topic)
            partition = record.partition
            if partition is None:
                partition = self._partitioner(record.topic, record.key, count)
            elif not 0 <= partition < count:
                session.to_kafka(TopicPartition(record.topic, partition))
            headers = list(record.headers.items())
            messages.append((stored(record.topic), record.value, record.key, partition, headers))
        self._step(lambda left_s: self._produce(messages, left_s), "sending by")

    def _produce(
        self, messages: Sequence[tuple[str, bytes, bytes, int, list[tuple[str, bytes]]]], left_s: float
    ) -> None:
        produce, deadline = self._client.produce, Deadline(left_s, self._session.clock)
        for topic, value, key, partition, headers in messages:
            while True:
                try:
                    produce(topic, value, key, partition, headers=headers)
                    break
                except BufferError as error:
                    if deadline.is_over:
                        raise BusUnavailable(
                            f"sending by {self._name}: Kafka at {self._session.bootstrap} took nothing for "
                            f"{left_s:.0f} s: check that the broker runs"
                        ) from error
                    self._client.poll(0.01)

    def send_offsets(self, consumer: Consumer, offsets: Mapping[TopicPartition, int]) -> None:
        self._transaction.require("send_offsets")
        if not isinstance(consumer, KafkaConsumer):
            raise foreign_consumer(self._name)
        metadata = consumer.group_metadata()
        places = [self._session.to_kafka(at, offset) for at, offset in offsets.items()]
        # Where the group's coordinator goes away meanwhile librdkafka may never return, whatever limit it is given (its
        # issue 5456): the heartbeat's limit on waiting then shows the process as hung.
        send = self._client.send_offsets_to_transaction
        self._step(lambda left_s: send(places, metadata, left_s), "sending offsets by")

    def commit(self) -> None:
        self._transaction.require("commit")
        self._step(lambda left_s: self._client.commit_transaction(left_s), "committing a transaction of")
        self._transaction.end()

    def abort(self) -> None:
        self._transaction.require("abort")
        self._transaction.end()
        self._is_undecided = True
        self._run(lambda left_s: self._client.abort_transaction(left_s), "aborting a transaction of")
        self._is_undecided = False

    def close(self) -> None:
        if self._transaction.is_closed:
            return
        self._transaction.is_closed = True
        if self._transaction.is_open:
            self._transaction.end()
            try:
                self._run(lambda left_s: self._client.abort_transaction(left_s), "closing", limit_s=_CLOSING_TIMEOUT_S)
            except ProducerFenced:
                # Who took over has aborted it.
                pass
            except BusError:
                self._is_undecided = True
        if self._is_undecided:
            # The broker ends it, by its timeout or when the id is opened again. To close this client would wait for the
            # broker without limit; to drop it does not.
            del self._client
            return
        try:
            self._client.close()
        except KafkaException as error:
            if error.args[0].code() not in FENCED_CODES:
                raise self._session.error(error, f"closing producer {self._name}") from error

    def _step(self, call: Callable[[float], None], doing: str) -> None:
        self._run(call, doing, can_replay=True)
        self._steps.append(call)

    def _run(
        self,
        call: Callable[[float], None],
        doing: str,
        *,
        can_replay: bool = False,
        limit_s: float | None = None,
    ) -> None:
        """Make a call until it succeeds or fails for good.

        A broker that restarts, or is away for longer than messages may wait, breaks the open transaction ("requires
        abort"): it is aborted and its steps are made again, which is exact, for a transaction that could not commit has
        no effect.
        """
        deadline = Deadline(ANSWER_TIMEOUT_S if limit_s is None else limit_s, self._session.clock)
        must_replay = False
        while True:
            try:
                with self._session.waiting():
                    if must_replay:
                        self._replay(deadline)
                        must_replay = False
                    call(_time_for(deadline))
                    return
            except KafkaException as error:
                cause: KafkaError = error.args[0]
                is_broken = cause.txn_requires_abort() or cause.code() == KafkaError._STATE
                if cause.code() == KafkaError._INCONSISTENT and self._undelivered is not None:
                    cause, is_broken = self._undelivered, True
                may_pass = cause.retriable() or cause.code() in SETTLING_CODES or cause.code() == KafkaError._STATE
                if not may_pass or cause.fatal() or (is_broken and not can_replay) or deadline.is_over:
                    raise self._session.error(cause, f"{doing} producer {self._name}") from error
                must_replay = must_replay or is_broken
            self._session.clock.sleep(0.005)

    def _replay(self, deadline: Deadline) -> None:
        self._client.abort_transaction(_time_for(deadline))
        self._undelivered = None
        self._client.begin_transaction()
        for step in self._steps:
            step(_time_for(deadline))


def _time_for(deadline: Deadline) -> float:
    # To the client 0 means: do not wait for an answer.
    return max(0.001, deadline.left_s)
