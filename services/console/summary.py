"""The summary of a session, computed from its topics and tables: counts, latencies, digests, invariants."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np

from libs.bus.api import Bus, Record
from libs.domain.accounts import AccountState, VenueAccount
from libs.domain.orders import (
    CancelOrder,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    OrderStatus,
    Origin,
    PlaceOrder,
    ReportKind,
    VenueReport,
)
from libs.runtime.records import read_stamps, read_topic
from libs.runtime.snapshots import partitions_of
from libs.wire import DecodeError, decode, topics

DIGESTED = {
    "market_events": topics.MARKET_EVENTS,
    "bars": topics.BARS_CLOSED,
    "vectors": topics.FEATURE_VECTORS,
    "forecasts": topics.FORECASTS,
}
COUNTED = {**DIGESTED, "intents": topics.INTENTS, "verdicts": topics.VERDICTS}
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


@dataclass(slots=True)
class _Trading:
    intents: Counter[str] = field(default_factory=Counter)
    verdicts: Counter[str] = field(default_factory=Counter)
    approved: Counter[str] = field(default_factory=Counter)
    commands: Counter[str] = field(default_factory=Counter)
    placed: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    venue_orders: dict[str, set[str]] = field(default_factory=dict)
    sides: dict[str, int] = field(default_factory=dict)
    fills: Counter[str] = field(default_factory=Counter)
    filled: dict[tuple[str, str], Decimal] = field(default_factory=dict)
    accounts: dict[str, AccountState] = field(default_factory=dict)
    taken_over: set[str] = field(default_factory=set)
    locally_rejected: set[str] = field(default_factory=set)


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
    trading = _Trading()
    names = {topic: name for name, topic in DIGESTED.items()}
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
            else:
                _note(trading, record)
        rows[topic] = count
        if kept is not None:
            digests[names[topic]] = _digest(topic, kept)
        if delays:
            latency[topic] = _percentiles(delays)
        if topic == topics.COMMANDS and origins:
            latency["end_to_end"] = _percentiles(origins)
    return {
        **{name: rows[topic] for name, topic in COUNTED.items()},
        "orders": len(trading.placed),
        "fills": sum(trading.fills.values()),
        "dead_letters": sum(count for topic, count in rows.items() if topic.startswith("dead.")),
        "topics": rows,
        "first_offsets": {f"{at.topic}/{at.partition}": begin for at, begin in begins.items() if begin > 0},
        "latency_ms": latency,
        "digests": digests,
        "invariants": _invariants(trading),
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


def _note(trading: _Trading, record: Record) -> None:
    if record.topic not in topics.DATA_TOPICS:
        return
    try:
        event = decode(record.topic, record.value)
    except DecodeError:
        # Counted as a row; the services have put it among the dead letters with its reason.
        return
    match event:
        case OrderIntent():
            trading.intents[event.event_id] += 1
        case OrderApproved():
            trading.approved[event.intent_id] += 1
            if event.origin is Origin.STRATEGY:
                trading.verdicts[event.intent_id] += 1
        case OrderRefused():
            trading.verdicts[event.intent_id] += 1
        case PlaceOrder():
            trading.commands[event.intent_id] += 1
            trading.placed[event.client_order_id] += 1
            trading.sides[event.client_order_id] = event.side.sign
        case CancelOrder():
            trading.commands[event.intent_id] += 1
        case VenueReport():
            _note_report(trading, event)
        case VenueAccount():
            _note_books(trading, event)
        case OrderEvent():
            if event.status is OrderStatus.REJECTED and not event.report_id:
                trading.locally_rejected.add(event.intent_id)
        case AccountState():
            trading.accounts[event.account] = event


def _note_report(trading: _Trading, report: VenueReport) -> None:
    if report.kind is ReportKind.ACCEPTED:
        trading.accepted[report.client_order_id] += 1
    if report.venue_order_id and report.kind is not ReportKind.CANCEL_REJECTED:
        trading.venue_orders.setdefault(report.client_order_id, set()).add(report.venue_order_id)
    if report.kind is ReportKind.FILL:
        assert report.last_quantity is not None
        trading.fills[report.client_order_id] += 1
        where = (report.account, report.instrument)
        signed = report.last_quantity * trading.sides.get(report.client_order_id, 0)
        trading.filled[where] = trading.filled.get(where, Decimal(0)) + signed


def _note_books(trading: _Trading, books: VenueAccount) -> None:
    # Fills add to what was taken over, at first and after a resume; all other books only confirm them.
    if books.account in trading.taken_over and not books.cause_id:
        return
    trading.taken_over.add(books.account)
    for where in [where for where in trading.filled if where[0] == books.account]:
        del trading.filled[where]
    for held in books.positions:
        trading.filled[books.account, held.instrument] = held.quantity


def _invariants(trading: _Trading) -> dict[str, int]:
    positions = {
        (account, held.instrument): held.quantity
        for account, state in trading.accounts.items()
        for held in state.positions
    }
    # A halt that overtakes an approval on its way: execution rejects the order itself and sends nothing.
    sent = {
        name: count
        for name, count in trading.approved.items()
        if name in trading.commands or name not in trading.locally_rejected
    }
    return {
        "intents_without_exactly_one_verdict": _unmatched(trading.intents, trading.verdicts),
        "approved_without_exactly_one_command": _unmatched(sent, trading.commands),
        "venue_orders_sent_twice": sum(1 for count in trading.placed.values() if count > 1)
        + sum(1 for count in trading.accepted.values() if count > 1)
        + sum(1 for ids in trading.venue_orders.values() if len(ids) > 1),
        "positions_unequal_to_sum_of_fills": sum(
            1
            for where in {*positions, *trading.filled}
            if positions.get(where, Decimal(0)) != trading.filled.get(where, Decimal(0))
        ),
        "fills_without_order": sum(1 for order in trading.fills if order not in trading.placed),
    }


def _unmatched(asked: Mapping[str, int], answered: Mapping[str, int]) -> int:
    return sum(1 for name in {*asked, *answered} if asked.get(name, 0) != 1 or answered.get(name, 0) != 1)
