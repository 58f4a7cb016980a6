"""The mock cluster inside librdkafka, for broker answers that a real broker gives only at rare moments.

It speaks Kafka's protocol on a port of its own. confluent-kafka does not expose it, hence ctypes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka

LIST_OFFSETS = 2
OFFSET_FETCH = 9
_PRODUCER = 0


class MockCluster:
    """Brokers 1 to N at `bootstrap`; topics are created by name at first use, with four partitions."""

    def __init__(self, library: ctypes.CDLL, handle: ctypes.c_void_p) -> None:
        self._library = library
        self._handle = handle
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        self.bootstrap: str = library.rd_kafka_mock_cluster_bootstraps(handle).decode()

    def create_topic(self, name: str, partitions: int = 1) -> None:
        """Create a topic, replicated on every broker."""
        assert self._library.rd_kafka_mock_topic_create(self._handle, name.encode(), partitions, 1) == 0

    def answer_with(self, api_key: int, codes: Sequence[int]) -> None:
        """Answer the next requests of that kind with these error codes, one each."""
        errors = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(
            self._handle, ctypes.c_int16(api_key), ctypes.c_size_t(len(codes)), errors
        )

    def answer_late(self, broker: int, delay_ms: int) -> None:
        """Hold back a broker's answers from now on."""
        assert self._library.rd_kafka_mock_broker_set_rtt(self._handle, broker, delay_ms) == 0

    def stop(self, broker: int) -> None:
        """Close a broker's connections and take no more."""
        assert self._library.rd_kafka_mock_broker_set_down(self._handle, broker) == 0

    def move_leader(self, topic: str, partition: int, broker: int) -> None:
        """Make another broker the leader, which begins a new leader epoch."""
        moved = self._library.rd_kafka_mock_partition_set_leader(self._handle, topic.encode(), partition, broker)
        assert moved == 0


@contextmanager
def a_mock_cluster(brokers: int = 1) -> Iterator[MockCluster]:
    """Run a mock cluster while the block lasts."""
    library = _load_library()
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_new.restype = ctypes.c_void_p
    reason = ctypes.create_string_buffer(512)
    client = ctypes.c_void_p(library.rd_kafka_new(_PRODUCER, None, reason, ctypes.c_size_t(len(reason))))
    assert client, reason.value.decode()
    cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(client, brokers))
    try:
        yield MockCluster(library, cluster)
    finally:
        library.rd_kafka_mock_cluster_destroy(cluster)
        library.rd_kafka_destroy(client)


def _load_library() -> ctypes.CDLL:
    folder = Path(confluent_kafka.__file__).parent
    found = [*folder.parent.glob("confluent_kafka.libs/librdkafka-*"), *folder.glob(".dylibs/librdkafka*")]
    return ctypes.CDLL(str(found[0]) if found else "librdkafka.so.1")
