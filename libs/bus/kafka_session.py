"""What `KafkaBus` and its clients share: the address, names, partition counts, offset look-ups, errors."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, TypeVar

from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, KafkaError, KafkaException
from confluent_kafka import Consumer as KafkaClientConsumer
from confluent_kafka import TopicPartition as KafkaPlace
from confluent_kafka.admin import AdminClient

from libs.bus.api import (
    BusDenied,
    BusError,
    BusUnavailable,
    GroupMoved,
    ProducerFenced,
    TopicPartition,
    UnknownTopic,
    Waiting,
)
from libs.bus.checks import check_partition
from libs.bus.names import Names
from libs.bus.security import KafkaSecurity
from libs.clock import Clock, Deadline, Entropy

Answer = TypeVar("Answer")

ANSWER_TIMEOUT_S = 30.0
# In place of a time in milliseconds, to `KafkaSession.offsets`: what Kafka's ListOffsets request takes for them.
EARLIEST, LATEST = OFFSET_BEGINNING, OFFSET_END
_client_logger = logging.getLogger("confluent_kafka")
_RETRY_S = 0.02
_CONNECT_STEP_S = 0.5
_PING_TIMEOUT_S = 2.0

FENCED_CODES = {
    KafkaError._FENCED,
    KafkaError.INVALID_PRODUCER_EPOCH,
    KafkaError.PRODUCER_FENCED,
    KafkaError.INVALID_PRODUCER_ID_MAPPING,
}
UNKNOWN_TOPIC_CODES = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION}
_AWAY = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._RESOLVE,
    KafkaError.REQUEST_TIMED_OUT,
    KafkaError.KAFKA_STORAGE_ERROR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    # A commit that nobody answered is still under way.
    KafkaError._CONFLICT,
}
# What passes by itself: a broker that restarts, an offset in an undecided transaction, a coordinator that still loads.
SETTLING_CODES = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TIMED_OUT,
    KafkaError._MSG_TIMED_OUT,
    # What a transaction hears of whose messages were given up after too long a wait.
    KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.NETWORK_EXCEPTION,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    # "No leaders found": the broker is away when the client asks who leads.
    KafkaError._NOENT,
    # A broker that just started is left out of what it says of the cluster, and the client drops its connection.
    KafkaError._DESTROY_BROKER,
    KafkaError._WAIT_COORD,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
# The client asks again with the leader's epoch that it knows, until it has asked for the topics anew.
_STALE_LEADER_CODES = {
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.NOT_LEADER_FOR_PARTITION,
}
_DENIED_CODES = {
    KafkaError._AUTHENTICATION,
    KafkaError._SSL,
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
}
_REBALANCED = {
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError._ASSIGNMENT_LOST,
}


def explain(error: KafkaException | KafkaError, doing: str, bootstrap: str) -> BusError:
    cause: KafkaError = error.args[0] if isinstance(error, KafkaException) else error
    code, text = cause.code(), cause.str()
    if code in FENCED_CODES:
        return ProducerFenced(f"{doing}: a newer producer with the same id took over ({text}): stop this process")
    if code in UNKNOWN_TOPIC_CODES:
        return UnknownTopic(f"{doing}: no such topic or partition on Kafka at {bootstrap} ({text}): create it first")
    if code in _REBALANCED:
        return GroupMoved(
            f"{doing}: the group went on without this member ({text}): nothing was committed; "
            "abort, then poll for the new assignment or stop this process"
        )
    if code in _AWAY or code in SETTLING_CODES:
        return BusUnavailable(
            f"{doing}: Kafka at {bootstrap} does not answer or cannot write ({text}): check that the broker runs and "
            "has room on its disk"
        )
    return BusError(f"{doing}: Kafka at {bootstrap} refused ({text})")


def raise_first_error(places: Iterable[Any]) -> None:
    """Raise a `KafkaException` for the first of Kafka's answers that is an error."""
    for place in places:
        if place.error is not None:
            raise KafkaException(place.error)


