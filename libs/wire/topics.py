"""The registry of what flows where. Topic creation, the architecture test and the README picture come from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

MARKET_EVENTS = "market.events.v1"
BARS_CLOSED = "bars.closed.v1"
FEATURE_VECTORS = "features.vectors.v1"
FORECASTS = "inference.forecasts.v1"
INTENTS = "strategy.intents.v1"
VERDICTS = "risk.verdicts.v1"
COMMANDS = "execution.commands.v1"
REPORTS = "execution.reports.v1"
VENUE_CALLS = "execution.calls.v1"
OUTBOX_INPUTS = "execution.answers.v1"
ORDERS = "execution.orders.v1"
ACCOUNTS = "execution.accounts.v1"
CONTROL_COMMANDS = "control.commands.v1"
CONTROL_STATES = "control.states.v1"
ALERTS = "ops.alerts.v1"
AUDIT = "ops.audit.v1"

KeyKind = Literal["instrument", "account", "service", "partition", "as source"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic: what it carries, for how long, who writes it and who reads it.

    `retention_ms` 0 keeps for ever. `kinds` are the record kinds that may appear. With `may_repeat` a producer is
    at-least-once, so that readers must drop repeated event ids.
    """

    name: str
    message: str
    kinds: tuple[str, ...]
    key: KeyKind
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    retention_ms: int
    is_compacted: bool = False
    may_repeat: bool = False


MARKET_KINDS = (
    "trade",
    "depth_snapshot",
    "depth_delta",
    "best_quote",
    "mark_price",
    "funding_settled",
    "open_interest",
    "liquidation",
    "exchange_bar",
    "clock_tick",
)

# Services with a core behind the shell, in the order in which events flow; each has a journal and a state topic.
CORE_SERVICES = ("bars", "features", "inference", "strategy", "risk", "execution")
# Execution's second core, in a process of its own where the venue is a real one; it alone holds the venue's key.
OUTBOX = "outbox"
CORES = (*CORE_SERVICES, OUTBOX)

