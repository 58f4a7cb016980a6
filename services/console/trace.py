"""`perpflow trace`: from a fill back to the ticks, by the ids that every message carries."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from libs.bus.api import Bus, Record
from libs.domain.bars import Bar
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast
from libs.domain.market import Trade
from libs.domain.numbers import from_e8
from libs.domain.orders import OrderApproved, OrderEvent, PlaceOrder, VenueReport
from libs.runtime.errors import BadInput
from libs.runtime.records import KIND, read_topic
from libs.runtime.snapshots import partitions_of
from libs.wire import DecodeError, decode, topics


@dataclass(frozen=True, slots=True)
class Link:
    """One step of the chain: the record and what it says."""

    step: str
    topic: str
    partition: int
    offset: int
    event: Any


@dataclass(slots=True)
class Chain:
    """The steps from an order back to its causes, and what is missing because it has passed retention, in words."""

    links: list[Link]
    missing: list[str] = field(default_factory=list)


def _events(
    bus: Bus, topic: str, is_wanted: Callable[[Record], bool] = lambda _record: True
) -> Iterator[tuple[Record, Any]]:
    for record in read_topic(bus, topic):
        if not is_wanted(record):
            continue
        try:
            yield record, decode(topic, record.value)
        except DecodeError:
            continue


def _find(bus: Bus, topic: str, step: str, is_wanted: Callable[[Any], bool]) -> list[Link]:
    return [
        Link(step, topic, record.partition, record.offset, event)
        for record, event in _events(bus, topic)
        if is_wanted(event)
    ]


def trace_order(bus: Bus, order_id: str) -> Chain:
    """Return the chain of an order, from its last fill back to the trades of the bar that led to it, as far as the
    topics still hold it.

    `order_id` is a client order id, a venue order id or an intent id. Raises `BadInput` naming some that exist.
    """
    commands = _find(bus, topics.COMMANDS, "command", lambda event: isinstance(event, PlaceOrder))
    orders = _find(bus, topics.ORDERS, "order", lambda _event: True)
    client_id = _client_order_id(order_id, commands, orders)
    command = next(link for link in commands if link.event.client_order_id == client_id)
    chain = [link for link in reversed(orders) if link.event.client_order_id == client_id]
    reports = _find(
        bus,
        topics.REPORTS,
        "report",
        lambda event: isinstance(event, VenueReport) and event.client_order_id == client_id,
    )
    chain += reversed(reports)
    chain.append(command)
    verdicts = _find(
        bus,
        topics.VERDICTS,
        "verdict",
        lambda event: isinstance(event, OrderApproved) and event.intent_id == command.event.intent_id,
    )
    chain += verdicts
    intents = _find(bus, topics.INTENTS, "intent", lambda event: event.event_id == command.event.intent_id)
    chain += intents
    found = Chain(chain)
    if intents:
        _add_causes(bus, found, set(intents[0].event.cause_ids))
    return found


def _client_order_id(order_id: str, commands: list[Link], orders: list[Link]) -> str:
    for link in (*orders, *commands):
        event: OrderEvent | PlaceOrder = link.event
        names = {event.client_order_id, event.intent_id, getattr(event, "venue_order_id", "")}
        if order_id and order_id in names:
            return event.client_order_id
    some = ", ".join(link.event.client_order_id for link in commands[-3:]) or "none yet"
    raise BadInput(f"no order {order_id!r} in this session; the last ones are {some}")


def _add_causes(bus: Bus, chain: Chain, cause_ids: set[str]) -> None:
    forecasts = _find(bus, topics.FORECASTS, "forecast", lambda event: event.event_id in cause_ids)
    vector_ids = cause_ids | {link.event.vector_id for link in forecasts if isinstance(link.event, Forecast)}
    vectors = _find(bus, topics.FEATURE_VECTORS, "vector", lambda event: event.event_id in vector_ids)
    bar_ids = cause_ids | {link.event.bar_id for link in vectors if isinstance(link.event, FeatureVector)}
    bars = _find(bus, topics.BARS_CLOSED, "bar", lambda event: event.event_id in bar_ids)
    chain.links += forecasts + vectors + bars
    trades = [link for bar in bars for link in _trades_of(bus, bar.event)]
    chain.links += trades
    steps = ((topics.FORECASTS, forecasts), (topics.FEATURE_VECTORS, vectors), (topics.BARS_CLOSED, bars))
    for topic, found in (*steps, (topics.MARKET_EVENTS, trades)):
        begin = _first_offset(bus, topic)
        if not found and begin > 0:
            chain.missing.append(f"what {topic} held before offset {begin} has passed retention")


def _first_offset(bus: Bus, topic: str) -> int:
    places = partitions_of(bus, [topic])
    return min(bus.beginning_offsets(places).values(), default=0)


def _trades_of(bus: Bus, bar: Bar) -> list[Link]:
    kinds = (b"trade", None)
    return [
        Link("trade", topics.MARKET_EVENTS, record.partition, record.offset, event)
        for record, event in _events(bus, topics.MARKET_EVENTS, lambda record: record.headers.get(KIND) in kinds)
        if isinstance(event, Trade)
        and event.instrument == bar.instrument
        and bar.open_time <= event.event_time < bar.close_time
    ]


def describe(link: Link) -> str:
    """Say in one line what a step of the chain was."""
    return describe_event(link.event)


def describe_event(event: Any) -> str:
    """Say in one line what an event of the chain of an order was."""
    match event:
        case OrderEvent():
            fill = f", {event.last_quantity} at {event.last_price}" if event.last_quantity else ""
            words = f"{event.status.name} {event.side.name} {event.quantity}".lower()
            return f"{words}{fill} ({event.client_order_id})"
        case VenueReport():
            return f"{event.kind.name.lower()} by the venue as {event.venue_order_id or '-'} {event.reason}".strip()
        case PlaceOrder():
            return (
                f"{event.order_type.name.lower()} {event.side.name.lower()} {event.quantity}, intent {event.intent_id}"
            )
        case OrderApproved():
            failed = sum(1 for check in event.checks if not check.has_passed)
            return f"approved under limits {event.limits_version}, {len(event.checks)} checks, {failed} failed"
        case Forecast():
            return (
                f"up {event.probability_up:.3f} flat {event.probability_flat:.3f} down {event.probability_down:.3f}, "
                f"{event.model_name} {event.model_version}, sha256 {event.model_sha256[:16]}"
            )
        case FeatureVector():
            return f"{event.known_count} of {len(event.values)} known, set {event.feature_set} {event.schema_hash[:12]}"
        case Bar():
            close, volume = from_e8(event.close_e8), from_e8(event.volume_e8)
            return f"{event.timeframe} close {close} volume {volume} ({event.event_id})"
        case Trade():
            return f"{from_e8(event.quantity_e8)} at {from_e8(event.price_e8)} ({event.event_id})"
        case _:
            return f"{event.side.name.lower()} {event.quantity} by {event.strategy}: {event.reason}"
