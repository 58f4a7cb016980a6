"""Collects what a run comes to: counts, digests on demand, fills, equity, trading states, refusals, alerts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from libs.domain.accounts import AccountState
from libs.domain.bars import Bar
from libs.domain.control import ALL_ACCOUNTS, Alert, ControlState, TradingState
from libs.domain.events import Event
from libs.domain.market import BestQuote, ClockTick, DepthDelta, ExchangeBar, Trade
from libs.domain.numbers import from_e8, to_e8
from libs.domain.orders import (
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    OrderStatus,
    PlaceOrder,
    VenueReport,
)
from libs.wire import encode, topic_of, topics
from services.backtest.columns import BarColumns
from services.backtest.equity import EquityCurve, Ints, PriceHistory
from services.backtest.fills import FilledOrders, FillList
from services.backtest.round_trips import Fill, FundingPayment

_ZERO = Decimal(0)
_SHOWN = 20
_EVENTS_OF_AN_ORDER: dict[type, int] = {OrderIntent: 1, OrderApproved: 1, PlaceOrder: 1, VenueReport: 2, OrderEvent: 3}
"""What a market order makes that is approved, accepted and filled at once."""

DIGESTED = {
    topics.MARKET_EVENTS: "market_events",
    topics.BARS_CLOSED: "bars",
    topics.FEATURE_VECTORS: "vectors",
    topics.FORECASTS: "forecasts",
    topics.INTENTS: "intents",
    topics.VERDICTS: "verdicts",
    topics.COMMANDS: "commands",
    topics.REPORTS: "reports",
    topics.ORDERS: "orders",
    topics.ACCOUNTS: "accounts",
}


@dataclass(frozen=True, slots=True)
class TradingStateChange:
    """Risk's trading state became another at a market time (ns), for a reason, at an equity."""

    event_time: int
    state: TradingState
    reason: str
    equity: Decimal


@dataclass(frozen=True, slots=True)
class Refusal:
    """An intent that risk refused."""

    event_time: int
    intent_id: str
    strategy: str
    reasons: tuple[str, ...]


@dataclass(slots=True)
class RunRecord:
    """What happened, as values. `prices` and the position in `equity` are of the first instrument, `other_prices` of
    the others."""

    counts: Counter[str] = field(default_factory=Counter)
    equity: EquityCurve = field(default_factory=EquityCurve)
    prices: PriceHistory = field(default_factory=PriceHistory)
    other_prices: dict[str, PriceHistory] = field(default_factory=dict)
    fills: FillList = field(default_factory=FillList)
    funding: list[FundingPayment] = field(default_factory=list)
    state_changes: list[TradingStateChange] = field(default_factory=list)
    failed_checks: Counter[str] = field(default_factory=Counter)
    refusals: list[Refusal] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)

    @property
    def funding_paid(self) -> Decimal:
        """Sum of funding payments, positive when paid."""
        return sum((payment.amount for payment in self.funding), _ZERO)