_DATA_TOPICS = (
    Topic(
        MARKET_EVENTS,
        "perpflow.market.v1.MarketEvent",
        MARKET_KINDS,
        "instrument",
        ("ingestion",),
        ("bars", "risk", "execution", "recorder", "monitoring"),
        7 * DAY_MS,
    ),
    Topic(
        BARS_CLOSED,
        "perpflow.market.v1.Bar",
        ("bar",),
        "instrument",
        ("bars",),
        ("features", "strategy", "risk", "recorder", "monitoring"),
        90 * DAY_MS,
    ),
    Topic(
        FEATURE_VECTORS,
        "perpflow.features.v1.FeatureVector",
        ("feature_vector",),
        "instrument",
        ("features",),
        ("inference", "recorder"),
        30 * DAY_MS,
        may_repeat=True,
    ),
    Topic(
        FORECASTS,
        "perpflow.inference.v1.Forecast",
        ("forecast",),
        "instrument",
        ("inference",),
        ("strategy", "risk", "recorder", "monitoring"),
        90 * DAY_MS,
    ),
    Topic(
        INTENTS,
        "perpflow.strategy.v1.OrderIntent",
        ("order_intent",),
        "account",
        ("strategy",),
        ("risk", "recorder"),
        0,
    ),
    Topic(
        VERDICTS,
        "perpflow.risk.v1.Verdict",
        ("order_approved", "order_refused"),
        "account",
        ("risk",),
        ("execution", "strategy", "recorder", "monitoring"),
        0,
    ),
    Topic(
        COMMANDS,
        "perpflow.execution.v1.Command",
        ("place_order", "cancel_order"),
        "account",
        ("execution",),
        ("execution", OUTBOX, "recorder"),
        0,
    ),
    Topic(
        VENUE_CALLS,
        "perpflow.execution.v1.VenueCall",
        ("venue_call",),
        "account",
        (OUTBOX,),
        (),
        90 * DAY_MS,
    ),
    Topic(
        OUTBOX_INPUTS,
        "perpflow.execution.v1.OutboxInput",
        ("venue_answer", "venue_tick"),
        "account",
        (OUTBOX,),
        (OUTBOX,),
        90 * DAY_MS,
    ),
    Topic(
        REPORTS,
        "perpflow.execution.v1.VenueReport",
        ("venue_report", "venue_account"),
        "account",
        ("execution", OUTBOX),
        ("execution", "recorder"),
        0,
    ),
    Topic(
        ORDERS,
        "perpflow.execution.v1.OrderEvent",
        ("order_event",),
        "account",
        ("execution",),
        ("strategy", "risk", "recorder", "monitoring"),
        0,
    ),
    Topic(
        ACCOUNTS,
        "perpflow.execution.v1.AccountState",
        ("account_state",),
        "account",
        ("execution",),
        ("strategy", "risk", "recorder", "monitoring"),
        0,
        is_compacted=True,
    ),
    Topic(
        CONTROL_COMMANDS,
        "perpflow.control.v1.ControlCommand",
        ("control_command",),
        "account",
        ("monitoring", "console", "risk"),
        ("risk", "execution", OUTBOX, "recorder", "monitoring"),
        0,
    ),
    Topic(
        CONTROL_STATES,
        "perpflow.control.v1.ControlState",
        ("control_state",),
        "account",
        ("risk",),
        ("execution", OUTBOX, "recorder", "monitoring"),
        0,
        is_compacted=True,
    ),
    Topic(
        ALERTS,
        "perpflow.control.v1.Alert",
        ("alert",),
        "service",
        ("risk", "execution", OUTBOX, "monitoring"),
        ("recorder", "monitoring"),
        30 * DAY_MS,
    ),
    Topic(
        AUDIT,
        "perpflow.control.v1.AuditEntry",
        ("audit_entry",),
        "service",
        ("monitoring",),
        ("recorder", "monitoring"),
        0,
    ),
)


def journal_topic(service: str) -> str:
    """Name the topic that holds the order in which a service consumed its inputs."""
    return f"journal.{service}.v1"


def state_topic(service: str) -> str:
    """Name the compacted topic that holds a service's snapshots."""
    return f"state.{service}.v1"


def dead_topic(source: str) -> str:
    """Name the topic of what could not be decoded or handled from `source`."""
    return f"dead.{source}"


def _journal(service: str) -> Topic:
    return Topic(
        journal_topic(service),
        "perpflow.runtime.v1.JournalEntry",
        ("journal_entry",),
        "partition",
        (service,),
        (service, "recorder"),
        0,
    )


def _state(service: str, message: str, kind: str) -> Topic:
    return Topic(state_topic(service), message, (kind,), "partition", (service,), (service,), 0, is_compacted=True)


def _dead(source: Topic) -> Topic:
    return Topic(
        dead_topic(source.name),
        "perpflow.runtime.v1.DeadLetter",
        ("dead_letter",),
        "as source",
        source.consumers if source.name != MARKET_EVENTS else ("ingestion", *source.consumers),
        ("recorder", "monitoring"),
        0,
    )


TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (
        *_DATA_TOPICS,
        *(_journal(service) for service in CORES),
        *(_state(service, "perpflow.runtime.v1.CoreSnapshot", "core_snapshot") for service in CORES),
        _state("ingestion", "perpflow.runtime.v1.SourceCursor", "source_cursor"),
        *(_dead(topic) for topic in _DATA_TOPICS),
    )
}
"""Every topic by name."""

DATA_TOPICS: tuple[str, ...] = tuple(topic.name for topic in _DATA_TOPICS)
RECORDED_TOPICS: tuple[str, ...] = tuple(name for name, topic in TOPICS.items() if "recorder" in topic.consumers)
"""What the recorder keeps: everything but the snapshots, which only their own service can read."""
