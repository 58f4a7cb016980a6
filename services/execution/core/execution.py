"""Execution: an approved intent becomes one command, a report becomes order state, position and account state.

Nothing acts before it was written: a verdict yields `PlaceOrder`, which comes back from its topic before the paper
venue sees it (or, in external mode, before the outbox calls the venue), and the venue's reports come back from theirs
before they are booked. The core sends no order that was not approved; where one turns up it halts by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any, cast

from libs.domain.accounts import AccountState, Position, VenueAccount
from libs.domain.control import ALL_ACCOUNTS, Alert, ControlCommand, ControlState, Severity, TradingState
from libs.domain.events import Event, Unhandleable
from libs.domain.market import (
    BestQuote,
    ClockTick,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    FundingSettled,
    MarkPrice,
    Trade,
)
from libs.domain.market_columns import MarketColumns, Stretch
from libs.domain.numbers import NANOSECONDS, to_e8
from libs.domain.orders import (
    CancelOrder,
    IntentAction,
    OrderApproved,
    OrderStatus,
    PlaceOrder,
    ReportKind,
    VenueReport,
    client_order_id_of,
)
from libs.domain.state import StateFormat, StateMismatch, adopt
from libs.matching.paper_venue import PaperVenue, PaperVenueState
from services.execution.core.commands import (
    check_verdict,
    make_cancel_command,
    make_local_rejection,
    make_place_command,
)
from services.execution.core.ledger import ExecutionLedger, ExecutionLedgerState, OpeningOrder
from services.execution.core.order_states import ManagedOrder
from services.execution.core.send_gate import SendGate

# A venue that refuses a second order of an id says nothing about the first.
DUPLICATE_ID_CODE = "-4116"
REMEMBERED_INTENTS = 2048
REMEMBERED_CLOSED_ORDERS = 128
NOTHING: tuple[Event, ...] = ()
WITHDRAWN = "not sent: trading was stopped before it arrived"
SERVICE = "execution"
MISMATCH_ALERT = "orders_do_not_match_intents"

_MarketEvent = Trade | BestQuote | DepthSnapshot | DepthDelta | MarkPrice | FundingSettled | ExchangeBar | ClockTick


@dataclass(eq=False)
class ExecutionState:
    """What is kept between events; `_published` is what the topics last got of the account."""

    ledger: ExecutionLedgerState
    gate: SendGate
    venue: PaperVenueState | None
    _has_books: bool
    _orders: dict[str, ManagedOrder] = field(default_factory=dict)
    _open_ids: dict[str, None] = field(default_factory=dict)
    _closed_ids: dict[str, None] = field(default_factory=dict)
    _intents: dict[str, None] = field(default_factory=dict)
    _alert_count: int = 0
    _published: tuple[Decimal, tuple[Decimal, ...], int] | None = None
    _next_account_time: int = 0


def _rename_published(values: dict[str, Any]) -> dict[str, Any]:
    return {("_published" if name == "_told" else name): value for name, value in values.items()}


STATE = StateFormat("execution", 2, ExecutionState, migrations={1: _rename_published})


class ExecutionCore(ExecutionState):
    """The core of execution for one account.

    With a `venue` (paper) commands are given to it and its reports are returned; without one (external) an outbox
    carries commands out and writes the reports. A verdict is acted on once among the last 2,048 intents; closed orders
    are kept for late reports until 128 later ones have closed. `account_interval_ns` bounds how often a moving mark
    alone makes an account state, in market time.
    """

    def __init__(
        self,
        account: str,
        starting_balance: Decimal,
        *,
        leverage: Decimal = Decimal(3),
        venue: PaperVenue | None = None,
        account_interval_ns: int = 5 * NANOSECONDS,
    ) -> None:
        self.account = account
        self._ledger = ExecutionLedger(account, starting_balance, leverage, charges_funding=venue is not None)
        self._venue = venue
        # A real venue keeps the account; no state is published until its first answer came.
        super().__init__(self._ledger, SendGate(account, SERVICE), venue, venue is not None)
        self._account_interval_ns = account_interval_ns
        self._handlers: dict[type, Callable[[Any], Sequence[Event]]] = {
            Trade: self._on_market,
            BestQuote: self._on_market,
            DepthSnapshot: self._on_market,
            DepthDelta: self._on_market,
            MarkPrice: self._on_market,
            FundingSettled: self._on_market,
            ExchangeBar: self._on_market,
            ClockTick: self._on_market,
            OrderApproved: self._on_approved,
            PlaceOrder: self._on_place,
            CancelOrder: self._on_cancel,
            VenueReport: self._on_report,
            VenueAccount: self._on_venue_account,
            ControlCommand: self._on_control_command,
            ControlState: self._on_control_state,
        }

    @property
    def trading_state(self) -> TradingState:
        """The strictest trading state in force here."""
        return self.gate.state

    def order_status(self, client_order_id: str) -> OrderStatus | None:
        """Return where an order stands, None for one that is not known (any more)."""
        order = self._orders.get(client_order_id)
        return order.status if order else None

    def is_quiet(self, instrument: str) -> bool:
        """Whether the next bar of a market of bars can change nothing here but the price and the account's equity."""
        venue = self._venue
        return venue is not None and venue.is_idle(instrument) and not self._open_ids and self._published is not None

    def pass_bars(self, instrument: str, event_time: int, close_e8: int, volume_e8: int, count: int) -> None:
        """Go to the end of `count` bars during which it `is_quiet`, as if they had been handled one by one."""
        assert self._venue is not None, "only a paper venue passes bars"
        self._venue.pass_bars(instrument, event_time, close_e8, volume_e8)
        states = count if self._ledger.has_open_position else 0
        self._ledger.pass_bars(instrument, close_e8, states)
        if states:
            self._next_account_time = event_time + self._account_interval_ns

    def pass_orders(
        self, held: Position, wallet_balance: Decimal, orders: int, states: int, event_time: int, cause_id: str
    ) -> AccountState:
        """Take over what `orders` filled at once came to while it `is_quiet`; return the last of the account's `states`
        since, made at `event_time`.
        """
        assert self._venue is not None, "only a paper venue fills orders at once"
        self._venue.pass_orders(held.instrument, to_e8(held.quantity), orders)
        self._ledger.pass_orders(held, wallet_balance, states - 1)
        return self._account_state(event_time, cause_id)

    def is_quiet_between_trades(self, instrument: str) -> bool:
        """Whether the next trade or tick of a market of trades can change nothing here but the price."""
        venue = self._venue
        return (
            venue is not None
            and venue.has_no_orders
            and not venue.is_bar_driven(instrument)
            and not self._open_ids
            and self._published is not None
        )

    @property
    def next_account_time(self) -> int | None:
        """When the market's move alone makes the next account state (ns); None while no position is open."""
        return self._next_account_time if self._ledger.has_open_position else None

    @property
    def account_interval_ns(self) -> int:
        """Least market time between account states that the market's move alone makes."""
        return self._account_interval_ns

    def pass_states(self, count: int, event_time: int) -> None:
        """Count account states that the market's move alone made, the last of them at `event_time`."""
        self._ledger.sequence += count
        self._next_account_time = event_time + self._account_interval_ns

    def pass_trades(self, instrument: str, event_time: int, price_e8: int) -> None:
        """Go to the last of trades during which it `is_quiet_between_trades`, before the next account state is due."""
        assert self._venue is not None, "only a paper venue passes trades"
        self._venue.pass_bars(instrument, event_time, price_e8)
        self._ledger.pass_bars(instrument, price_e8, 0)

    def pass_events(self, columns: MarketColumns, begin: int, end: int, *, bound: int, opened: int) -> int:
        """Take over the trades, quotes and deltas of [begin, end) that change nothing here but prices and what the
        paper venue knows; return the first event that must be handled. See `PaperVenue.pass_events`. `note_passed`
        takes over the rest.
        """
        if self._venue is None or self._published is None:
            return begin
        if self._ledger.has_open_position:
            bound = min(bound, self._next_account_time)
        return self._venue.pass_events(columns, begin, end, bound=bound, opened=opened)

    def note_passed(self, columns: MarketColumns, passed: Stretch) -> None:
        """Know the prices and the latest time of events that were passed."""
        assert self._venue is not None, "only a paper venue passes events"
        price_e8 = None
        if passed.last_trade >= 0:
            trade = cast(Trade, columns.event(passed.last_trade))
            price_e8 = trade.price_e8
            self._ledger.observe_trade(trade)
        if passed.whole_quote >= 0:
            self._ledger.observe_quote(cast(BestQuote, columns.event(passed.whole_quote)))
        self._venue.note_passed(columns.instrument, passed.latest_time, price_e8)

    def held(self, instrument: str) -> Position:
        """Return the position in an instrument."""
        return self._ledger.position(instrument)

    @property
    def wallet_balance(self) -> Decimal:
        """Realised profit, fees and funding included."""
        return self._ledger.wallet_balance

    def value_at(self, instrument: str, close_e8: int) -> tuple[Decimal, Decimal]:
        """Return equity and available balance with the price of an instrument at a close; changes nothing else."""
        self._ledger.pass_bars(instrument, close_e8, 0)
        equity = self._ledger.equity()
        return equity, max(Decimal(0), equity - self._ledger.initial_margin(self._opening_orders()))

    def handle(self, event: Event) -> Sequence[Event]:
        """Advance by one event; events that do not concern execution or its account change nothing."""
        handler = self._handlers.get(type(event))
        return NOTHING if handler is None else handler(event)

    # Market.

    def _on_market(self, event: _MarketEvent) -> Sequence[Event]:
        reports: Sequence[Event] = self._venue.handle(event) if self._venue is not None else NOTHING
        is_due = self._published is None and self._has_books
        ledger = self._ledger
        if isinstance(event, BestQuote):
            ledger.observe_quote(event)
        elif isinstance(event, Trade):
            ledger.observe_trade(event)
        elif isinstance(event, MarkPrice):
            is_due |= ledger.observe_mark(event)
        elif isinstance(event, FundingSettled):
            is_due |= ledger.observe_funding(event)
        elif isinstance(event, ExchangeBar) and not event.is_history:
            ledger.observe_bar(event)
            is_due |= ledger.has_open_position
        if not is_due and event.event_time >= self._next_account_time and ledger.has_open_position:
            is_due = not self._waits_for_bar(event)
        if is_due:
            return [*reports, self._account_state(event.event_time, event.event_id)]
        return reports

    def _waits_for_bar(self, event: _MarketEvent) -> bool:
        # Where bars are the market a tick knows only the bar before; the bar that follows it says what the account is.
        return isinstance(event, ClockTick) and self._venue is not None and self._venue.is_bar_driven(event.instrument)

    def _account_state(self, event_time: int, cause_id: str) -> AccountState:
        self._published = (*self._ledger.summary(), len(self._open_ids))
        self._next_account_time = event_time + self._account_interval_ns
        return self._ledger.make_state(event_time, cause_id, len(self._open_ids), self._opening_orders())

    def _opening_orders(self) -> list[OpeningOrder]:
        opening = []
        for name in self._open_ids:
            order = self._orders[name]
            command = order.command
            if not command.reduce_only:
                price = command.limit_price or command.trigger_price or Decimal(0)
                opening.append(OpeningOrder(command.instrument, command.side, order.remaining, price))
        return opening

    def _account_state_if_changed(self, event_time: int, cause_id: str) -> Sequence[Event]:
        if not self._has_books or self._published == (*self._ledger.summary(), len(self._open_ids)):
            return NOTHING
        return [self._account_state(event_time, cause_id)]

    # Verdicts.

    def _on_approved(self, verdict: OrderApproved) -> Sequence[Event]:
        if verdict.account != self.account:
            return NOTHING
        intent = verdict.intent
        check_verdict(verdict)
        client_order_id = client_order_id_of(verdict.intent_id)
        if client_order_id in self._intents or client_order_id in self._orders:
            return NOTHING
        if intent.action is IntentAction.CANCEL:
            target = self._orders.get(intent.target_client_order_id)
            if target is None:
                raise Unhandleable(f"intent {verdict.intent_id} cancels {intent.target_client_order_id!r}, not known")
            self._remember_intent(client_order_id)
            return [self._cancel_command(target, verdict.event_time, verdict.intent_id)]
        self._remember_intent(client_order_id)
        return self._place(verdict, client_order_id)

    def _place(self, verdict: OrderApproved, client_order_id: str) -> Sequence[Event]:
        command = make_place_command(verdict)
        order = ManagedOrder(command)
        self._orders[client_order_id] = order
        refusal = self.gate.refuse(is_reducing=self._is_reducing(command))
        if refusal:
            order.status = OrderStatus.REJECTED
            self._retire(client_order_id)
            return [order.make_event(command.event_time, reason=refusal)]
        self._open_ids[client_order_id] = None
        return [
            command,
            order.make_event(command.event_time),
            *self._account_state_if_changed(command.event_time, command.event_id),
        ]

    def _is_reducing(self, command: PlaceOrder) -> bool:
        if command.reduce_only:
            return True
        held = self._ledger.position(command.instrument).quantity
        if held * command.side.sign >= 0:
            return False
        others = (self._orders[name] for name in self._open_ids if name != command.client_order_id)
        pending = sum(
            order.remaining
            for order in others
            if order.command.side is command.side
            and order.command.instrument == command.instrument
            and not order.command.reduce_only
        )
        return command.quantity + pending <= abs(held)

    def _remember_intent(self, client_order_id: str) -> None:
        self._intents[client_order_id] = None
        if len(self._intents) > REMEMBERED_INTENTS:
            del self._intents[next(iter(self._intents))]

    # Commands, back from their topic.

    def _on_place(self, command: PlaceOrder) -> Sequence[Event]:
        if command.account != self.account:
            return NOTHING
        order = self._orders.get(command.client_order_id)
        if order is None or order.command != command:
            return self._halt_itself(command.event_time, command.event_id, f"{command.event_id} was never approved")
        if order.has_been_sent or order.status is not OrderStatus.SUBMITTING:
            return NOTHING
        if self._venue is None:
            # The outbox has a gate of its own and may have sent it by now: what became of it is for it to say.
            order.has_been_sent = True
            return NOTHING
        is_reducing = self._is_reducing(command)
        refusal = self.gate.refuse(is_reducing=is_reducing)
        if not refusal and not is_reducing:
            refusal = self._refuse_margin()
        if refusal:
            return [make_local_rejection(command, refusal)]
        order.has_been_sent = True
        return self._venue.handle(command)

    def _refuse_margin(self) -> str:
        # The paper venue knows no balance, so its margin check is made before it; the order counts as open already.
        needed, equity = self._ledger.initial_margin(self._opening_orders()), self._ledger.equity()
        if needed <= equity:
            return ""
        return f"-2019 margin is insufficient: {needed} USDT needed with this order, equity is {equity}"

    def _on_cancel(self, command: CancelOrder) -> Sequence[Event]:
        if command.account != self.account:
            return NOTHING
        order = self._orders.get(command.client_order_id)
        if order is None:
            raise Unhandleable(f"{command.event_id} cancels an order that is not known")
        if not order.has_been_sent:
            return NOTHING
        return self._venue.handle(command) if self._venue is not None else NOTHING

    def _cancel_command(self, order: ManagedOrder, event_time: int, cause_id: str) -> CancelOrder:
        order.is_cancel_sent = True
        return make_cancel_command(order.command, event_time, cause_id)

    # Reports, back from their topic.

    def _on_report(self, report: VenueReport) -> Sequence[Event]:
        if report.account != self.account:
            return NOTHING
        order = self._orders.get(report.client_order_id)
        if order is None:
            raise Unhandleable(f"{report.event_id} speaks of order {report.client_order_id!r}, not known")
        if report.instrument != order.command.instrument:
            raise Unhandleable(
                f"{report.event_id} names {report.instrument}, the order is in {order.command.instrument}"
            )
        if report.kind is ReportKind.FILL:
            return self._on_fill(order, report)
        if report.kind is ReportKind.REJECTED and report.reason.startswith(DUPLICATE_ID_CODE):
            return NOTHING
        event = order.apply_report(report)
        if event is None:
            return NOTHING
        if not order.status.is_open:
            self._retire(report.client_order_id)
        return [event, *self._account_state_if_changed(report.event_time, report.event_id)]

    def _on_fill(self, order: ManagedOrder, report: VenueReport) -> Sequence[Event]:
        quantity, price, fee = report.last_quantity, report.last_price, report.fee
        if quantity is None or price is None or fee is None or not report.venue_trade_id:
            raise Unhandleable(f"{report.event_id} is a fill without quantity, price, fee or venue trade id")
        if quantity <= 0 or price <= 0:
            raise Unhandleable(f"{report.event_id} is a fill of {quantity} at {price}; both must be above zero")
        if order.has_booked(report):
            return NOTHING
        command = order.command
        realised = self._ledger.apply_fill(command.instrument, command.side, quantity, price, fee)
        outputs: list[Event] = [order.apply_fill(report, quantity, price, realised)]
        if not order.status.is_open:
            self._retire(report.client_order_id)
        if order.filled_quantity > command.quantity:
            outputs.extend(
                self._halt_itself(
                    report.event_time,
                    report.event_id,
                    f"{command.client_order_id} filled {order.filled_quantity} of {command.quantity} ordered",
                )
            )
        outputs.append(self._account_state(report.event_time, report.event_id))
        return outputs

    def _on_venue_account(self, account: VenueAccount) -> Sequence[Event]:
        if account.account != self.account:
            return NOTHING
        if self._venue is not None:
            raise Unhandleable(f"{account.event_id} is a real venue's, and this account trades on paper")
        if self._has_books and not account.cause_id:
            difference = self._ledger.find_difference(account)
            if difference:
                return self._halt_itself(account.event_time, account.event_id, difference)
            self._ledger.wallet_balance = account.wallet_balance
        else:
            self._has_books = True
            self._ledger.take_over(account)
        return [self._account_state(account.event_time, account.event_id)]

    def _retire(self, client_order_id: str) -> None:
        self._open_ids.pop(client_order_id, None)
        self._closed_ids[client_order_id] = None
        if len(self._closed_ids) > REMEMBERED_CLOSED_ORDERS:
            oldest = next(iter(self._closed_ids))
            del self._closed_ids[oldest]
            del self._orders[oldest]

    # Control.

    def _on_control_command(self, command: ControlCommand) -> Sequence[Event]:
        was_self_halted = self.gate.is_self_halted
        if not self.gate.take_command(command):
            return NOTHING
        if was_self_halted and not self.gate.is_self_halted:
            message = f"resumed by {command.issued_by}: {command.reason}"
            return [self._alert(command.event_time, message, is_raised=False)]
        return self._cancel_opening_orders(command.event_time, command.event_id)

    def _on_control_state(self, state: ControlState) -> Sequence[Event]:
        if state.account not in (self.account, ALL_ACCOUNTS):
            return NOTHING
        self.gate.published = state.state
        return self._cancel_opening_orders(state.event_time, state.event_id)

    def _halt_itself(self, event_time: int, cause_id: str, message: str) -> list[Event]:
        alert = self._alert(event_time, f"trading halted: {message}", is_raised=True)
        halt = self.gate.halt_itself(self._alert_count, event_time, message)
        return [halt, alert, *self._cancel_opening_orders(event_time, cause_id)]

    def _cancel_opening_orders(self, event_time: int, cause_id: str) -> list[Event]:
        if self.gate.state is TradingState.ACTIVE:
            return []
        # A paper order on its way is not beyond recall, and none may arrive any more.
        withdrawn = self._venue.withdraw_opening(event_time, WITHDRAWN) if self._venue is not None else []
        for report in withdrawn:
            self._orders[report.client_order_id].is_cancel_sent = True
        orders = [self._orders[name] for name in self._open_ids]
        cancels = [
            self._cancel_command(order, event_time, cause_id)
            for order in orders
            if not order.command.reduce_only and not order.is_cancel_sent
        ]
        return [*withdrawn, *cancels]

    def _alert(self, event_time: int, message: str, *, is_raised: bool) -> Alert:
        self._alert_count += 1
        return Alert(
            event_id=f"alert/execution/{self.account}/{self._alert_count}",
            event_time=event_time,
            service=SERVICE,
            name=MISMATCH_ALERT,
            severity=Severity.CRITICAL,
            is_raised=is_raised,
            message=message,
        )

    def snapshot(self) -> bytes:
        """Return the whole state as bytes."""
        return STATE.encode(self)

    def restore(self, state: bytes) -> None:
        """Take over a state made by `snapshot`. Raises `StateMismatch` for another account's or another mode's."""
        kept = STATE.decode(state)
        if (kept.venue is None) != (self.venue is None):
            made, wanted = ("external", "paper") if kept.venue is None else ("paper", "external")
            raise StateMismatch(
                f"the state was made in {made} mode and cannot go on in {wanted} mode; start a new session"
            )
        if kept.ledger.account != self.account:
            raise StateMismatch(f"the state is of account {kept.ledger.account!r}, this service keeps {self.account!r}")
        adopt(self._ledger, kept.ledger)
        if self._venue is not None and kept.venue is not None:
            self._venue.restore(kept.venue)
        adopt(self, replace(kept, ledger=self._ledger, venue=self._venue))