class RunRecorder:
    """Hears every event of a run. `timeframe` is that of the bars kept as the price of the run.

    With an `account` it takes note of no other's.
    """

    def __init__(self, instruments: Sequence[str], timeframe: str, *, with_digests: bool, account: str = "") -> None:
        self.record = RunRecord(other_prices={name: PriceHistory() for name in instruments[1:]})
        self._instrument = instruments[0]
        self._prices = {instruments[0]: self.record.prices, **self.record.other_prices}
        self._accounts = frozenset((account, ALL_ACCOUNTS)) if account else frozenset[str]()
        self._timeframe = timeframe
        self._digests = {name: hashlib.sha256() for name in DIGESTED.values()} if with_digests else {}
        self._type_counts: Counter[type] = Counter()
        self._funding_paid = dict.fromkeys(instruments, _ZERO)
        self._equity = _ZERO
        self._state = TradingState.ACTIVE
        # What an order was decided at and by whom, until its order has ended.
        self._intents: dict[str, OrderIntent] = {}
        self._handlers: dict[type, Callable[[Any], None]] = {
            AccountState: self._see_account,
            Bar: self._see_bar,
            OrderEvent: self._see_order,
            OrderIntent: self._see_intent,
            OrderRefused: self._see_refusal,
            ControlState: self._see_state,
            Alert: self._see_alert,
        }

    def observe(self, event: Event) -> None:
        """Take note of an event."""
        kind = type(event)
        if self._accounts and getattr(event, "account", ALL_ACCOUNTS) not in self._accounts:
            return
        self._type_counts[kind] += 1
        if self._digests:
            encoded = encode(event)
            name = DIGESTED.get(encoded.topic)
            if name is not None:
                self._digests[name].update(encoded.payload)
        handler = self._handlers.get(kind)
        if handler is not None:
            handler(event)

    def pass_bars(
        self, bars: BarColumns, longer: int, equity_e8: Ints | None, wallet: Decimal, position: Decimal
    ) -> None:
        """Take note of bars that were passed without an event each, and of the number of longer ones that they closed.

        Equity is None where no position was held.
        """
        for kind in (ClockTick, ExchangeBar, Bar):
            self._type_counts[kind] += len(bars)
        self._type_counts[Bar] += longer
        times = bars.open_time + bars.length_ns
        self.record.prices.extend(times, bars.open_e8, bars.high_e8, bars.low_e8, bars.close_e8)
        if equity_e8 is None:
            return
        self.pass_states(times, equity_e8, wallet, position)

    def pass_account(
        self,
        bars: BarColumns,
        times: Ints,
        equity_e8: Ints,
        wallet_e8: Ints,
        position_e8: Ints,
        *,
        states: int,
        filled: FilledOrders,
    ) -> None:
        """Take note of bars and of the account over them: its last state of each bar that had one, how many there were
        in all, and the orders that were approved and filled.
        """
        for kind in (ClockTick, ExchangeBar, Bar):
            self._type_counts[kind] += len(bars)
        orders = len(filled)
        for made, each in _EVENTS_OF_AN_ORDER.items():
            self._type_counts[made] += each * orders
        self._type_counts[AccountState] += states
        for name in ("intents", "orders_submitted") if orders else ():
            self.record.counts[name] += orders
        self.record.prices.extend(
            bars.open_time + bars.length_ns, bars.open_e8, bars.high_e8, bars.low_e8, bars.close_e8
        )
        self.record.fills.add(filled)
        if len(times):
            self.record.equity.extend_states(times, equity_e8, wallet_e8, position_e8)
            self._equity = from_e8(int(equity_e8[-1]))

    def pass_trades(self, trades: int, ticks: int) -> None:
        """Take note of trades and clock ticks that were passed without an event each."""
        self._type_counts[Trade] += trades
        self._type_counts[ClockTick] += ticks

    def pass_events(self, trades: int, quotes: int, deltas: int) -> None:
        """Take note of trades, quotes and deltas that were passed without an event each."""
        for kind, number in ((Trade, trades), (BestQuote, quotes), (DepthDelta, deltas)):
            if number:
                self._type_counts[kind] += number

    def pass_states(self, times: Ints, equity_e8: Ints, wallet: Decimal, position: Decimal) -> None:
        """Take note of account states, ascending, between which only the equity changed."""
        self._type_counts[AccountState] += len(times)
        self.record.equity.extend(times, equity_e8, to_e8(wallet), to_e8(position))
        self._equity = from_e8(int(equity_e8[-1]))

    def finish(self) -> RunRecord:
        """Return the record with its counts by topic."""
        for kind, number in self._type_counts.items():
            self.record.counts[topic_of(kind)] += number
        self._type_counts.clear()
        return self.record

    def digests(self) -> dict[str, str]:
        """Return the digest of each topic's payloads; empty where none were asked for."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}

    def _see_account(self, account: AccountState) -> None:
        held = account.position(self._instrument)
        self._equity = account.equity
        self.record.equity.add(account.event_time, account.equity, account.wallet_balance, held.quantity)
        for instrument, before in self._funding_paid.items():
            paid = account.position(instrument).funding_paid
            if paid != before:
                self.record.funding.append(FundingPayment(account.event_time, paid - before, instrument))
                self._funding_paid[instrument] = paid

    def _see_bar(self, bar: Bar) -> None:
        if bar.timeframe == self._timeframe and bar.instrument in self._prices and not bar.is_history:
            prices = self._prices[bar.instrument]
            prices.append(bar.close_time, bar.open_e8, bar.high_e8, bar.low_e8, bar.close_e8)

    def _see_order(self, order: OrderEvent) -> None:
        if order.status is OrderStatus.SUBMITTING:
            self.record.counts["orders_submitted"] += 1
        if order.last_quantity is not None and order.last_price is not None and order.instrument in self._prices:
            intent = self._intents.get(order.intent_id)
            self.record.fills.append(
                Fill(
                    event_time=order.event_time,
                    client_order_id=order.client_order_id,
                    intent_id=order.intent_id,
                    strategy="risk" if intent is None else intent.strategy,
                    side=order.side,
                    quantity=order.last_quantity,
                    price=order.last_price,
                    fee=order.fee or _ZERO,
                    realised_pnl=order.realised_pnl or _ZERO,
                    decision_price=None if intent is None else intent.reference_price,
                    instrument=order.instrument,
                )
            )
        if not order.status.is_open:
            self._intents.pop(order.intent_id, None)

    def _see_intent(self, intent: OrderIntent) -> None:
        self.record.counts["intents"] += 1
        self._intents[intent.event_id] = intent

    def _see_refusal(self, refusal: OrderRefused) -> None:
        self.record.counts["refused"] += 1
        self._intents.pop(refusal.intent_id, None)
        for check in refusal.checks:
            if not check.has_passed:
                self.record.failed_checks[check.name] += 1
        if len(self.record.refusals) < _SHOWN:
            intent = refusal.intent
            self.record.refusals.append(
                Refusal(refusal.event_time, refusal.intent_id, intent.strategy, refusal.reasons)
            )

    def _see_state(self, state: ControlState) -> None:
        if state.state is not self._state:
            self._state = state.state
            self.record.state_changes.append(
                TradingStateChange(state.event_time, state.state, state.reason, self._equity)
            )

    def _see_alert(self, alert: Alert) -> None:
        if alert.is_raised and len(self.record.alerts) < _SHOWN:
            self.record.alerts.append(alert)
