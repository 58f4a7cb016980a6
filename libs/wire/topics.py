"""The registry of what flows where: which types a topic carries, in which message, keyed by what, for whom.

Codecs, record kinds, topic creation, store tables and the README picture all come from it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from google.protobuf.message import Message

from libs.domain.accounts import AccountState, VenueAccount
from libs.domain.bars import Bar, BarRevision
from libs.domain.control import Alert, AuditEntry, ControlCommand, ControlState
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast
from libs.domain.market import (
    BestQuote,
    ClockTick,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    FundingSettled,
    Gap,
    LateTrade,
    Liquidation,
    MarkPrice,
    OpenInterest,
    OutsideReading,
    Trade,
)
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
from libs.schemas.perpflow.control.v1 import control_pb2
from libs.schemas.perpflow.execution.v1 import execution_pb2
from libs.schemas.perpflow.features.v1 import features_pb2
from libs.schemas.perpflow.inference.v1 import inference_pb2
from libs.schemas.perpflow.market.v1 import bar_pb2, market_pb2
from libs.schemas.perpflow.risk.v1 import risk_pb2
from libs.schemas.perpflow.runtime.v1 import runtime_pb2
from libs.schemas.perpflow.strategy.v1 import strategy_pb2
from libs.wire.checks import (
    check_bar,
    check_book,
    check_forecast,
    check_mark,
    check_open_interest,
    check_quote,
    check_reading,
    check_report,
    check_trade,
    check_vector,
    check_venue_account,
    check_venue_answer,
    check_venue_call,
)
from libs.wire.compiler import Check
from libs.wire.records import CoreSnapshot, DeadLetter, JournalEntry, SourceCursor

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS

MARKET_EVENTS = "market.events.v1"
BARS_CLOSED = "bars.closed.v1"
BARS_REVISED = "bars.revised.v1"
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

CONTROL_TOPICS = frozenset({CONTROL_COMMANDS, CONTROL_STATES})
"""What people and risk say about trading; it is handled before everything else."""

KeyKind = Literal["instrument", "account", "service", "partition", "as source"]

# Stands for the instrument in answers on the whole account.
WHOLE_ACCOUNT = "*"


class Carried(NamedTuple):
    """A type that a topic carries: what it must fulfil, which further texts must not be empty (ids, what keys it and
    times never may), which fields it implies.

    Its fields, its place in the proto message and its kind follow from the type; see `libs.wire.compiler`.
    """

    type: type
    check: Check | None = None
    required: tuple[str, ...] = ()
    fixed: Mapping[str, int | str] = {}

    @property
    def kind(self) -> str:
        """The record kind: the type's name in snake case."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.type.__name__).lower()


