"""Waiting until every service has handled everything, and saying how far each one is behind."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from libs.bus.api import Bus, TopicPartition
from libs.runtime.records import read_range
from libs.wire.topics import RECORDED_TOPICS, TOPICS

GROUPS = ("bars", "features", "inference", "strategy", "risk", "execution", "recorder")
_QUIET_S = 0.4


def group_topics(group: str) -> Sequence[str]:
    """Return what a group reads, by the registry (a service's own journal is not read as input)."""
    if group == "recorder":
        return RECORDED_TOPICS
    return [
        name
        for name, topic in TOPICS.items()
        if group in topic.consumers and not name.startswith(("journal.", "state.", "dead."))
    ]


def read_lags(bus: Bus, groups: Sequence[str] = GROUPS) -> dict[str, int]:
    """Return for each group how many offsets it is behind."""
    partitions = bus.topics()
    wanted = {
        group: [
            TopicPartition(topic, number) for topic in group_topics(group) for number in range(partitions.get(topic, 0))
        ]
        for group in groups
    }
    ends = bus.end_offsets({where for each in wanted.values() for where in each})
    lags: dict[str, int] = {}
    for group, each in wanted.items():
        committed = bus.committed(group, each)
        begins = bus.beginning_offsets([where for where in each if committed[where] is None])
        lags[group] = sum(_behind(bus, where, committed[where], begins.get(where, 0), ends[where]) for where in each)
    return lags


def _behind(bus: Bus, where: TopicPartition, committed: int | None, begin: int, end: int) -> int:
    at = begin if committed is None else committed
    if at >= end:
        return 0
    if end - at <= 64:
        # The tail may be nothing but a log's own markers, which no reader ever sees.
        return sum(1 for _ in read_range(bus, where.topic, where.partition, at, end))
    return end - at


def wait_until_drained(
    bus: Bus,
    groups: Sequence[str],
    watch: Callable[[], None],
    on_lags: Callable[[Mapping[str, int]], None],
    timeout_s: float,
) -> bool:
    """Wait until no group has anything left to read for a moment; False when it took too long.

    `watch` is called all the while, to keep the processes alive.
    """
    deadline = time.monotonic() + timeout_s
    quiet_since: float | None = None
    while time.monotonic() < deadline:
        watch()
        lags = read_lags(bus, groups)
        on_lags(lags)
        now = time.monotonic()
        if any(lags.values()):
            quiet_since = None
        elif quiet_since is None:
            quiet_since = now
        elif now - quiet_since >= _QUIET_S:
            return True
        time.sleep(0.1)
    return False
