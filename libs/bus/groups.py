"""Shares a group's partitions out among its members: pure, so that every member finds the same answer alone."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from libs.bus.api import TopicPartition

# How long a static member's partitions wait for it after it has gone: the time a restart has, without a rebalance.
# Six seconds is also the least a Kafka broker allows by default (`group.min.session.timeout.ms`).
STATIC_MEMBER_GRACE_MS = 6_000


def share_partitions(
    members: Mapping[str, Collection[str]], partitions: Mapping[str, int]
) -> dict[str, frozenset[TopicPartition]]:
    """Give each member its partitions of the topics it subscribes: contiguous ranges per topic, members in name order.

    `members` maps member to topics, `partitions` maps topic to count. Like Kafka's range assignor, topics with equal
    counts are shared alike, so one member holds the same partition numbers of each.
    """
    shares: dict[str, set[TopicPartition]] = {member: set() for member in members}
    for topic, count in partitions.items():
        readers = sorted(member for member, topics in members.items() if topic in topics)
        if not readers:
            continue
        each, extra = divmod(count, len(readers))
        at = 0
        for place, reader in enumerate(readers):
            size = each + (1 if place < extra else 0)
            shares[reader].update(TopicPartition(topic, number) for number in range(at, at + size))
            at += size
    return {member: frozenset(share) for member, share in shares.items()}
