"""What must hold after every simulated session, checked on the order in which everything was committed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import zip_longest

from libs.bus.api import Bus, NewRecord, Record
from libs.domain.control import ControlAction, ControlCommand
from libs.domain.events import Event
from libs.domain.order_trail import OrderTrail
from libs.domain.orders import (
    OrderApproved,
    Origin,
    ReportKind,
    VenueReport,
)
from libs.runtime.control_lane import FRESH_S
from libs.runtime.handler import Decode
from libs.runtime.placement import Placement
from libs.runtime.records import read_range
from libs.runtime.snapshots import partitions_of
from libs.wire import Encoded, topics
from libs.wire import decode as decode_anew
from services.exchange.core.frames import INSTRUMENT
from services.risk.core.limits import RiskLimits
from services.simulation.exchange import SessionExchange

_ZERO = Decimal(0)
_RISK_JOURNAL = topics.journal_topic("risk")
_ORDER_LIMIT = "max_order_notional_usdt"
# The limit holds at the price the order was judged at; it may have moved until the fill.
_PRICE_ROOM = Decimal("1.05")
_TRADING_TOPICS = frozenset(
    {
        topics.INTENTS,
        topics.VERDICTS,
        topics.COMMANDS,
        topics.REPORTS,
        topics.ORDERS,
        topics.ACCOUNTS,
        topics.CONTROL_COMMANDS,
        topics.CONTROL_STATES,
    }
)


@dataclass(frozen=True, slots=True)
class Committed:
    """The records of one transaction and the monotonic second of its commit; a session's are in order of commit."""

    at_s: float
    records: Sequence[NewRecord]


@dataclass(slots=True)
class _Trading:
    trail: OrderTrail = field(default_factory=OrderTrail)
    trades: Counter[str] = field(default_factory=Counter)
    filled: dict[str, Decimal] = field(default_factory=dict)
    fees: dict[str, Decimal] = field(default_factory=dict)
    is_on_paper: bool = True
    # Since when each scope is halted: the account, all accounts.
    held_since_s: dict[str, float] = field(default_factory=dict)
    order_limit: Decimal = _ZERO
    commands_logged: list[ControlCommand] = field(default_factory=list)
    commands_handled: int = 0


def check_trading(
    history: Sequence[Committed],
    limits: RiskLimits,
    starting_balance: Decimal,
    decode: Decode,
    exchange: SessionExchange | None = None,
) -> list[str]:
    """Return what does not hold, a line each. Where orders went to an exchange its account is what counts."""
    trading = _Trading(order_limit=limits.max_order_notional_usdt, is_on_paper=exchange is None)
    broken: list[str] = []
    for committed in history:
        _follow_limits(trading, committed.records, decode)
        for record in committed.records:
            if record.topic in _TRADING_TOPICS:
                event = decode(record.topic, record.value)
                broken.extend(_follow(trading, event, committed.at_s, limits))
    trail = trading.trail
    broken.extend(_exactly_once("intent", "verdict", trail.unmatched_intents()))
    broken.extend(_exactly_once("approval", "command", trail.unmatched_approvals()))
    broken.extend(trail.repeated_orders())
    broken.extend(f"trade {name} was reported {count} times" for name, count in trading.trades.items() if count > 1)
    broken.extend(
        f"account {account} holds {held} {instrument}, its fills sum to {summed}"
        for (account, instrument), (held, summed) in trail.unequal_positions().items()
    )
    if exchange is None:
        broken.extend(_check_balances(trading, starting_balance))
    else:
        broken.extend(_check_venue(trading.trail, exchange))
    return broken