class KafkaSession:
    """What the objects of one `KafkaBus` share: address, prefix, clock, admin client, counts of partitions."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        security: KafkaSecurity,
        waiting: Waiting,
        clock: Clock,
        entropy: Entropy,
    ) -> None:
        self.bootstrap = bootstrap
        self.clock = clock
        self.entropy = entropy
        self.names = Names(prefix)
        self.waiting = waiting
        self._denials: list[str] = []
        self._last_error = ""
        self.settings: dict[str, Any] = {
            **security.client_settings(),
            "bootstrap.servers": bootstrap,
            "error_cb": self.note_error,
            "socket.nagle.disable": True,
            "reconnect.backoff.max.ms": 1_000,
            # Critical ones alone: what fails is raised by the call that failed, and an outage would fill the log. They
            # go to the log of the process: by itself the client writes lines of its own form to stderr.
            "log_level": 2,
            "logger": _client_logger,
        }
        try:
            self.admin = AdminClient(self.settings)
        except (KafkaException, ValueError) as error:
            raise BusDenied(f"the settings for Kafka cannot be used ({error}): correct PERPFLOW_KAFKA_*") from error
        self._counts: dict[str, int] = {}
        self._lookup_clients: dict[tuple[str, str], KafkaClientConsumer] = {}

    def error(self, error: KafkaException | KafkaError, doing: str) -> BusError:
        return explain(error, doing, self.bootstrap)

    def note_error(self, error: KafkaError) -> None:
        """Keep what the client says of its connections, for the error of a call that fails."""
        self._last_error = error.str()
        # What a broker says to a certificate comes as a failed connection.
        if error.code() in _DENIED_CODES or "SSL routines" in self._last_error:
            self._denials.append(self._last_error)

    def connect(self, timeout_s: float) -> None:
        """Wait for the first answer. Raises `BusUnavailable`, or `BusDenied` as soon as the reason is known."""
        deadline = Deadline(timeout_s, self.clock)
        while True:
            try:
                self.counts(min(_CONNECT_STEP_S, deadline.left_s + 0.001))
                return
            except BusUnavailable as error:
                # Errors of a connection are told from here.
                self.admin.poll(0)
                # One alone may come of a broker that just starts or ends.
                if len(self._denials) > 1:
                    raise BusDenied(
                        f"Kafka at {self.bootstrap} and this client do not trust each other ({self._denials[-1]}): "
                        "check PERPFLOW_KAFKA_SECURITY_PROTOCOL, _SASL_MECHANISM, _USERNAME, _PASSWORD, _CA_FILE, "
                        "_CERTIFICATE_FILE and _KEY_FILE"
                    ) from None
                if deadline.is_over:
                    raise BusUnavailable(f"{error} (last: {self._last_error or 'no answer'})") from error

    def ping(self) -> None:
        """Ask for the topics. Raises `BusUnavailable`."""
        self.admin.poll(0)
        try:
            # Not `describe_cluster`: on a loaded machine processes were seen to abort in it (confluent-kafka 2.16.1).
            # Why is not known, nor whether this call is spared; none was seen to abort since.
            self.admin.list_topics(timeout=_PING_TIMEOUT_S)
        except KafkaException as error:
            raise self.error(error, "asking for an answer") from error

    def counts(self, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, int]:
        """Ask for every topic of the prefix whose partitions all have a leader, by its stored name."""
        try:
            with self.waiting():
                found = self.admin.list_topics(timeout=timeout_s).topics
        except KafkaException as error:
            raise self.error(error, "listing topics") from error
        self._counts = {
            name: len(topic.partitions)
            for name, topic in found.items()
            if self.names.has(name)
            and not name.startswith("__")
            and topic.partitions
            and all(each.leader >= 0 for each in topic.partitions.values())
        }
        return self._counts

    def count(self, topic: str) -> int:
        stored = self.names.stored(topic)
        known = self._counts.get(stored)
        if known is None:
            known = self.counts().get(stored)
        if known is None:
            raise UnknownTopic(f"topic {stored} does not exist on Kafka at {self.bootstrap}: create it first")
        return known

    def to_kafka(self, at: TopicPartition, offset: int | None = None) -> Any:
        count = self.count(at.topic)
        check_partition(at, count)
        stored = self.names.stored(at.topic)
        return KafkaPlace(stored, at.partition) if offset is None else KafkaPlace(stored, at.partition, offset)

    def from_kafka(self, at: Any) -> TopicPartition:
        return TopicPartition(self.names.plain(at.topic), at.partition)

    def message_from_kafka(self, message: Any) -> TopicPartition:
        return TopicPartition(self.names.plain(message.topic()), message.partition())

    def offsets(
        self, wanted: Mapping[TopicPartition, int], doing: str, *, with_uncommitted: bool = False
    ) -> dict[TopicPartition, int]:
        """Look up the first offset at or after a time in milliseconds (-1: there is none), `EARLIEST` or `LATEST`."""
        if not wanted:
            return {}
        request = [self.to_kafka(at, time_ms) for at, time_ms in wanted.items()]
        # Not the admin client's `list_offsets`, which aborts the process at times while a partition has no leader.
        client = self._lookup_client("", "read_uncommitted" if with_uncommitted else "read_committed")

        def ask() -> dict[TopicPartition, int]:
            found = client.offsets_for_times(request, timeout=ANSWER_TIMEOUT_S)
            raise_first_error(found)
            offsets = {self.from_kafka(at): at.offset for at in found}
            if any(offset < 0 and wanted[at] < 0 for at, offset in offsets.items()):
                raise KafkaException(KafkaError(KafkaError.OFFSET_NOT_AVAILABLE))
            return offsets

        # `to_kafka` found them: a client that asks a broker which just started, or is away, may know of no partition.
        try:
            return self.settle(ask, doing, also=UNKNOWN_TOPIC_CODES)
        except UnknownTopic as error:
            raise BusUnavailable(
                f"{doing}: Kafka at {self.bootstrap} does not answer for partitions that it had before: "
                "check that the broker runs"
            ) from error

    def require_leaders(self, places: Iterable[TopicPartition]) -> None:
        """Ask anew who leads. Raises, where a topic lacks a leader, a `KafkaException` that `settle` waits for."""
        known = self.counts()
        if any(self.names.stored(at.topic) not in known for at in places):
            raise KafkaException(KafkaError(KafkaError.LEADER_NOT_AVAILABLE))

    def committed(
        self, stored_group: str, places: Iterable[TopicPartition], member: KafkaClientConsumer | None = None
    ) -> dict[TopicPartition, int | None]:
        """Ask for a group's offsets, through a client of the group where there is one."""
        request = [self.to_kafka(at) for at in places]
        if not request:
            return {}
        client = self._lookup_client(stored_group) if member is None else member

        def ask() -> dict[TopicPartition, int | None]:
            found = client.committed(request, timeout=ANSWER_TIMEOUT_S)
            raise_first_error(found)
            return {self.from_kafka(at): at.offset if at.offset >= 0 else None for at in found}

        return self.settle(ask, f"reading the offsets of group {stored_group}")

    def group_metadata(self, stored_group: str) -> Any:
        """Return what a transaction needs to commit offsets for a group that assigns its partitions itself."""
        return self._lookup_client(stored_group).consumer_group_metadata()

    def await_group(self, stored_group: str, place: Any) -> None:
        """Wait until a group's coordinator answers, about some place."""
        # Offsets in an undecided transaction are passed over.
        client = self._lookup_client(stored_group, "read_uncommitted")
        self.settle(
            lambda: raise_first_error(client.committed([place], timeout=ANSWER_TIMEOUT_S)),
            f"asking for group {stored_group}",
        )

    def _lookup_client(self, stored_group: str, isolation: str = "read_committed") -> KafkaClientConsumer:
        # A consumer that never subscribes, so never a member. The admin client's calls for the same abort the process:
        # a group's offsets when its coordinator moves or still loads
        # (https://github.com/confluentinc/librdkafka/issues/5040), a partition's when nobody leads it.
        client = self._lookup_clients.get((stored_group, isolation))
        if client is None:
            client = self._lookup_clients[stored_group, isolation] = KafkaClientConsumer(
                {
                    # Nobody polls it, so nobody would take its errors.
                    **{name: value for name, value in self.settings.items() if name != "error_cb"},
                    # The client insists on a name.
                    "group.id": stored_group or self.names.stored("ungrouped"),
                    # Of a group: offsets in an undecided transaction are waited for, not passed over. Of a partition:
                    # its end is the last stable offset, or the high watermark where the level is "read_uncommitted".
                    "isolation.level": isolation,
                    "enable.auto.commit": False,
                }
            )
        return client

    def close(self) -> None:
        """Close what was opened here. The admin client has no close; it goes with this object, idle by then."""
        for client in self._lookup_clients.values():
            client.close()
        self._lookup_clients.clear()

    def settle(self, ask: Callable[[], Answer], doing: str, also: Collection[int] = ()) -> Answer:
        """Ask again, for at most `ANSWER_TIMEOUT_S`, while the error is one that passes or has a code in `also`."""
        deadline = Deadline(ANSWER_TIMEOUT_S, self.clock)
        while True:
            try:
                with self.waiting():
                    return ask()
            except KafkaException as error:
                code = error.args[0].code()
                if not (code in SETTLING_CODES or code in also) or deadline.is_over:
                    raise self.error(error, doing) from error
            if code in _STALE_LEADER_CODES:
                self.counts()
            self.clock.sleep(_RETRY_S)

    def await_topics(self, is_settled: Callable[[Mapping[str, int]], bool], doing: str) -> None:
        for _ in Deadline(ANSWER_TIMEOUT_S, self.clock).attempts(_RETRY_S):
            if is_settled(self.counts()):
                return
        raise BusUnavailable(f"{doing}: Kafka at {self.bootstrap} took longer than {ANSWER_TIMEOUT_S:.0f} s")
