"""The summary of a session, computed from its topics and tables: counts, latencies, digests, invariants."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from libs.bus.api import Bus, Record
from libs.domain.order_trail import OrderTrail
from libs.runtime.records import read_stamps, read_topic
from libs.runtime.snapshots import partitions_of
from libs.wire import DecodeError, decode, topics

DIGESTED = {
    "market_events": topics.MARKET_EVENTS,
    "bars": topics.BARS_CLOSED,
    "vectors": topics.FEATURE_VECTORS,
    "forecasts": topics.FORECASTS,
}
# Spread, their order is that of arrival; fused, they are the backtest's over the same market.
DECIDED = {
    "intents": topics.INTENTS,
    "verdicts": topics.VERDICTS,
    "commands": topics.COMMANDS,
    "reports": topics.REPORTS,
    "orders": topics.ORDERS,
    "accounts": topics.ACCOUNTS,
}
COUNTED = {**DIGESTED, "intents": topics.INTENTS, "verdicts": topics.VERDICTS}
# What says nothing of orders.
_UNNOTED = frozenset(DIGESTED.values())
# A hop is named by the topic it ends in: from the making of the input to the making of the output.
_HOPS = (
    topics.BARS_CLOSED,
    topics.FEATURE_VECTORS,
    topics.FORECASTS,
    topics.INTENTS,
    topics.VERDICTS,
    topics.COMMANDS,
    topics.REPORTS,
    topics.ORDERS,
)


def summarise_topics(bus: Bus) -> dict[str, Any]:
    """Read every recorded topic of a session and compute what its summary file says, tables left out.

    Counts and digests are of what the topics still hold; `first_offsets` says from where on that is, by
    TOPIC/PARTITION, for those whose first records have passed retention. Orders, fills and what the invariants compare
    lie in topics that are kept for ever, but for the account states, of which the last one counts.
    """
    begins = bus.beginning_offsets(partitions_of(bus, topics.RECORDED_TOPICS))
    rows: dict[str, int] = {}
    digests: dict[str, str] = {}
    latency: dict[str, Any] = {}
    trail = OrderTrail()
    names = {topic: name for name, topic in {**DIGESTED, **DECIDED}.items()}
    for topic in topics.RECORDED_TOPICS:
        kept: list[tuple[bytes, int, int, bytes]] | None = [] if topic in names else None
        delays: list[int] = []
        origins: list[int] = []
        count = 0
        for record in read_topic(bus, topic):
            count += 1
            stamps = read_stamps(record.headers)
            if stamps is not None and topic in _HOPS:
                delays.append(stamps.made_at - stamps.cause_made_at)
                origins.append(stamps.made_at - stamps.origin_made_at)
            if kept is not None:
                kept.append((record.key, record.partition, record.offset, record.value))
            if topic not in _UNNOTED:
                _note(trail, record)
        rows[topic] = count
        if kept is not None:
            digests[names[topic]] = _digest(topic, kept)
        if delays:
            latency[topic] = _percentiles(delays)
        if topic == topics.COMMANDS and origins:
            latency["end_to_end"] = _percentiles(origins)
    return {
        **{name: rows[topic] for name, topic in COUNTED.items()},
        "orders": len(trail.placed),
        "fills": trail.fills.total(),
        "dead_letters": sum(count for topic, count in rows.items() if topic.startswith("dead.")),
        "topics": rows,
        "first_offsets": {f"{at.topic}/{at.partition}": begin for at, begin in begins.items() if begin > 0},
        "latency_ms": latency,
        "digests": {name: digests[name] for name in DIGESTED},
        "decision_digests": {name: digests[name] for name in DECIDED},
        "invariants": _invariants(trail),
    }


def _digest(topic: str, kept: list[tuple[bytes, int, int, bytes]]) -> str:
    kept.sort(key=lambda entry: entry[:3])
    digest = hashlib.sha256()
    seen: set[str] = set()
    for _key, _partition, _offset, value in kept:
        try:
            event_id = decode(topic, value).event_id
        except DecodeError:
            event_id = value.hex()
        if event_id not in seen:
            seen.add(event_id)
            digest.update(value)
    return digest.hexdigest()


def _percentiles(delays_ns: list[int]) -> dict[str, float]:
    p50, p99 = np.percentile(np.asarray(delays_ns, dtype=np.float64) / 1e6, [50, 99])
    return {"p50": round(float(p50), 3), "p99": round(float(p99), 3), "count": len(delays_ns)}


def _note(trail: OrderTrail, record: Record) -> None:
    if record.topic not in topics.DATA_TOPICS:
        return
    try:
        event = decode(record.topic, record.value)
    except DecodeError:
        # Counted as a row; the services have dead-lettered it with its reason.
        return
    trail.take(event)


def _invariants(trail: OrderTrail) -> dict[str, int]:
    return {
        "intents_without_exactly_one_verdict": len(trail.unmatched_intents()),
        "approved_without_exactly_one_command": len(trail.unmatched_approvals()),
        "venue_orders_sent_twice": len(trail.repeated_orders()),
        "positions_unequal_to_sum_of_fills": len(trail.unequal_positions()),
        "fills_without_order": len(trail.fills_without_order()),
    }