def _check_venue(trail: OrderTrail, exchange: SessionExchange) -> Iterator[str]:
    yield from (f"order {name} was sent {count} times" for name, count in exchange.sent.items() if count > 1)
    yield from (f"order {name} was sent after a halt" for name in exchange.late)
    yield from (f"order {name} was sent and never commanded" for name in exchange.sent.keys() - trail.placed.keys())
    ledger, state = exchange.core.ledger, next(iter(trail.accounts.values()), None)
    if state is None:
        yield "no account state was published"
        return
    held = state.position(INSTRUMENT).quantity
    if held != ledger.position.quantity:
        yield f"the account holds {held} {INSTRUMENT}, the venue says {ledger.position.quantity}"
    if state.wallet_balance != ledger.wallet:
        yield f"the account has {state.wallet_balance} in its wallet, the venue says {ledger.wallet}"
    resting = len(exchange.core.order_store.open_orders) + len(exchange.core.order_store.open_algos)
    if state.open_order_count != resting:
        yield f"the account has {state.open_order_count} open orders, the venue says {resting}"


def _follow_limits(trading: _Trading, records: Sequence[NewRecord], decode: Decode) -> None:
    """Let the commands that risk handled in this transaction take hold: it handles them before all else in a batch."""
    for record in records:
        if record.topic != _RISK_JOURNAL:
            continue
        for run in decode(record.topic, record.value).runs:
            # What the chain itself commands sets no limits.
            if run.topic != topics.CONTROL_COMMANDS or run.own_producer:
                continue
            for command in trading.commands_logged[trading.commands_handled : run.next_offset]:
                if command.action is ControlAction.SET_LIMITS and _ORDER_LIMIT in command.arguments:
                    trading.order_limit = Decimal(command.arguments[_ORDER_LIMIT])
            trading.commands_handled = run.next_offset


def _follow(trading: _Trading, event: Event, at_s: float, limits: RiskLimits) -> Iterator[str]:
    trading.trail.take(event)
    match event:
        case OrderApproved():
            failed = [check.name for check in event.checks if not check.has_passed]
            if failed and event.origin is Origin.STRATEGY:
                yield f"intent {event.intent_id} was approved though {', '.join(failed)} did not pass"
            yield from _follow_approval(trading, event)
        case VenueReport():
            yield from _follow_report(trading, event, at_s, limits)
        case ControlCommand():
            trading.commands_logged.append(event)
            if event.action in (ControlAction.HALT, ControlAction.FLATTEN):
                trading.held_since_s.setdefault(event.account, at_s)
            elif event.action is ControlAction.RESUME:
                trading.held_since_s.pop(event.account, None)
        case _:
            return


def _follow_approval(trading: _Trading, approval: OrderApproved) -> Iterator[str]:
    intent = approval.intent
    if approval.origin is not Origin.STRATEGY or intent.reduce_only or intent.reference_price is None:
        return
    worth = intent.quantity * intent.reference_price
    # Judged at the price of its moment, which may lie a little beside the reference.
    if worth > trading.order_limit * _PRICE_ROOM:
        yield f"intent {approval.intent_id} of {worth:.2f} USDT was approved past a limit of {trading.order_limit}"


def _follow_report(trading: _Trading, report: VenueReport, at_s: float, limits: RiskLimits) -> Iterator[str]:
    order = trading.trail.placed.get(report.client_order_id)
    if order is None and report.kind is ReportKind.CANCEL_REJECTED:
        # Risk, which takes an order for open that execution has held back, has it cancelled.
        return
    if order is None:
        yield f"a report on order {report.client_order_id}, which was never commanded"
        return
    if report.kind is ReportKind.FILL:
        assert report.last_quantity is not None and report.last_price is not None
        trading.trades[report.venue_trade_id] += 1
        filled = trading.filled.get(report.client_order_id, _ZERO) + report.last_quantity
        trading.filled[report.client_order_id] = filled
        if filled > order.quantity:
            yield f"order {report.client_order_id} filled {filled} of {order.quantity}"
        held = trading.trail.filled[report.account, report.instrument]
        trading.fees[report.account] = trading.fees.get(report.account, _ZERO) + (report.fee or _ZERO)
        if not order.reduce_only and abs(held) * report.last_price > limits.max_position_notional_usdt * _PRICE_ROOM:
            yield f"position of {held} {report.instrument} at {report.last_price} is past the limit"
    # What a venue was sent before a halt it may report on after it: there the sending is looked at.
    adds_risk = trading.is_on_paper and not order.reduce_only and report.kind in (ReportKind.ACCEPTED, ReportKind.FILL)
    halted_at_s = min(trading.held_since_s.values(), default=at_s)
    if adds_risk and at_s > halted_at_s + FRESH_S:
        late_ms = (at_s - halted_at_s) * 1000
        yield f"{report.kind.name} of order {report.client_order_id} came {late_ms:.0f} ms after a halt"