@dataclass(frozen=True, slots=True)
class TopicDeclaration:
    """One topic: what it carries, for how long, who writes it and who reads it.

    `optional` are consumers that read it only where their core asks for it.
    `retention_ms` is the least time that records are kept, 0 for ever; one that is still needed is kept longer (see
    `libs.runtime.retention`). With `may_repeat` a producer is at-least-once, so that readers must drop repeated event
    ids.
    """

    name: str
    schema: type[Message]
    carries: tuple[Carried, ...]
    key: KeyKind
    producers: tuple[str, ...]
    consumers: tuple[str, ...]
    retention_ms: int
    may_repeat: bool = False
    optional: tuple[str, ...] = ()

    @property
    def message(self) -> str:
        """The full name of the proto message."""
        return str(self.schema.DESCRIPTOR.full_name)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The record kinds that may appear."""
        return tuple(each.kind for each in self.carries)


# Services with a core behind the shell, in the order in which events flow; each has a journal and a state topic.
CORE_SERVICES = ("bars", "features", "inference", "strategy", "risk", "execution")
# Execution's second core, in a process of its own where the venue is a real one; it alone holds the venue's key.
OUTBOX = "outbox"
CORES = (*CORE_SERVICES, OUTBOX)
CASCADE_ORDER = ("risk", "execution", "bars", "features", "inference", "strategy")
"""Who handles an event first that several cores of one process read: risk knows a price before it judges by it."""
# Services that publish a source of market events and keep no core, but a cursor.
SOURCES = ("ingestion",)

_DATA_TOPICS = (
    TopicDeclaration(
        MARKET_EVENTS,
        market_pb2.MarketEvent,
        (
            Carried(Trade, check_trade),
            Carried(DepthSnapshot, check_book),
            Carried(DepthDelta, check_book),
            Carried(BestQuote, check_quote),
            Carried(MarkPrice, check_mark),
            Carried(FundingSettled, check_mark),
            Carried(OpenInterest, check_open_interest),
            Carried(Liquidation, check_trade),
            Carried(ExchangeBar, check_bar),
            Carried(ClockTick),
            Carried(Gap, required=("gap_id",)),
            Carried(LateTrade, check_trade, required=("gap_id",)),
            Carried(OutsideReading, check_reading, required=("series",)),
        ),
        "instrument",
        ("ingestion",),
        ("bars", "strategy", "risk", "execution", "recorder", "monitoring"),
        7 * DAY_MS,
        optional=("strategy",),
    ),
    TopicDeclaration(
        BARS_CLOSED,
        bar_pb2.Bar,
        (Carried(Bar, check_bar),),
        "instrument",
        ("bars",),
        ("features", "strategy", "risk", "recorder", "monitoring"),
        90 * DAY_MS,
    ),
    TopicDeclaration(
        BARS_REVISED,
        bar_pb2.BarRevision,
        (Carried(BarRevision, check_bar, required=("bar_id",)),),
        "instrument",
        ("bars",),
        ("recorder",),
        90 * DAY_MS,
    ),
    TopicDeclaration(
        FEATURE_VECTORS,
        features_pb2.FeatureVector,
        (Carried(FeatureVector, check_vector),),
        "instrument",
        ("features",),
        ("inference", "recorder"),
        30 * DAY_MS,
        may_repeat=True,
    ),
    TopicDeclaration(
        FORECASTS,
        inference_pb2.Forecast,
        (Carried(Forecast, check_forecast),),
        "instrument",
        ("inference",),
        ("strategy", "risk", "recorder", "monitoring"),
        90 * DAY_MS,
    ),
    TopicDeclaration(
        INTENTS,
        strategy_pb2.OrderIntent,
        (Carried(OrderIntent),),
        "account",
        ("strategy",),
        ("risk", "recorder"),
        0,
    ),
    TopicDeclaration(
        VERDICTS,
        risk_pb2.Verdict,
        (Carried(OrderApproved, required=("intent_id",)), Carried(OrderRefused, required=("intent_id",))),
        "account",
        ("risk",),
        ("execution", "strategy", "recorder", "monitoring"),
        0,
    ),
    TopicDeclaration(
        COMMANDS,
        execution_pb2.Command,
        (Carried(PlaceOrder, required=("client_order_id",)), Carried(CancelOrder, required=("client_order_id",))),
        "account",
        ("execution",),
        ("execution", OUTBOX, "recorder"),
        0,
    ),
    TopicDeclaration(
        VENUE_CALLS,
        execution_pb2.VenueCall,
        (Carried(VenueCall, check_venue_call),),
        "account",
        (OUTBOX,),
        (),
        90 * DAY_MS,
    ),
    TopicDeclaration(
        OUTBOX_INPUTS,
        execution_pb2.OutboxInput,
        (Carried(VenueAnswer, check_venue_answer, required=("call_id",)), Carried(VenueTick)),
        "account",
        (OUTBOX,),
        (OUTBOX,),
        90 * DAY_MS,
    ),
    TopicDeclaration(
        REPORTS,
        execution_pb2.VenueReport,
        (
            Carried(VenueReport, check_report),
            Carried(
                VenueAccount,
                check_venue_account,
                fixed={"instrument": WHOLE_ACCOUNT, "kind": execution_pb2.REPORT_KIND_ACCOUNT},
            ),
        ),
        "account",
        ("execution", OUTBOX),
        ("execution", "recorder"),
        0,
    ),
    TopicDeclaration(
        ORDERS,
        execution_pb2.OrderEvent,
        (Carried(OrderEvent),),
        "account",
        ("execution",),
        ("strategy", "risk", "recorder", "monitoring"),
        0,
    ),
    TopicDeclaration(
        ACCOUNTS,
        execution_pb2.AccountState,
        (Carried(AccountState),),
        "account",
        ("execution",),
        ("strategy", "risk", "recorder", "monitoring"),
        90 * DAY_MS,
    ),
    TopicDeclaration(
        CONTROL_COMMANDS,
        control_pb2.ControlCommand,
        (Carried(ControlCommand),),
        "account",
        ("monitoring", "console", "risk", "execution", OUTBOX, "recorder"),
        ("inference", "risk", "execution", OUTBOX, "recorder", "monitoring"),
        0,
    ),
    TopicDeclaration(
        CONTROL_STATES,
        control_pb2.ControlState,
        (Carried(ControlState),),
        "account",
        ("risk",),
        ("execution", OUTBOX, "recorder", "monitoring"),
        0,
    ),
    TopicDeclaration(
        ALERTS,
        control_pb2.Alert,
        (Carried(Alert),),
        "service",
        ("risk", "execution", OUTBOX, "monitoring"),
        ("recorder", "monitoring"),
        30 * DAY_MS,
    ),
    TopicDeclaration(
        AUDIT,
        control_pb2.AuditEntry,
        (Carried(AuditEntry),),
        "service",
        ("monitoring", "console", "recorder"),
        ("recorder", "monitoring"),
        0,
    ),
)


def journal_topic(service: str) -> str:
    """Name the topic that holds the order in which a service consumed its inputs."""
    return f"journal.{service}.v1"


def state_topic(service: str) -> str:
    """Name the topic that holds a service's snapshots."""
    return f"state.{service}.v1"


