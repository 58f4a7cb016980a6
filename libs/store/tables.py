"""Which table keeps which event and how its columns are filled; the types are in `migrations/`.

Every table begins with where the record came from: topic, partition, offset, key, append_time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa

from libs.domain.accounts import AccountState, VenueAccount
from libs.domain.bars import Bar
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
    Liquidation,
    MarkPrice,
    OpenInterest,
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
from libs.store import columns as c
from libs.store.columns import Column
from libs.store.errors import StoreError


class StoredRow(NamedTuple):
    """A record with its decoded event. `append_time_ms` is the wall time of its append, ms since epoch UTC."""

    partition: int
    offset: int
    key: bytes
    append_time_ms: int
    event: Any


@dataclass(frozen=True, slots=True)
class Table:
    """A table and the columns that come from the event."""

    name: str
    columns: tuple[Column, ...]

    def arrow(self, topic: str, rows: Sequence[StoredRow]) -> Any:
        """Build a pyarrow Table of the rows."""
        partitions, offsets, keys, times_ms, events = zip(*rows, strict=True)
        arrays = {
            "topic": pa.repeat(pa.scalar(topic), len(rows)),
            "partition": pa.array(partitions, pa.uint16()),
            "offset": pa.array(offsets, pa.uint64()),
            "key": pa.array(keys, pa.binary()),
            "append_time": pa.array(times_ms, pa.timestamp("ms", "UTC")),
        }
        for column in self.columns:
            arrays[column.name] = column.build(events)
        return pa.table(arrays)


_MARKET = (c.text("instrument"), c.text("event_id"), c.time("event_time"), c.time("received_time"))
_BOOK = (c.e8_list("bid_prices"), c.e8_list("bid_quantities"), c.e8_list("ask_prices"), c.e8_list("ask_quantities"))
_OHLCV = (
    *(c.text("timeframe"), c.time("open_time"), c.time("close_time")),
    *(c.e8("open"), c.e8("high"), c.e8("low"), c.e8("close"), c.e8("volume")),
    *(c.optional_e8("quote_volume"), c.optional_e8("taker_buy_volume"), c.integer("trade_count")),
)
_DECISION = (c.text("event_id"), c.time("event_time"), c.text("account"))
_ORDER_TERMS = (
    *(c.label("side"), c.label("order_type"), c.amount("quantity"), c.label("time_in_force"), c.flag("reduce_only")),
    *(c.amount("limit_price"), c.amount("trigger_price"), c.amount("callback_rate")),
)
_CHECKS = (
    c.from_each("check_names", "checks", "name", c.STRING),
    c.from_each("check_passed", "checks", "has_passed", c.BOOLEAN),
    c.from_each("check_values", "checks", "value", c.STRING),
    c.from_each("check_limits", "checks", "limit", c.STRING),
)


def _positions(attribute: str) -> Column:
    return c.from_each(f"position_{attribute}", "positions", attribute, c.WIDE_DECIMAL)


def _or(column: Column, absent: Any, *types: type) -> Column:
    """Fill a column from events of some types only; the others get `absent`."""

    def build(events: Sequence[Any]) -> Any:
        known = column.build([event for event in events if type(event) in types])
        if len(known) == len(events):
            return known
        values = iter(known.to_pylist())
        return pa.array([next(values) if type(event) in types else absent for event in events], known.type)

    return Column(column.name, build)


_VERDICTS = Table(
    "verdicts",
    (
        *(*_DECISION, c.text("instrument"), c.text("intent_id"), c.integer("limits_version", is_signed=True)),
        c.constant("verdict", lambda kind: "approved" if kind is OrderApproved else "refused"),
        _or(c.label("origin"), "", OrderApproved),
        _or(c.texts("reasons"), [], OrderRefused),
        *(c.text("strategy", "intent.strategy"), c.label("action", "intent.action"), c.label("side", "intent.side")),
        *(c.label("order_type", "intent.order_type"), c.amount("quantity", "intent.quantity")),
        *(c.amount("limit_price", "intent.limit_price"), c.amount("trigger_price", "intent.trigger_price")),
        *(c.flag("reduce_only", "intent.reduce_only"), c.amount("reference_price", "intent.reference_price")),
        *_CHECKS,
    ),
)
_COMMANDS = Table(
    "order_commands",
    (
        *(*_DECISION, c.text("instrument"), c.text("client_order_id"), c.text("intent_id")),
        c.constant("command", lambda kind: "place" if kind is PlaceOrder else "cancel"),
        _or(c.text("verdict_id"), "", PlaceOrder),
        *(_or(column, "", PlaceOrder) for column in (_ORDER_TERMS[0], _ORDER_TERMS[1], _ORDER_TERMS[3])),
        _or(_ORDER_TERMS[4], False, PlaceOrder),
        *(_or(column, None, PlaceOrder) for column in (_ORDER_TERMS[2], *_ORDER_TERMS[5:])),
    ),
)

EVENT_TABLES: dict[type, Table] = {
    Trade: Table(
        "trades",
        (
            *_MARKET,
            c.e8("price"),
            c.e8("quantity"),
            c.flag("is_buyer_maker"),
            c.integer("venue_trade_id", is_signed=True),
        ),
    ),
    DepthSnapshot: Table("depth_snapshots", (*_MARKET, c.integer("last_update_id", is_signed=True), *_BOOK)),
    DepthDelta: Table(
        "depth_deltas",
        (
            *_MARKET,
            c.integer("first_update_id", is_signed=True),
            c.integer("final_update_id", is_signed=True),
            c.integer("previous_final_update_id", is_signed=True),
            *_BOOK,
        ),
    ),
    BestQuote: Table(
        "best_quotes",
        (
            *(*_MARKET, c.integer("update_id", is_signed=True), c.e8("bid_price"), c.e8("bid_quantity")),
            *(c.e8("ask_price"), c.e8("ask_quantity")),
        ),
    ),
    MarkPrice: Table(
        "mark_prices",
        (
            *(*_MARKET, c.e8("mark_price"), c.optional_e8("index_price"), c.e8("funding_rate")),
            c.time("next_funding_time"),
        ),
    ),
    FundingSettled: Table("funding_settlements", (*_MARKET, c.e8("funding_rate"), c.e8("mark_price"))),
    OpenInterest: Table("open_interests", (*_MARKET, c.e8("open_interest"))),
    Liquidation: Table("liquidations", (*_MARKET, c.label("side"), c.e8("price"), c.e8("quantity"))),
    ExchangeBar: Table("exchange_bars", (*_MARKET, *_OHLCV, c.flag("is_history"))),
    ClockTick: Table("clock_ticks", _MARKET),
    Bar: Table(
        "bars",
        (
            *(c.text("instrument"), c.text("event_id"), c.time("event_time"), *_OHLCV),
            *(c.real("spread_mean_bps"), c.real("depth_imbalance_1"), c.real("depth_imbalance_5")),
            *(c.real("depth_imbalance_10"), c.real("order_flow_imbalance"), c.real("microprice_deviation_bps")),
            *(c.real("realised_variance"), c.optional_e8("mark_close"), c.optional_e8("index_close")),
            *(c.optional_e8("funding_rate"), c.optional_time("next_funding_time"), c.optional_e8("open_interest")),
            *(c.optional_e8("liquidation_buy"), c.optional_e8("liquidation_sell"), c.flag("is_history")),
        ),
    ),
    FeatureVector: Table(
        "feature_vectors",
        (
            *(c.text("instrument"), c.text("event_id"), c.time("event_time"), c.text("bar_id"), c.text("timeframe")),
            *(c.text("feature_set"), c.text("schema_hash"), c.integer("known_count"), c.e8("reference_price")),
            *(c.flag("is_history"), c.reals("feature_values", "packed")),
        ),
    ),
    Forecast: Table(
        "forecasts",
        (
            *(c.text("instrument"), c.text("event_id"), c.time("event_time"), c.text("vector_id")),
            *(c.integer("horizon_ns", is_signed=True), c.real("probability_down"), c.real("probability_flat")),
            *(c.real("probability_up"), c.real("confidence"), c.real("coverage"), c.real("expected_return_bps")),
            *(c.text("model_name"), c.text("model_version"), c.text("model_sha256"), c.label("role")),
            *(c.text("feature_set"), c.text("schema_hash"), c.e8("reference_price")),
        ),
    ),
    OrderIntent: Table(
        "order_intents",
        (
            *(*_DECISION, c.text("instrument"), c.text("strategy"), c.label("action"), *_ORDER_TERMS),
            *(c.amount("reference_price"), c.real("confidence"), c.text("target_client_order_id")),
            *(c.text("reason"), c.texts("cause_ids")),
        ),
    ),
    OrderApproved: _VERDICTS,
    OrderRefused: _VERDICTS,
    PlaceOrder: _COMMANDS,
    CancelOrder: _COMMANDS,
    VenueReport: Table(
        "venue_reports",
        (
            *(*_DECISION, c.text("instrument"), c.text("client_order_id"), c.text("venue_order_id"), c.label("kind")),
            *(c.amount("last_quantity"), c.amount("last_price"), c.amount("fee"), c.label("liquidity")),
            *(c.text("venue_trade_id"), c.text("reason"), c.text("raw"), c.text("cause_id")),
        ),
    ),
    VenueAccount: Table(
        "venue_accounts",
        (
            *(
                *_DECISION,
                c.amount("wallet_balance"),
                c.from_each("position_instrument", "positions", "instrument", c.STRING),
            ),
            *(_positions("quantity"), _positions("entry_price"), c.text("cause_id")),
        ),
    ),
    OrderEvent: Table(
        "order_events",
        (
            *(*_DECISION, c.text("instrument"), c.text("client_order_id"), c.text("venue_order_id")),
            *(c.text("intent_id"), c.label("status"), c.label("side"), c.label("order_type"), c.amount("quantity")),
            *(c.amount("filled_quantity"), c.amount("average_price"), c.amount("limit_price"), c.flag("reduce_only")),
            *(c.amount("last_quantity"), c.amount("last_price"), c.amount("fee"), c.label("liquidity")),
            *(c.amount("realised_pnl"), c.text("reason"), c.text("report_id")),
        ),
    ),
    AccountState: Table(
        "account_states",
        (
            *(*_DECISION, c.integer("sequence"), c.amount("wallet_balance"), c.amount("equity")),
            *(c.amount("initial_margin"), c.amount("available_balance"), c.integer("open_order_count")),
            c.from_each("position_instrument", "positions", "instrument", c.STRING),
            *(_positions("quantity"), _positions("entry_price"), _positions("mark_price")),
            *(_positions("realised_pnl"), _positions("fees_paid"), _positions("funding_paid"), c.text("cause_id")),
        ),
    ),
    ControlCommand: Table(
        "control_commands",
        (*_DECISION, c.label("action"), c.text("issued_by"), c.text("reason"), c.word_map("arguments")),
    ),
    ControlState: Table(
        "control_states",
        (
            *(*_DECISION, c.label("state"), c.text("reason"), c.integer("limits_version", is_signed=True)),
            *(c.word_map("limits"), c.text("cause_id")),
        ),
    ),
    Alert: Table(
        "alerts",
        (
            *(c.text("event_id"), c.time("event_time"), c.text("service"), c.text("name"), c.label("severity")),
            *(c.flag("is_raised"), c.text("message")),
        ),
    ),
    AuditEntry: Table(
        "audit_entries",
        (
            *(c.text("event_id"), c.time("event_time"), c.text("service"), c.text("actor"), c.text("role")),
            *(c.text("action"), c.text("account"), c.label("outcome"), c.text("source_address")),
            *(c.text("detail"), c.text("command_id")),
        ),
    ),
}
"""Table of every event type."""

# The shell's own messages, by the first word of their topic. Their events have the attributes named here.
RUNTIME_TABLES: dict[str, Table] = {
    "journal": Table(
        "journal_entries",
        (
            c.text("service"),
            c.from_each("run_topic", "runs", "topic", c.STRING),
            c.from_each("run_partition", "runs", "partition", c.UINT32),
            c.from_each("run_first_offset", "runs", "first_offset", c.UINT64),
            c.from_each("run_next_offset", "runs", "next_offset", c.UINT64),
        ),
    ),
    "dead": Table(
        "dead_letters",
        (
            *(c.text("service"), c.text("reason"), c.text("source_topic"), c.integer("source_partition")),
            *(c.integer("source_offset"), c.blob("source_key", "key"), c.blob("payload")),
        ),
    ),
    "state": Table("core_snapshots", (Column("payload", lambda payloads: pa.array(payloads, pa.binary())),)),
}


class Undecodable(NamedTuple):
    """A payload that is not what its topic carries, with the reason."""

    payload: bytes
    reason: str


UNDECODABLE_TABLE = Table("undecodable", (c.blob("payload"), c.text("reason")))
TABLE_NAMES: tuple[str, ...] = tuple(
    dict.fromkeys(table.name for table in (*EVENT_TABLES.values(), *RUNTIME_TABLES.values(), UNDECODABLE_TABLE))
)
"""Every table that keeps records, each once."""


def table_of(topic: str, event: Any) -> Table:
    """Choose the table of an event. Raises `StoreError` for a type that no table keeps."""
    if type(event) is Undecodable:
        return UNDECODABLE_TABLE
    table = RUNTIME_TABLES.get(topic.partition(".")[0]) or EVENT_TABLES.get(type(event))
    if table is None:
        raise StoreError(f"no table keeps {type(event).__name__} of topic {topic!r}")
    return table
