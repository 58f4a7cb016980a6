"""On how many brokers a new topic's records are kept, as a value handed down."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Replication:
    """For topics that are created; 0 is the cluster's own default. With fewer than `min_in_sync` brokers that have a
    record nothing is acknowledged, and services wait."""

    factor: int = 0
    min_in_sync: int = 0
