"""What a shell says of a record's outcome: repeats and dead letters are counted, and the latter logged."""

from __future__ import annotations

import structlog

from libs.bus.api import Record
from libs.runtime.handler import Handled
from libs.runtime.metrics import ServiceMetrics


def note_outcome(
    record: Record, handled: Handled, service: str, metrics: ServiceMetrics, logger: structlog.stdlib.BoundLogger
) -> None:
    """Count a repeat and a dead letter, and log the latter."""
    if handled.is_repeat:
        metrics.duplicates.labels(service, record.topic).inc()
    if handled.dead is not None:
        metrics.dead_letters.labels(service, record.topic).inc()
        logger.error(
            "dead letter",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            key=record.key.decode(errors="replace"),
            event_id=handled.event_id,
            reason=handled.dead.reason,
        )
