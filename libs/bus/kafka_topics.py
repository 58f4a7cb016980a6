"""Topics on Kafka: how they are created, what an existing one must not do by itself, and how records are removed.

The broker removes nothing: one retention pass for every bus decides what nobody needs any more, and a broker that
compacts or expires a topic on its own schedule would take what a journal still names.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic, ResourceType

from libs.bus.api import BusError, TopicPartition, TopicSpec
from libs.bus.errors import past_the_end
from libs.bus.kafka_session import ANSWER_TIMEOUT_S, UNKNOWN_TOPIC_CODES, KafkaSession
from libs.bus.replication import Replication

# State snapshots may be larger than Kafka's megabyte.
LONGEST_MESSAGE_BYTES = 16 << 20
_KEEPS_EVERYTHING = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
# The broker frees a segment once all of it was removed: small ones let the disk follow the retention pass.
_SEGMENTS = {"segment.bytes": str(64 << 20), "segment.ms": str(6 * 3_600_000)}

_logger = logging.getLogger(__name__)


def new_topic(name: str, spec: TopicSpec, replication: Replication) -> Any:
    """Describe a topic to create."""
    settings = {
        **_KEEPS_EVERYTHING,
        **_SEGMENTS,
        "max.message.bytes": str(LONGEST_MESSAGE_BYTES),
        "message.timestamp.type": "LogAppendTime",
    }
    if replication.min_in_sync:
        settings["min.insync.replicas"] = str(replication.min_in_sync)
    # -1: the cluster's own default replication factor, 1 on a single node.
    return NewTopic(name, num_partitions=spec.partitions, replication_factor=replication.factor or -1, config=settings)


def keep_everything(session: KafkaSession, names: Collection[str]) -> None:
    """Stop the broker from compacting or expiring topics, by stored name.

    Earlier versions created some as compacted. Raises `BusError` that names the topic where the broker refuses.
    """
    if not names:
        return
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in sorted(names)]
    changes = []
    for resource, future in session.admin.describe_configs(resources, request_timeout=ANSWER_TIMEOUT_S).items():
        try:
            found = future.result()
        except KafkaException as error:
            raise session.error(error, f"reading the settings of topic {resource.name}") from error
        wrong = {name: want for name, want in _KEEPS_EVERYTHING.items() if found[name].value != want}
        if wrong:
            was = ", ".join(f"{name}={found[name].value}" for name in wrong)
            _logger.warning("topic %s would lose records (%s): it now keeps everything", resource.name, was)
            entries = [
                ConfigEntry(name, want, incremental_operation=AlterConfigOpType.SET) for name, want in wrong.items()
            ]
            changes.append(ConfigResource(ResourceType.TOPIC, resource.name, incremental_configs=entries))
    if not changes:
        return
    altered = session.admin.incremental_alter_configs(changes, request_timeout=ANSWER_TIMEOUT_S)
    for resource, future in altered.items():
        try:
            future.result()
        except KafkaException as error:
            raise BusError(
                f"topic {resource.name} loses records by the broker's own schedule, and that cannot be changed "
                f"({error.args[0].str()}): set {_KEEPS_EVERYTHING} on it, or use another topic prefix"
            ) from error


def delete_records(
    session: KafkaSession, offsets: Mapping[TopicPartition, int], ends: Mapping[TopicPartition, int]
) -> None:
    """Remove the records before an offset of each partition. Raises `BusError` for an offset past the end."""
    for at, offset in offsets.items():
        if offset > ends[at]:
            raise past_the_end(at, offset, ends[at])
    places = [session.to_kafka(at, offset) for at, offset in offsets.items()]
    if not places:
        return

    def ask() -> None:
        # There is no other call for this, and the client asks for the leaders as in `list_offsets`, which aborts the
        # process at times where there are none: wait for them first.
        session.require_leaders(offsets)
        for future in session.admin.delete_records(places, request_timeout=ANSWER_TIMEOUT_S).values():
            future.result()

    session.settle(ask, "removing old records", also=UNKNOWN_TOPIC_CODES)
