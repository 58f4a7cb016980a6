"""Reads Kafka: committed records only, positions kept here exactly, membership of a group by the classic protocol."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer as KafkaClientConsumer
from confluent_kafka import KafkaError, KafkaException

from libs.bus.api import Record, Start, TopicPartition
from libs.bus.checks import check_assigned, check_group, check_member, check_open
from libs.bus.errors import offset_gone
from libs.bus.groups import STATIC_MEMBER_GRACE_MS
from libs.bus.kafka_session import ANSWER_TIMEOUT_S, EARLIEST, LATEST, KafkaSession, raise_first_error
from libs.clock import Deadline

_HEARTBEAT_MS = 1_000
_LONGEST_CALL_S = 1.0


class KafkaConsumer:
    """A reader of Kafka. Its first assignment comes with the first polls, not with its opening.

    A transaction ends in a marker that takes an offset of its own: `position` passes it when the end of the partition
    is reached, so that a reader that has read everything stands at the end offset.
    """

    def __init__(
        self,
        session: KafkaSession,
        topics: Sequence[str],
        *,
        group: str | None,
        member_id: str | None,
        start: Start,
        subscribes: bool,
    ) -> None:
        check_member(group, member_id)
        for topic in topics:
            session.count(topic)
        self._session = session
        self._group = group
        self._member = member_id
        self._start: Start = start
        self._shares = group is not None and subscribes
        self._has_share = False
        self.is_closed = False
        self._positions: dict[TopicPartition, int] = {}
        settings = {
            **session.settings,
            # The client insists on a name; without a group nothing is ever committed under it.
            "group.id": session.names.stored(group)
            if group is not None
            else f"ungrouped-{session.entropy.token_hex(8)}",
            # The newer protocol (KIP-848) refuses a restarted static member until its session ends.
            "group.protocol": "classic",
            "partition.assignment.strategy": "range",
            "session.timeout.ms": STATIC_MEMBER_GRACE_MS,
            "heartbeat.interval.ms": _HEARTBEAT_MS,
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            # Every position is given: one that the broker no longer holds is an error, never a silent jump.
            "auto.offset.reset": "error",
            "allow.auto.create.topics": False,
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 100,
            "fetch.error.backoff.ms": 20,
            "fetch.queue.backoff.ms": 10,
            "queued.max.messages.kbytes": 32_768,
        }
        if member_id is not None:
            settings["group.instance.id"] = session.names.stored(member_id)
        self._client = KafkaClientConsumer(settings)
        if self._shares:
            self._client.subscribe(
                [session.names.stored(topic) for topic in topics],
                on_assign=self._on_assign,
                on_revoke=self._on_revoke,
                on_lost=self._on_lost,
            )

    def poll(self, max_records: int, timeout_ms: int) -> Sequence[Record]:
        self._require_open()
        deadline = Deadline(timeout_ms / 1000, self._session.clock)
        client, records = self._client, list[Record]()
        while True:
            is_last = deadline.is_over
            try:
                # `consume` waits until it is full: wait for one with `poll`, then take what has arrived with it.
                first = client.poll(min(deadline.left_s, _LONGEST_CALL_S))
                if first is not None:
                    self._take(first, records)
                    if max_records > 1:
                        for message in client.consume(max_records - 1, 0):
                            self._take(message, records)
            except KafkaException as error:
                raise self._session.error(error, f"reading by {self._who()}") from error
            if records or is_last:
                return records

    def _take(self, message: Any, records: list[Record]) -> None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:
                at = self._session.message_from_kafka(message)
                if at in self._positions:
                    self._positions[at] = max(self._positions[at], message.offset())
                return
            if error.code() == KafkaError._AUTO_OFFSET_RESET:
                at = self._session.message_from_kafka(message)
                raise offset_gone(at, self._positions.get(at, message.offset()))
            if error.retriable() and not error.fatal():
                return
            raise self._session.error(error, f"reading by {self._who()}")
        at = self._session.message_from_kafka(message)
        if at not in self._positions:
            return
        offset = message.offset()
        headers = message.headers()
        self._positions[at] = offset + 1
        records.append(
            Record(
                at.topic,
                at.partition,
                offset,
                message.key() or b"",
                message.value() or b"",
                {name: value or b"" for name, value in headers} if headers else {},
                message.timestamp()[1],
            )
        )

    def assign(self, positions: Mapping[TopicPartition, int]) -> None:
        places = [self._session.to_kafka(at, offset) for at, offset in positions.items()]
        try:
            if self._shares:
                self._client.unsubscribe()
                self._shares = False
            self._client.assign(places)
        except KafkaException as error:
            raise self._session.error(error, f"assigning to {self._who()}") from error
        self._positions = dict(positions)

    def seek(self, topic_partition: TopicPartition, offset: int) -> None:
        self._require_assigned(topic_partition)
        deadline = Deadline(ANSWER_TIMEOUT_S, self._session.clock)
        while True:
            try:
                self._client.seek(self._session.to_kafka(topic_partition, offset))
                break
            except KafkaException as error:
                # Right after an assignment the partition's fetcher is still starting.
                if error.args[0].code() != KafkaError._STATE or deadline.is_over:
                    raise self._session.error(error, f"seeking by {self._who()}") from error
                self._session.clock.sleep(0.005)
        self._positions[topic_partition] = offset

    def assignment(self) -> frozenset[TopicPartition]:
        return frozenset(self._positions)

    @property
    def has_share(self) -> bool:
        return self._has_share

    def position(self, topic_partition: TopicPartition) -> int:
        self._require_assigned(topic_partition)
        return self._positions[topic_partition]

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        self._require_group()
        places = [self._session.to_kafka(at, offset) for at, offset in offsets.items()]
        if not places:
            return

        def ask() -> None:
            raise_first_error(self._client.commit(offsets=places, asynchronous=False))

        # A coordinator that moves or loads refuses for a while; the same offsets may be committed again.
        self._session.settle(ask, f"committing by {self._who()}")

    @property
    def stored_group(self) -> str:
        """The stored name of its group. Raises `BusError` where it has none."""
        return self._session.names.stored(check_group(self._group))

    def group_metadata(self) -> Any:
        """Return what a transaction needs to commit offsets for this member."""
        self._require_group()
        return self._client.consumer_group_metadata()

    def close(self) -> None:
        if self.is_closed:
            return
        self.is_closed = True
        with self._session.waiting():
            self._close()

    def _close(self) -> None:
        if self._shares:
            # A share of partitions that arrives while the client closes can leave librdkafka waiting for ever: ask for
            # no more, and take what has already come, before closing.
            # A member that was fenced has failed for good and left nothing to ask for.
            with contextlib.suppress(KafkaException):
                self._client.unsubscribe()
                self._client.poll(0)
        self._client.close()

    def _on_assign(self, client: Any, places: list[Any]) -> None:
        session = self._session
        wanted = [session.from_kafka(place) for place in places]
        if self._group is None or self.is_closed:
            # A member that leaves may still be assigned its share; its client answers no question any more.
            return
        if not wanted:
            self._has_share = True
            return
        committed = session.committed(session.names.stored(self._group), wanted, client)
        where = EARLIEST if self._start == "earliest" else LATEST
        first = session.offsets({at: where for at, offset in committed.items() if offset is None}, "finding the start")
        self._positions = {at: first[at] if offset is None else offset for at, offset in committed.items()}
        client.assign([session.to_kafka(at, offset) for at, offset in self._positions.items()])
        self._has_share = True

    def _on_revoke(self, client: Any, _places: list[Any]) -> None:
        self._positions = {}
        self._has_share = False
        client.unassign()

    def _on_lost(self, client: Any, places: list[Any]) -> None:
        self._on_revoke(client, places)
        self._has_share = True

    def _require_assigned(self, topic_partition: TopicPartition) -> None:
        check_assigned(topic_partition, self._positions)

    def _require_open(self) -> None:
        check_open(self._group, is_closed=self.is_closed)

    def _require_group(self) -> None:
        self._require_open()
        check_group(self._group)

    def _who(self) -> str:
        return "a consumer without a group" if self._group is None else f"{self._member or 'a member'} of {self._group}"
