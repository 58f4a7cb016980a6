"""A venue made of market data: market events and commands in, `VenueReport` out. No order leaves the process.

Commands wait for their arrival in market time and meet the market as it was before the first event at or after it.
Where bars are the whole market `BarFill` says at which price of which bar they arrive.
Ids are sequence numbers, so equal inputs give equal reports. Client order ids are unique among the last 2,048
orders, a stronger promise than Binance's (unique among open orders).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from libs.domain.events import Event
from libs.domain.instruments import Instrument
from libs.domain.market import (
    BestQuote,
    ClockTick,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    MarkPrice,
    Trade,
)
from libs.domain.market_columns import MarketColumns
from libs.domain.numbers import from_e8, to_e8
from libs.domain.orders import CancelOrder, OrderType, PlaceOrder, ReportKind, VenueReport
from libs.domain.state import StateMismatch, adopt
from libs.matching import filters
from libs.matching.fees import FeeModel
from libs.matching.latency import LatencyModel
from libs.matching.matcher import Matcher, MatcherState
from libs.matching.orders import BarFill, MatchingTerms, VenueOrder

REMEMBERED_CLIENT_IDS = 2048

_Pending = tuple[int, int, PlaceOrder | CancelOrder]


@dataclass(eq=False)
class PaperVenueState:
    """What is kept of the venue; its reports must have been taken before."""

    account: str
    matchers: dict[str, MatcherState] = field(default_factory=dict)
    _market_time: int = 0
    _pending: list[_Pending] = field(default_factory=list)
    _client_ids: dict[str, None] = field(default_factory=dict)
    _sequence: int = 0
    _order_count: int = 0
    _trade_count: int = 0


class PaperVenue(PaperVenueState):
    """The venue of one account. `handle` takes market events, `PlaceOrder` and `CancelOrder` of that account."""

    def __init__(
        self,
        account: str,
        instruments: Iterable[Instrument],
        latency: LatencyModel | None = None,
        fees: FeeModel | None = None,
        terms: MatchingTerms | None = None,
    ) -> None:
        self._latency = latency or LatencyModel()
        self._fees = fees or FeeModel()
        terms = terms or MatchingTerms()
        self._matchers = {rules.instrument: Matcher(rules, terms) for rules in instruments}
        super().__init__(account, dict(self._matchers))
        self._terms = terms
        self._reports: list[VenueReport] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            Trade: self._on_trade,
            BestQuote: self._on_quote,
            DepthSnapshot: self._on_snapshot,
            DepthDelta: self._on_delta,
            MarkPrice: self._on_mark,
            ClockTick: self._on_tick,
            ExchangeBar: self._on_bar,
            PlaceOrder: self._on_place,
            CancelOrder: self._on_cancel,
        }

    @property
    def market_time(self) -> int:
        """The latest event time of the market, ns; 0 before any."""
        return self._market_time

    def position_of(self, instrument: str) -> Decimal:
        """Return the signed position that fills made here. Raises `KeyError` for an instrument that is not listed."""
        return from_e8(self._matchers[instrument].position)

    def is_bar_driven(self, instrument: str) -> bool:
        """Whether bars are all that is known of an instrument's market."""
        matcher = self._matchers.get(instrument)
        return matcher is not None and matcher.is_bar_driven

    def is_idle(self, instrument: str) -> bool:
        """Whether bars are all of an instrument's market and no order is on its way or open anywhere."""
        return self.is_bar_driven(instrument) and self.has_no_orders

    @property
    def has_no_orders(self) -> bool:
        """Whether no order is on its way or open anywhere."""
        return not self._pending and all(not matcher.open_order_count for matcher in self._matchers.values())

    def pass_bars(self, instrument: str, event_time: int, close_e8: int, volume_e8: int = 0) -> None:
        """Go to the end of bars or trades during which it `has_no_orders`: the last at `event_time`, at `close_e8`.

        `volume_e8` is the last bar's.
        """
        self._matchers[instrument].last_price = close_e8
        self._matchers[instrument].last_volume = volume_e8
        self._market_time = max(self._market_time, event_time)

    def pass_orders(self, instrument: str, position_e8: int, orders: int) -> None:
        """Take over the position after so many market orders that each were accepted and filled at once."""
        self._matchers[instrument].position = position_e8
        self._order_count += orders
        self._trade_count += orders
        self._sequence += 2 * orders

    def pass_events(self, columns: MarketColumns, begin: int, end: int, *, bound: int, opened: int) -> int:
        """Take over trades, quotes and deltas as `Matcher.pass_events`, before the next command arrives as well; what
        `note_passed` is to be told of is not taken over yet.
        """
        matcher = self._matchers.get(columns.instrument)
        if matcher is None or matcher.is_bar_driven:
            return begin
        if self._pending:
            bound = min(bound, self._pending[0][0])
        return matcher.pass_events(columns, begin, end, bound=bound, opened=opened)

    def note_passed(self, instrument: str, latest: int, price_e8: int | None) -> None:
        """Know the latest time (ns) and the last traded price, if any, of events that were passed."""
        self._market_time = max(self._market_time, latest)
        if price_e8 is not None:
            self._matchers[instrument].last_price = price_e8

    def open_order_ids(self) -> list[str]:
        """Return the client ids of the orders that arrived and may still fill."""
        return [
            order.client_order_id
            for matcher in self._matchers.values()
            for order in (*matcher.resting, *matcher.conditional, *matcher.waiting)
        ]

    def handle(self, event: Event) -> list[VenueReport]:
        """Advance by one event and return what the venue says; events that mean nothing to it change nothing."""
        handler = self._handlers.get(type(event))
        if handler is None:
            return []
        handler(event)
        if not self._reports:
            return []
        reports = self._reports
        self._reports = []
        return reports

    def withdraw_opening(self, event_time: int, reason: str) -> list[VenueReport]:
        """Refuse the orders that are still on their way and may open a position, and return what is said of them."""
        for _, _, command in self._pending:
            if isinstance(command, PlaceOrder) and not command.reduce_only:
                self._refuse(command, max(event_time, self._market_time), reason)
        self._pending = [entry for entry in self._pending if isinstance(entry[2], CancelOrder) or entry[2].reduce_only]
        reports, self._reports = self._reports, []
        return reports

    # Market data.

    def _begin(self, event: Trade | BestQuote | DepthSnapshot | DepthDelta | MarkPrice | ClockTick) -> Matcher | None:
        if event.event_time > self._market_time:
            self._market_time = event.event_time
            if self._pending:
                self._release(event.event_time)
        return self._matchers.get(event.instrument)

    def _on_trade(self, event: Trade) -> None:
        matcher = self._begin(event)
        if matcher is not None:
            matcher.apply_trade(event)
            if matcher.outcomes:
                self._report(matcher)

    def _on_quote(self, event: BestQuote) -> None:
        matcher = self._begin(event)
        if matcher is not None:
            matcher.apply_quote(event)
            if matcher.outcomes:
                self._report(matcher)

    def _on_snapshot(self, event: DepthSnapshot) -> None:
        matcher = self._begin(event)
        if matcher is not None:
            matcher.apply_snapshot(event)
            self._report(matcher)

    def _on_delta(self, event: DepthDelta) -> None:
        matcher = self._begin(event)
        if matcher is not None:
            matcher.apply_delta(event)
            self._report(matcher)

    def _on_mark(self, event: MarkPrice) -> None:
        matcher = self._begin(event)
        if matcher is not None:
            matcher.apply_mark(event)
            self._report(matcher)

    def _on_tick(self, event: ClockTick) -> None:
        self._begin(event)
        for matcher in self._matchers.values():
            matcher.apply_time(event.event_time, event.event_id)
            self._report(matcher)

    def _on_bar(self, event: ExchangeBar) -> None:
        if event.is_history:
            return
        matcher = self._matchers.get(event.instrument)
        if matcher is None or matcher.has_ticks:
            if event.event_time > self._market_time:
                self._market_time = event.event_time
                self._release(event.event_time)
            return
        matcher.open_bar(event)
        self._report(matcher)
        self._release(min(event.event_time, event.open_time + self._terms.bar_open_grace_ns), event.instrument)
        self._market_time = max(self._market_time, event.event_time)
        matcher.walk_bar(event)
        self._report(matcher)
        self._release(event.event_time, event.instrument)
        matcher.close_bar()

    # Commands.

    def _on_place(self, command: PlaceOrder) -> None:
        if command.account != self.account:
            return
        if command.client_order_id in self._client_ids:
            time = max(command.event_time, self._market_time)
            self._refuse(command, time, filters.DUPLICATE_ID)
            return
        self._client_ids[command.client_order_id] = None
        if len(self._client_ids) > REMEMBERED_CLIENT_IDS:
            del self._client_ids[next(iter(self._client_ids))]
        self._await(command, is_cancel=False)

    def _on_cancel(self, command: CancelOrder) -> None:
        if command.account == self.account:
            self._await(command, is_cancel=True)

    def _await(self, command: PlaceOrder | CancelOrder, *, is_cancel: bool) -> None:
        if self._arrives_at_close(command.instrument):
            arrival = self._market_time
        else:
            arrival = self._latency.arrival_time(
                command.client_order_id, command.event_time, self._market_time, is_cancel=is_cancel
            )
        self._order_count += 1
        bisect.insort(self._pending, (arrival, self._order_count, command), key=lambda pending: pending[:2])
        if self._market_time:
            self._release(self._market_time)

    def _arrives_at_close(self, instrument: str) -> bool:
        return self._terms.bar_fill is BarFill.CLOSE and self.is_bar_driven(instrument)

    def _release(self, until: int, bar_instrument: str = "") -> None:
        # Where bars are the market, only the next bar says what an order met: ticks between them let nothing arrive.
        if not self._pending or self._pending[0][0] > until:
            return
        pending, self._pending = self._pending, []
        for entry in pending:
            arrival, sequence, command = entry
            matcher = self._matchers.get(command.instrument)
            waits_for_bar = (
                self._terms.bar_fill is not BarFill.CLOSE
                and matcher is not None
                and matcher.is_bar_driven
                and command.instrument != bar_instrument
            )
            if arrival > until or waits_for_bar:
                self._pending.append(entry)
            elif isinstance(command, PlaceOrder):
                self._place(command, arrival, sequence)
            else:
                self._cancel(command, arrival)

    def _place(self, command: PlaceOrder, arrival: int, sequence: int) -> None:
        matcher = self._matchers.get(command.instrument)
        if matcher is None:
            self._refuse(command, arrival, filters.unknown_symbol(command.instrument))
            return
        refusal = matcher.refuse(command)
        if refusal:
            self._refuse(command, arrival, refusal)
            return
        is_limit = command.order_type is OrderType.LIMIT
        order = VenueOrder(
            client_order_id=command.client_order_id,
            venue_order_id=f"paper-{sequence}",
            instrument=command.instrument,
            cause_id=command.event_id,
            sequence=sequence,
            side=command.side,
            order_type=command.order_type,
            time_in_force=command.time_in_force,
            is_reduce_only=command.reduce_only,
            quantity=to_e8(command.quantity),
            limit=to_e8(command.limit_price) if is_limit and command.limit_price is not None else None,
            trigger=to_e8(command.trigger_price) if command.trigger_price is not None else None,
            callback_rate=to_e8(command.callback_rate) if command.callback_rate is not None else None,
        )
        matcher.submit(order, arrival)
        self._report(matcher)

    def _cancel(self, command: CancelOrder, arrival: int) -> None:
        matcher = self._matchers.get(command.instrument)
        if matcher is not None and matcher.cancel(command.client_order_id, arrival, command.event_id):
            self._report(matcher)
            return
        self._append(
            command.instrument, command.client_order_id, "", ReportKind.CANCEL_REJECTED, arrival, command.event_id,
            filters.UNKNOWN_ORDER,
        )  # fmt: skip

    # Reports.

    def _refuse(self, command: PlaceOrder, event_time: int, reason: str) -> None:
        self._append(
            command.instrument, command.client_order_id, "", ReportKind.REJECTED, event_time, command.event_id, reason
        )

    def _append(
        self,
        instrument: str,
        client_order_id: str,
        venue_order_id: str,
        kind: ReportKind,
        event_time: int,
        cause_id: str,
        reason: str,
    ) -> None:
        self._reports.append(
            VenueReport(
                event_id=self._next_id(),
                event_time=event_time,
                account=self.account,
                instrument=instrument,
                client_order_id=client_order_id,
                venue_order_id=venue_order_id,
                kind=kind,
                reason=reason,
                cause_id=cause_id,
            )
        )

    def _next_id(self) -> str:
        self._sequence += 1
        return f"report/{self.account}/{self._sequence}"

    def _report(self, matcher: Matcher) -> None:
        for outcome in matcher.outcomes:
            order = outcome.order
            if outcome.liquidity is None:
                self._append(
                    order.instrument,
                    order.client_order_id,
                    order.venue_order_id if outcome.kind is not ReportKind.REJECTED else "",
                    outcome.kind,
                    outcome.event_time,
                    outcome.cause_id,
                    outcome.reason,
                )
                continue
            price, quantity = from_e8(outcome.price), from_e8(outcome.quantity)
            self._trade_count += 1
            self._reports.append(
                VenueReport(
                    event_id=self._next_id(),
                    event_time=outcome.event_time,
                    account=self.account,
                    instrument=order.instrument,
                    client_order_id=order.client_order_id,
                    venue_order_id=order.venue_order_id,
                    kind=outcome.kind,
                    last_quantity=quantity,
                    last_price=price,
                    fee=self._fees.fee_of(matcher.rules, price, quantity, outcome.liquidity),
                    liquidity=outcome.liquidity,
                    venue_trade_id=f"paper-{self._trade_count}",
                    cause_id=outcome.cause_id,
                )
            )
        matcher.outcomes.clear()

    def restore(self, state: PaperVenueState) -> None:
        """Take over what was kept. Raises `StateMismatch` where it is another account's.

        Instruments that the state does not know start afresh; one it knows and the venue no longer lists is refused
        while a position or an order is open in it.
        """
        if state.account != self.account:
            raise StateMismatch(f"the state is of account {state.account!r}, this venue serves {self.account!r}")
        for name, matcher in state.matchers.items():
            if name in self._matchers:
                adopt(self._matchers[name], matcher)
            elif matcher.position or matcher.open_order_count:
                raise StateMismatch(
                    f"the state holds a position or orders in {name}, which is not configured; add it again"
                )
        adopt(self, replace(state, matchers=self.matchers))