def tasks_topic(service: str) -> str:
    """Name the topic whose partitions the replicas of a service share out among them; it never holds a record."""
    return f"tasks.{service}.v1"


def dead_topic(source: str) -> str:
    """Name the topic of what could not be decoded or handled from `source`."""
    return f"dead.{source}"


def _journal(service: str) -> TopicDeclaration:
    return TopicDeclaration(
        journal_topic(service),
        runtime_pb2.JournalEntry,
        (Carried(JournalEntry),),
        "partition",
        (service,),
        (service, "recorder"),
        0,
    )


def _state(service: str, schema: type[Message], kind: type) -> TopicDeclaration:
    return TopicDeclaration(state_topic(service), schema, (Carried(kind),), "partition", (service,), (service,), 0)


def _dead(source: TopicDeclaration) -> TopicDeclaration:
    return TopicDeclaration(
        dead_topic(source.name),
        runtime_pb2.DeadLetter,
        (Carried(DeadLetter),),
        "as source",
        source.consumers if source.name != MARKET_EVENTS else ("ingestion", *source.consumers),
        ("recorder", "monitoring"),
        0,
    )


TOPICS: dict[str, TopicDeclaration] = {
    topic.name: topic
    for topic in (
        *_DATA_TOPICS,
        *(_journal(service) for service in CORES),
        *(_state(service, runtime_pb2.CoreSnapshot, CoreSnapshot) for service in CORES),
        _state("ingestion", runtime_pb2.SourceCursor, SourceCursor),
        *(_dead(topic) for topic in _DATA_TOPICS),
    )
}
"""Every topic by name."""

DATA_TOPICS: tuple[str, ...] = tuple(topic.name for topic in _DATA_TOPICS)
RECORDED_TOPICS: tuple[str, ...] = tuple(name for name, topic in TOPICS.items() if "recorder" in topic.consumers)
"""What the recorder keeps: everything but the snapshots, which only their own service can read."""
