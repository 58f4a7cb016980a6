"""Which pair of functions reads and writes which topic, and what a record's kind is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from libs.domain.accounts import AccountState, VenueAccount
from libs.domain.bars import Bar
from libs.domain.control import Alert, AuditEntry, ControlCommand, ControlState
from libs.domain.events import Event
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast
from libs.domain.orders import (
    CancelOrder,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    PlaceOrder,
    VenueReport,
)
from libs.domain.venues import VenueAnswer, VenueCall, VenueTick
from libs.wire import topics
from libs.wire.control import (
    decode_alert,
    decode_audit_entry,
    decode_control_command,
    decode_control_state,
    encode_alert,
    encode_audit_entry,
    encode_control_command,
    encode_control_state,
)
from libs.wire.errors import DecodeError, EncodeError
from libs.wire.market import MARKET_KIND, decode_bar, decode_market_event, encode_bar, encode_market_event
from libs.wire.records import (
    decode_core_snapshot,
    decode_dead_letter,
    decode_journal_entry,
    decode_source_cursor,
)
from libs.wire.signals import (
    decode_feature_vector,
    decode_forecast,
    encode_feature_vector,
    encode_forecast,
)
from libs.wire.trading import (
    decode_account_state,
    decode_command,
    decode_order_event,
    decode_order_intent,
    decode_report,
    decode_verdict,
    encode_account_state,
    encode_command,
    encode_order_event,
    encode_order_intent,
    encode_venue_account,
    encode_venue_report,
    encode_verdict,
)
from libs.wire.venues import decode_outbox_input, decode_venue_call, encode_outbox_input, encode_venue_call


@dataclass(frozen=True, slots=True)
class Encoded:
    """An event ready for the bus."""

    topic: str
    key: bytes
    payload: bytes
    kind: str


# Type to topic, kind, attribute that keys it, writer.
_WRITERS: dict[type, tuple[str, str, str, Callable[[Any], bytes]]] = {
    **{kind: (topics.MARKET_EVENTS, name, "instrument", encode_market_event) for kind, name in MARKET_KIND.items()},
    Bar: (topics.BARS_CLOSED, "bar", "instrument", encode_bar),
    FeatureVector: (topics.FEATURE_VECTORS, "feature_vector", "instrument", encode_feature_vector),
    Forecast: (topics.FORECASTS, "forecast", "instrument", encode_forecast),
    OrderIntent: (topics.INTENTS, "order_intent", "account", encode_order_intent),
    OrderApproved: (topics.VERDICTS, "order_approved", "account", encode_verdict),
    OrderRefused: (topics.VERDICTS, "order_refused", "account", encode_verdict),
    PlaceOrder: (topics.COMMANDS, "place_order", "account", encode_command),
    CancelOrder: (topics.COMMANDS, "cancel_order", "account", encode_command),
    VenueReport: (topics.REPORTS, "venue_report", "account", encode_venue_report),
    VenueAccount: (topics.REPORTS, "venue_account", "account", encode_venue_account),
    VenueCall: (topics.VENUE_CALLS, "venue_call", "account", encode_venue_call),
    VenueAnswer: (topics.OUTBOX_INPUTS, "venue_answer", "account", encode_outbox_input),
    VenueTick: (topics.OUTBOX_INPUTS, "venue_tick", "account", encode_outbox_input),
    OrderEvent: (topics.ORDERS, "order_event", "account", encode_order_event),
    AccountState: (topics.ACCOUNTS, "account_state", "account", encode_account_state),
    ControlCommand: (topics.CONTROL_COMMANDS, "control_command", "account", encode_control_command),
    ControlState: (topics.CONTROL_STATES, "control_state", "account", encode_control_state),
    Alert: (topics.ALERTS, "alert", "service", encode_alert),
    AuditEntry: (topics.AUDIT, "audit_entry", "service", encode_audit_entry),
}

_READERS: dict[str, Callable[[bytes], Event]] = {
    topics.MARKET_EVENTS: decode_market_event,
    topics.BARS_CLOSED: decode_bar,
    topics.FEATURE_VECTORS: decode_feature_vector,
    topics.FORECASTS: decode_forecast,
    topics.INTENTS: decode_order_intent,
    topics.VERDICTS: decode_verdict,
    topics.COMMANDS: decode_command,
    topics.REPORTS: decode_report,
    topics.VENUE_CALLS: decode_venue_call,
    topics.OUTBOX_INPUTS: decode_outbox_input,
    topics.ORDERS: decode_order_event,
    topics.ACCOUNTS: decode_account_state,
    topics.CONTROL_COMMANDS: decode_control_command,
    topics.CONTROL_STATES: decode_control_state,
    topics.ALERTS: decode_alert,
    topics.AUDIT: decode_audit_entry,
}


def encode(event: Event) -> Encoded:
    """Write an event for its topic. Raises `EncodeError` for an unknown type or a number that does not fit."""
    writer = _WRITERS.get(type(event))
    if writer is None:
        raise EncodeError(f"no topic carries {type(event).__name__}")
    topic, kind, key_attribute, write = writer
    key: str = getattr(event, key_attribute)
    return Encoded(topic, key.encode(), write(event), kind)


def topic_of(kind: type) -> str:
    """Return the topic that carries a type of event."""
    return _WRITERS[kind][0]


def decode(topic: str, payload: bytes) -> Event:
    """Read a payload of a data topic. Raises `DecodeError`."""
    reader = _READERS.get(topic)
    if reader is None:
        raise DecodeError(f"topic {topic!r} carries no event; known: {', '.join(sorted(_READERS))}")
    return reader(payload)


def decode_any(topic: str, payload: bytes) -> Any:
    """Read a payload of any topic of the registry, the shell's own messages included. Raises `DecodeError`."""
    if topic in _READERS:
        return _READERS[topic](payload)
    if topic.startswith("dead."):
        return decode_dead_letter(payload)
    if topic.startswith("journal."):
        return decode_journal_entry(payload)
    if topic == topics.state_topic("ingestion"):
        return decode_source_cursor(payload)
    if topic.startswith("state."):
        return decode_core_snapshot(payload)
    raise DecodeError(f"topic {topic!r} is not in the registry")