def _exactly_once(asked: str, answered: str, unmatched: Mapping[str, tuple[int, int]]) -> Iterator[str]:
    for name, (stands, answers) in unmatched.items():
        yield f"{asked} {name} stands {stands} times and has {answers} {answered}s"


def _check_balances(trading: _Trading, starting_balance: Decimal) -> Iterator[str]:
    for account, state in trading.trail.accounts.items():
        funding = sum((position.funding_paid for position in state.positions), _ZERO)
        realised = sum((position.realised_pnl for position in state.positions), _ZERO)
        wallet = starting_balance + realised - trading.fees.get(account, _ZERO) - funding
        fees = sum((position.fees_paid for position in state.positions), _ZERO)
        if fees != trading.fees.get(account, _ZERO):
            yield f"account {account} has paid {fees} in fees, its fills cost {trading.fees.get(account, _ZERO)}"
        if state.wallet_balance != wallet:
            yield f"account {account} has {state.wallet_balance} in its wallet, fills and funding make {wallet}"
    if trading.trail.filled and not trading.trail.accounts:
        yield "there were fills, yet no account state"


def check_bars(bus: Bus, expected: Sequence[Encoded], placement: Placement) -> list[str]:
    """Return a line where the bars are not those of the market as it was sent, each event once and in order.

    Where every reader of bars runs, retention may have removed the first.
    """
    places = partitions_of(bus, [topics.BARS_CLOSED])
    ends = bus.end_offsets(places)
    for at, begin in bus.beginning_offsets(places).items():
        own = [each for each in expected if placement.choose(at.topic, each.key, len(places)) == at.partition]
        recorded = [(record.key, record.value) for record in read_range(bus, *at, begin, ends[at])]
        for number, (made, found) in enumerate(zip_longest(own[begin:], recorded), begin):
            if made is None or (made.key, made.payload) != found:
                wanted = "none" if made is None else decode_anew(at.topic, made.payload)
                got = "none" if found is None else decode_anew(at.topic, found[1])
                return [f"bar {number} is {got!s:.160}, an undisturbed run closes {wanted!s:.160}"]
    return []


def check_store(written: Sequence[Record], stored: Mapping[tuple[str, int, int], object], decode: Decode) -> list[str]:
    """Return a line where the store lacks a record that was ever written, or holds another in its place."""
    for record in written:
        place = (record.topic, record.partition, record.offset)
        if place not in stored:
            return [f"the store lacks {record.topic}/{record.partition}@{record.offset}"]
        event = decode(record.topic, record.value)
        # Comparing an event with itself, field by field, is most of what this costs.
        if stored[place] is not event and stored[place] != event:
            return [f"the store holds another record at {record.topic}/{record.partition}@{record.offset}"]
    if len(stored) != len(written):
        return [f"the store holds {len(stored)} records, {len(written)} were written"]
    return []


def check_dead_letters(bus: Bus) -> list[str]:
    """Return a line for each dead-letter topic that holds anything: a simulated market is well formed."""
    places = partitions_of(bus, [name for name in topics.TOPICS if name.startswith("dead.")])
    return [f"{at.topic} holds {end} records" for at, end in bus.end_offsets(places).items() if end]
