"""A transactional producer on Kafka. A broker's restart changes nothing that it committed, lost or doubled.

A broker answers a commit before it has written the transaction's markers to the partitions. Where it is killed in
between and a partition has no leader while it starts (as with one replica), Apache Kafka 4.3 takes the partition for a
deleted one and calls the transaction complete without its marker: what was committed stays invisible, and the next
marker of the same producer in that partition, a commit or an abort, decides about it (`_settle`).
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import Producer as KafkaClientProducer

from libs.bus.api import (
    BusError,
    BusUnavailable,
    Consumer,
    Footprint,
    NewRecord,
    Partitioner,
    ProducerFenced,
    TopicPartition,
)
from libs.bus.checks import TransactionGuard, foreign_consumer
from libs.bus.kafka_consumer import KafkaConsumer
from libs.bus.kafka_session import ANSWER_TIMEOUT_S, EARLIEST, FENCED_CODES, LATEST, SETTLING_CODES, KafkaSession
from libs.bus.kafka_topics import LONGEST_MESSAGE_BYTES
from libs.clock import Deadline

# How long a dead producer's open transaction holds readers back when nobody opens its id again.
_TRANSACTION_TIMEOUT_MS = 15_000
# The coordinator of transactions may still be loading where a cluster is new; nothing is in hand that could not wait.
_OPENING_TIMEOUT_S = 60.0
_CLOSING_TIMEOUT_S = 5.0
_READ_MAX, _READ_MS, _LOOK_EVERY_S = 1_000, 50, 0.02
# What an abort gave up, told with the next transaction.
_PURGED_CODES = {KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}

_logger = logging.getLogger(__name__)


class _Message(NamedTuple):
    stored_topic: str
    value: bytes
    key: bytes
    partition: int
    headers: list[tuple[str, bytes]]

    @property
    def place(self) -> tuple[str, int]:
        return self.stored_topic, self.partition


@dataclass(slots=True)
class _Transaction:
    """What a transaction sent; by place, the offset of its last message, where the broker told it; by group, by its
    stored name, the offsets that it moved."""

    messages: list[_Message] = field(default_factory=list)
    last_offsets: dict[tuple[str, int], int] = field(default_factory=dict)
    groups: dict[str, dict[TopicPartition, int]] = field(default_factory=dict)
    is_committed: bool = False


class KafkaProducer:
    """A transactional producer. A commit that raises leaves the transaction open: abort it."""

    def __init__(
        self, session: KafkaSession, transactional_id: str, partitioner: Partitioner, footprint: Footprint
    ) -> None:
        self._session = session
        self._partitioner = partitioner
        self._name = transactional_id
        self._guard = TransactionGuard(transactional_id)
        self._steps: list[Callable[[float], None]] = []
        self._undelivered: KafkaError | None = None
        self._is_undecided = False
        self._current = _Transaction()
        # Of an older one every marker was written before the next could send anything.
        self._ended: deque[_Transaction] = deque(maxlen=2)
        self._outages = self._settled_outages = 0
        self._answering_groups: set[str] = set()
        self._client = KafkaClientProducer(
            {
                **session.settings,
                "error_cb": self._note_error,
                "transactional.id": session.names.stored(transactional_id),
                "transaction.timeout.ms": _TRANSACTION_TIMEOUT_MS,
                # The next transaction is refused until the last one's markers are written: with the default of 100 ms
                # between questions four hops at 1,000/s take p50 330 ms instead of 25.
                "retry.backoff.ms": 1,
                "retry.backoff.max.ms": 5,
                # A broker that restarts is another one to the client, which goes on waiting for the one that it knew as
                # a group's coordinator (librdkafka's issue 5456) until it has not asked for so long.
                "topic.metadata.refresh.interval.ms": 1_000,
                "metadata.max.age.ms": 3_000,
                "linger.ms": 1,
                "compression.type": "lz4",
                "message.max.bytes": LONGEST_MESSAGE_BYTES,
                "queue.buffering.max.messages": 1_000_000,
                "on_delivery": self._note_delivery,
            }
        )
        self._run(lambda left_s: self._client.init_transactions(left_s), "opening", limit_s=_OPENING_TIMEOUT_S)
        self._end_left_open(footprint)

    @property
    def is_closed(self) -> bool:
        return self._guard.is_closed

    def begin(self) -> None:
        self._guard.require_none()
        # What became of the connection is told here.
        self._run(lambda _: self._client.poll(0), "beginning a transaction of")
        if self._had_outage:
            self._run(self._settle, "settling the last transaction of", on_broken=self._abandon)
        self._run(lambda _: self._client.begin_transaction(), "beginning a transaction of")
        self._guard.begin()
        self._steps, self._undelivered = [], None
        self._current = _Transaction()

    @property
    def _had_outage(self) -> bool:
        return self._outages != self._settled_outages

    def _note_error(self, error: KafkaError) -> None:
        self._outages += 1
        self._answering_groups.clear()
        self._session.note_error(error)

    def _note_delivery(self, error: KafkaError | None, message: Any) -> None:
        if error is None:
            self._current.last_offsets[message.topic(), message.partition()] = message.offset()
        elif error.code() not in _PURGED_CODES:
            # A commit whose messages failed does not say why. What follows the first failure is given up with it.
            self._undelivered = self._undelivered or error

    def send(self, records: Iterable[NewRecord]) -> None:
        self._guard.require("send")
        session = self._session
        stored, count_of = session.names.stored, session.count
        messages: list[_Message] = []
        for record in records:
            count = count_of(record.topic)
            partition = record.partition
            if partition is None:
                partition = self._partitioner(record.topic, record.key, count)
            elif not 0 <= partition < count:
                session.to_kafka(TopicPartition(record.topic, partition))
            headers = list(record.headers.items())
            messages.append(_Message(stored(record.topic), record.value, record.key, partition, headers))
        self._current.messages.extend(messages)
        self._step(lambda left_s: self._produce(messages, left_s), "sending by")

    def _produce(self, messages: Iterable[_Message], left_s: float) -> None:
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
        self._guard.require("send_offsets")
        if not isinstance(consumer, KafkaConsumer):
            raise foreign_consumer(self._name)
        metadata = consumer.group_metadata()
        places = [self._session.to_kafka(at, offset) for at, offset in offsets.items()]
        group = consumer.stored_group
        if not offsets:
            return
        self._current.groups.setdefault(group, {}).update(offsets)
        self._step(lambda left_s: self._send_offsets(group, places, metadata, left_s), "sending offsets by")

    def _send_offsets(self, group: str, places: list[Any], metadata: Any, left_s: float) -> None:
        # A transaction that asks three times in vain for a group's coordinator, within 3 ms, then waits for ever.
        if group not in self._answering_groups:
            self._session.await_group(group, places[0])
            self._answering_groups.add(group)
        self._client.send_offsets_to_transaction(places, metadata, left_s)

    def commit(self) -> None:
        self._guard.require("commit")
        self._step(lambda left_s: self._client.commit_transaction(left_s), "committing a transaction of")
        self._guard.end()
        self._current.is_committed = True
        self._ended.append(self._current)

    def abort(self) -> None:
        self._guard.require("abort")
        self._guard.end()
        self._is_undecided = True
        self._run(lambda left_s: self._client.abort_transaction(left_s), "aborting a transaction of")
        self._is_undecided = False
        self._ended.append(self._current)

    def close(self) -> None:
        if self._guard.is_closed:
            return
        self._guard.is_closed = True
        try:
            if self._guard.is_open:
                self._guard.end()
                self._run(lambda left_s: self._client.abort_transaction(left_s), "closing", limit_s=_CLOSING_TIMEOUT_S)
                self._ended.append(self._current)
            self._run(lambda _: self._client.poll(0), "closing", limit_s=_CLOSING_TIMEOUT_S)
            if self._had_outage and not self._is_undecided:
                self._run(self._settle, "closing", on_broken=self._abandon, limit_s=_CLOSING_TIMEOUT_S)
        except ProducerFenced:
            # Who took over has aborted it. A client that was fenced may fail to close.
            self._is_undecided = True
        except BusError as error:
            _logger.warning("%s ends without knowing how its last transaction ended: %s", self._name, error)
            self._is_undecided = True
        if self._is_undecided:
            # The broker ends what is open, by its timeout or when the id is opened again. To close this client would
            # wait for the broker without limit; to drop it does not.
            del self._client
            return
        try:
            self._client.close()
        except (KafkaException, SystemError) as error:
            cause = _cause_of(error)
            if cause.code() not in FENCED_CODES:
                raise self._session.error(cause, f"closing producer {self._name}") from error

    def _step(self, call: Callable[[float], None], doing: str) -> None:
        self._run(call, doing, on_broken=self._replay)
        self._steps.append(call)

    def _run(
        self,
        call: Callable[[float], None],
        doing: str,
        *,
        on_broken: Callable[[Deadline], None] | None = None,
        limit_s: float | None = None,
    ) -> None:
        """Make a call until it succeeds or fails for good.

        A broker that restarts, or is away for longer than messages may wait, breaks the open transaction ("requires
        abort"): `on_broken` then comes before the next attempt. Without one such an error is final.
        """
        deadline = Deadline(ANSWER_TIMEOUT_S if limit_s is None else limit_s, self._session.clock)
        is_broken = False
        while True:
            try:
                with self._session.waiting():
                    if is_broken and on_broken is not None:
                        on_broken(deadline)
                        is_broken = False
                    call(_time_for(deadline))
                    return
            except (KafkaException, SystemError) as error:
                cause = _cause_of(error)
                breaks = cause.txn_requires_abort() or cause.code() == KafkaError._STATE
                if cause.code() == KafkaError._INCONSISTENT and self._undelivered is not None:
                    cause, breaks = self._undelivered, True
                may_pass = cause.retriable() or cause.code() in SETTLING_CODES or cause.code() == KafkaError._STATE
                if not may_pass or cause.fatal() or (breaks and on_broken is None) or deadline.is_over:
                    raise self._session.error(cause, f"{doing} producer {self._name}") from error
                is_broken = is_broken or breaks
            self._session.clock.sleep(0.005)

    def _replay(self, deadline: Deadline) -> None:
        """Abort the open transaction and make its steps again: exact, for one that could not commit has no effect."""
        self._abandon(deadline)
        if self._had_outage:
            self._settle(_time_for(deadline))
        self._current.last_offsets.clear()
        self._client.begin_transaction()
        for step in self._steps:
            step(_time_for(deadline))

    def _abandon(self, deadline: Deadline) -> None:
        self._client.abort_transaction(_time_for(deadline))
        self._undelivered = None

    def _settle(self, left_s: float) -> None:
        """After an outage: make sure that the last transactions have the effect that was answered.

        What they left open is ended as aborted; what they committed and cannot be read then is sent again, in a
        transaction of its own. No transaction may be open; where this fails it may be made again after an abort.
        """
        deadline = Deadline(left_s, self._session.clock)
        outages, current = self._outages, self._current
        committed = [each for each in self._ended if each.is_committed]
        # Later offsets of a group are all that counts.
        groups = committed[-1].groups if committed else {}
        try:
            places = {message.place for each in self._ended for message in each.messages}
            if places or groups:
                self._end_open(places, {group: next(iter(offsets)) for group, offsets in groups.items()}, deadline)
            lost = [message for each in committed for message in self._find_lost(each, deadline)]
            behind = {group: offsets for group, offsets in groups.items() if self._is_behind(group, offsets)}
            if lost or behind:
                self._send_again(lost, behind, deadline)
        finally:
            self._current = current
        self._settled_outages = outages

    def _end_open(
        self, places: Collection[tuple[str, int]], groups: Mapping[str, TopicPartition], deadline: Deadline
    ) -> None:
        """End as aborted what transactions that the broker calls complete left open.

        A producer's next marker in a partition ends all that it holds open there, so one more transaction is aborted
        that has a message in each. The broker takes its messages once it is done with the transaction before.
        """
        self._current, self._undelivered = _Transaction(), None
        self._client.begin_transaction()
        self._produce([_Message(topic, b"", b"", number, []) for topic, number in sorted(places)], deadline.left_s)
        for group, at in groups.items():
            # An offset that nobody will see.
            place = self._session.to_kafka(at, 0)
            self._send_offsets(group, [place], self._session.group_metadata(group), _time_for(deadline))
        undelivered = self._client.flush(_time_for(deadline))
        if self._undelivered is not None:
            raise KafkaException(self._undelivered)
        if undelivered:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        self._abandon(deadline)

    def _find_lost(self, transaction: _Transaction, deadline: Deadline) -> list[_Message]:
        """Return what a transaction committed in partitions where its last message cannot be read."""
        last = {message.place: message for message in transaction.messages}
        lost = {
            place
            for place, message in last.items()
            if not self._can_read(message, transaction.last_offsets.get(place, -1), deadline)
        }
        return [message for message in transaction.messages if message.place in lost]

    def _can_read(self, message: _Message, offset: int, deadline: Deadline) -> bool:
        session = self._session
        at = TopicPartition(session.names.plain(message.stored_topic), message.partition)
        (begin,) = session.offsets({at: EARLIEST}, "reading a first offset").values()
        if 0 <= offset < begin:
            # It could be read until it was removed.
            return True
        # The broker may have taken it before it went away and not have told its offset.
        behind = offset + 1
        if offset < 0:
            (behind,) = session.offsets({at: LATEST}, "reading an end offset", with_uncommitted=True).values()
        self._await_decided(at, behind, deadline)
        reader = KafkaConsumer(session, [at.topic], group=None, member_id=None, start="earliest", subscribes=False)
        try:
            reader.assign({at: max(offset, begin)})
            while reader.position(at) < behind:
                for record in reader.poll(_READ_MAX, _READ_MS):
                    if offset >= 0:
                        return record.offset == offset
                    found = record.key, record.value, list(record.headers.items())
                    if found == (message.key, message.value, message.headers):
                        return True
                if deadline.is_over:
                    raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            return False
        finally:
            reader.close()

    def _await_decided(self, at: TopicPartition, behind: int, deadline: Deadline) -> None:
        """Wait until no transaction is open before an offset: what this one left open has an end, others have theirs
        within their time limit."""
        while self._session.offsets({at: LATEST}, "reading an end offset")[at] < behind:
            if deadline.is_over:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            self._session.clock.sleep(_LOOK_EVERY_S)

    def _is_behind(self, group: str, offsets: Mapping[TopicPartition, int]) -> bool:
        found = self._session.committed(group, offsets)
        return any((found[at] or 0) < offset for at, offset in offsets.items())

    def _send_again(
        self, messages: list[_Message], groups: dict[str, dict[TopicPartition, int]], deadline: Deadline
    ) -> None:
        _logger.warning(
            "Kafka was killed before it had marked what %s had committed: %d records and the offsets of %d groups are "
            "sent again",
            self._name,
            len(messages),
            len(groups),
        )
        self._current = _Transaction(messages, {}, groups, is_committed=True)
        self._client.begin_transaction()
        self._produce(messages, deadline.left_s)
        for group, offsets in groups.items():
            places = [self._session.to_kafka(at, offset) for at, offset in offsets.items()]
            self._send_offsets(group, places, self._session.group_metadata(group), _time_for(deadline))
        self._client.commit_transaction(_time_for(deadline))
        self._ended.append(self._current)

    def _end_left_open(self, footprint: Footprint) -> None:
        """End as aborted what an earlier owner's transaction left open in every place: nobody has seen any of it."""
        session = self._session
        existing = session.counts()
        alone = [at for at in footprint.alone if session.names.stored(at.topic) in existing]
        readable = session.offsets(dict.fromkeys(alone, LATEST), "reading end offsets")
        written = session.offsets(dict.fromkeys(alone, LATEST), "reading end offsets", with_uncommitted=True)
        held = [at for at in alone if readable[at] < written[at]]
        if not held:
            return
        _logger.warning(
            "Kafka was killed before it had marked what %s had committed (%s/%d): it is done again",
            self._name,
            *held[0],
        )
        places = {
            (session.names.stored(at.topic), at.partition)
            for at in (*alone, *footprint.shared)
            if session.names.stored(at.topic) in existing
        }
        groups = dict.fromkeys(map(session.names.stored, footprint.groups), held[0])
        self._run(
            lambda left_s: self._end_open(places, groups, Deadline(left_s, session.clock)),
            "opening",
            on_broken=self._abandon,
        )


def _cause_of(error: KafkaException | SystemError) -> KafkaError:
    # The client raises an error that is final while it calls back, where another callback trips over it.
    found = error if isinstance(error, KafkaException) else error.__cause__
    if not isinstance(found, KafkaException):
        raise error
    cause: KafkaError = found.args[0]
    return cause


def _time_for(deadline: Deadline) -> float:
    # To the client 0 means: do not wait for an answer.
    return max(0.001, deadline.left_s)
