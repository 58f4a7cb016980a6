"""The gate: every intent gets exactly one verdict, and what the gate does by itself when limits of loss are passed.

States::

    ACTIVE --soft drawdown, daily loss, REDUCE--> REDUCING --hard drawdown, HALT, FLATTEN--> HALTED
       '--------------------hard drawdown, HALT, FLATTEN---------------------------------------^
    any --RESUME--> ACTIVE          (only a command relaxes; what is still past a limit tightens again at once)

The account and all accounts (`*`) hold trading back each by itself (`TradingControl`): RESUME lifts the hold of its own
scope alone. What the gate does by itself holds the account.

Cancels and reductions pass in every state. HALT cancels the working orders that could add risk; FLATTEN and the hard
drawdown cancel all of them and close every position, again and again until the account is flat. Limits change by
SET_LIMITS alone; each change is a new version on a `ControlState`. Version 1 are the limits of the settings: by the
first SET_LIMITS that they issued, so that a replay needs no settings, or, where none did, those handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import ROUND_HALF_EVEN, Context, Decimal, getcontext, localcontext, setcontext
from typing import Any

from libs.domain.accounts import AccountState
from libs.domain.bars import Bar
from libs.domain.control import (
    ALL_ACCOUNTS,
    Alert,
    ControlAction,
    ControlCommand,
    ControlState,
    Hold,
    Severity,
    TradingState,
    describe_command,
    hold_of,
)
from libs.domain.events import Event
from libs.domain.forecasts import Forecast
from libs.domain.instruments import Instrument
from libs.domain.market import BestQuote, ClockTick, ExchangeBar, MarkPrice, Trade
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import (
    CheckResult,
    IntentAction,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    Origin,
    client_order_id_of,
    verdict_id_of,
)
from libs.margin.brackets import BracketTable
from libs.margin.default_brackets import find_brackets
from services.risk.core.checks import run_checks, show_checks
from services.risk.core.context import REDUCTION, CheckContext, build_context
from services.risk.core.limits import SETTINGS, LimitError, RiskLimits
from services.risk.core.own_orders import make_cancel, make_closing_orders, make_stop
from services.risk.core.state import STATE, UNSCOPED, ZERO, GateState, MarketView, RiskState, WorkingOrder
from services.risk.core.stops import ProtectiveStops, StopOrder, has_protective_stops

_EXACT = Context(prec=50, rounding=ROUND_HALF_EVEN)
_FLATTEN_RETRY_NS = 5 * NANOSECONDS
_FLATTEN_OVERDUE_NS = 30 * NANOSECONDS
_DAY_NS = 86_400 * NANOSECONDS
_MINUTE_MS = 60_000


@dataclass(frozen=True, slots=True)
class LossRecord:
    """What limits of loss are judged by: equity as the UTC day (days since the epoch) began and at its peak, losing
    closes in a row, the time of the last (ns) and the last order that closed at a profit or a loss.
    """

    day: int
    day_start: Decimal
    peak: Decimal
    in_a_row: int
    last_time: int
    last_closing_order: str


class RiskCore:
    """Guards one account. Takes intents, market events, bars, forecasts, order events, account states and commands.

    `instruments` is keyed by instrument id, `brackets` by symbol (its venue's if None). The forecasts that count are
    those of `model`, NAME/VERSION, or of the champion where none is named. Returns one `OrderApproved` or
    `OrderRefused` per intent id, `ControlState` on every change, and orders of its own (origin RISK). Without
    `follows_settings` it ignores the limits that settings put on record and those of a restored state, so that those
    handed in count: for asking what other settings would have changed.
    """

    def __init__(
        self,
        limits: RiskLimits,
        instruments: Mapping[str, Instrument],
        account: str,
        brackets: Mapping[str, BracketTable] | None = None,
        *,
        model: str = "",
        follows_settings: bool = True,
    ) -> None:
        self._limits = limits
        self._account = account
        self._model = model
        self._follows_settings = follows_settings
        self._instruments = dict(instruments)
        tables = {
            name: find_brackets(name) if brackets is None else brackets.get(rules.symbol)
            for name, rules in self._instruments.items()
        }
        self._brackets = {name: table for name, table in tables.items() if table is not None}
        self._stops = ProtectiveStops()
        self._state = GateState()
        self._takers: dict[type, Callable[[Any], None]] = {
            BestQuote: self._take_quote,
            Trade: self._take_trade,
            ExchangeBar: self._take_exchange_bar,
        }
        self._handlers: dict[type, Callable[[Any], list[Event]]] = {
            MarkPrice: self._on_mark,
            ClockTick: self._on_tick,
            OrderIntent: self._on_intent,
            OrderEvent: self._on_order_event,
            AccountState: self._on_account,
            ControlCommand: self._on_command,
            Forecast: self._on_forecast,
            Bar: self._on_bar,
        }

    @property
    def limits(self) -> RiskLimits:
        """The limits in force."""
        return self._limits

    @property
    def trading_state(self) -> TradingState:
        """The state in force."""
        return self._state.trading_state

    def handle(self, event: Event) -> list[Event]:
        """Advance by one event; kinds that the gate does not use are ignored."""
        take = self._takers.get(type(event))
        if take is not None:
            take(event)
            return []
        handler = self._handlers.get(type(event))
        if handler is None:
            return []
        # As `localcontext` does, without a copy of the context for every event.
        before = getcontext()
        setcontext(_EXACT)
        try:
            return handler(event)
        finally:
            setcontext(before)

    def is_quiet(self, instrument: str) -> bool:
        """Whether bars of a market without quotes and marks can change nothing here until equity nears a limit.

        So it is without working orders, unsettled fills or protective stops, and unless positions are being closed.
        """
        state, limits = self._state, self._limits
        view = state.markets.get(instrument)
        held = state.account is not None and any(position.quantity for position in state.account.positions)
        return (
            state.account is not None
            and view is not None
            and view.is_last_price
            and not view.mark_time
            and not state.orders
            and not state.unsettled
            and not (held and state.control.is_flattening)
            and not has_protective_stops(limits)
        )

    def equity_floor(self) -> float:
        """Return the equity below which a limit of loss is passed; the peak and the day's start only raise it."""
        state, limits = self._state, self._limits
        floor = state.peak_equity * (1 - limits.hard_drawdown_fraction)
        if state.trading_state is TradingState.ACTIVE:
            soft = state.peak_equity * (1 - limits.soft_drawdown_fraction)
            daily = state.day_start_equity * (1 - limits.max_daily_loss_fraction)
            floor = max(floor, soft, daily)
        return float(floor)

    def drawdown_share(self) -> float:
        """Return the share of the peak that equity may lose before a limit of drawdown is passed."""
        is_active = self._state.trading_state is TradingState.ACTIVE
        limits = self._limits
        return float(limits.soft_drawdown_fraction if is_active else limits.hard_drawdown_fraction)

    @property
    def peak_equity(self) -> Decimal:
        """The highest equity seen."""
        return self._state.peak_equity

    @property
    def losses(self) -> LossRecord:
        """What limits of loss are judged by."""
        state = self._state
        return LossRecord(
            state.day,
            state.day_start_equity,
            state.peak_equity,
            state.consecutive_losses,
            state.last_loss_time,
            state.last_closing_order,
        )

    def may_open_on_bars(self, instrument: str) -> bool:
        """Whether, on bars longer than a minute while it `is_quiet`, an order that opens fails none of the checks that
        depend on neither its size nor the equity nor the losses in a row.
        """
        state, limits, view = self._state, self._limits, self._state.market(instrument)
        warm = view.bar_count >= limits.volatility_warmup_bars and view.average_range_ppb > 0
        is_calm = view.range_ppm * 1000 <= limits.max_volatility_ratio * view.average_range_ppb
        return (
            state.trading_state is TradingState.ACTIVE
            and instrument in self._brackets
            and limits.allow_quote_as_mark
            and min(limits.max_open_orders, limits.max_orders_per_second, limits.max_orders_per_minute) > 0
            and limits.duplicate_window_ms <= _MINUTE_MS
            and not view.has_incomplete_bar
            and (is_calm if warm else not limits.require_volatility)
        )

    def brackets_of(self, instrument: str) -> BracketTable:
        """Return the leverage brackets of an instrument. Raises `KeyError` where there are none."""
        return self._brackets[instrument]

    def pass_account(self, account: AccountState) -> None:
        """Take over an account after orders that were approved, filled and settled while it `is_quiet`."""
        self._state.take_account(account)

    def pass_losses(self, losses: LossRecord) -> None:
        """Take over what limits of loss are judged by."""
        state = self._state
        state.day, state.day_start_equity, state.peak_equity = losses.day, losses.day_start, losses.peak
        state.consecutive_losses, state.last_loss_time = losses.in_a_row, losses.last_time
        state.last_closing_order = losses.last_closing_order

    def pass_bars(
        self,
        instrument: str,
        timeframe: str,
        close_times: Sequence[int],
        high_e8: Sequence[int],
        low_e8: Sequence[int],
        close_e8: Sequence[int],
    ) -> None:
        """Go to the end of bars of one UTC day during which it `is_quiet` and no limit was passed."""
        view = self._state.market(instrument)
        self._pass_prices(view, close_times[-1], close_e8[-1], (min(close_e8), max(close_e8)))
        if timeframe == "1m":
            warmup_bars = self._limits.volatility_warmup_bars
            for close_time, high, low, close in zip(close_times, high_e8, low_e8, close_e8, strict=True):
                view.add_bar(close_time, high, low, close, warmup_bars)
            view.has_incomplete_bar = False

    def pass_price(self, instrument: str, event_time: int, price_e8: int) -> None:
        """Go to the last price of a stretch during which it `is_quiet` and whose equity `pass_losses` tells."""
        self._pass_prices(self._state.market(instrument), event_time, price_e8, ())

    def pass_trades(self, instrument: str, event_time: int, price_e8: int, at_ticks: Sequence[int]) -> None:
        """Go to the last of trades of one UTC day during which it `is_quiet` and no limit was passed.

        `at_ticks` are the lowest and highest price that ticks between them saw, nothing where there were none.
        """
        self._pass_prices(self._state.market(instrument), event_time, price_e8, at_ticks)

    def price_source(self, instrument: str) -> tuple[int, bool]:
        """Return the time (ns) of an instrument's price, 0 before any, and whether a quote gave it."""
        view = self._state.market(instrument)
        return view.quote_time, bool(view.quote_time) and not view.is_last_price

    def pass_time(self, event_time: int) -> None:
        """Go to the latest time of trades and quotes whose prices need not be taken."""
        self._state.now = max(self._state.now, event_time)

    def _pass_prices(self, view: MarketView, event_time: int, last_e8: int, extremes: Sequence[int]) -> None:
        state = self._state
        view.quote_time = event_time
        with localcontext(_EXACT):
            # With a position equity moves one way with the price, so its peak is at one of the two.
            for extreme_e8 in extremes:
                view.bid_e8 = view.ask_e8 = extreme_e8
                equity = state.equity(self._limits.allow_quote_as_mark)
                if equity is not None:
                    state.peak_equity = max(state.peak_equity, equity)
        view.bid_e8 = view.ask_e8 = last_e8
        view.quote_skew_ns = 0
        state.now = max(state.now, event_time)

    def snapshot(self) -> bytes:
        """Return the whole state, limits included."""
        return STATE.encode(RiskState(self._state, self._limits.as_strings(), self._stops.state))

    def restore(self, state: bytes) -> None:
        """Take over a state made by `snapshot`; its limits replace those handed in where settings are followed."""
        kept = STATE.decode(state)
        self._state = kept.gate
        self._state.control = self._state.control.rename(UNSCOPED, self._account)
        if self._follows_settings:
            self._limits = self._limits.with_changes(kept.limits)
        self._stops.restore(kept.stops)

    # --- what is known ---------------------------------------------------------------------------------------

    def _take_quote(self, event: BestQuote) -> None:
        state = self._state
        view = state.market(event.instrument)
        if event.event_time >= view.quote_time:
            view.bid_e8, view.ask_e8 = event.bid_price_e8, event.ask_price_e8
            view.quote_time = event.event_time
            view.quote_skew_ns = event.received_time - event.event_time
            view.is_last_price = False
        state.now = max(state.now, event.event_time)

    def _take_trade(self, event: Trade) -> None:
        self._take_last_price(event, event.price_e8)

    def _take_exchange_bar(self, event: ExchangeBar) -> None:
        if not event.is_history:
            self._take_last_price(event, event.close_e8)

    def _take_last_price(self, event: Trade | ExchangeBar, price_e8: int) -> None:
        state = self._state
        view = state.market(event.instrument)
        if (view.is_last_price or not view.quote_time) and event.event_time >= view.quote_time:
            view.bid_e8 = view.ask_e8 = price_e8
            view.quote_time = event.event_time
            view.quote_skew_ns = event.received_time - event.event_time
            view.is_last_price = True
        state.now = max(state.now, event.event_time)

    def _on_mark(self, event: MarkPrice) -> list[Event]:
        state = self._state
        view = state.market(event.instrument)
        if event.event_time >= view.mark_time:
            view.mark_e8, view.mark_time = event.mark_price_e8, event.event_time
            view.mark_skew_ns = event.received_time - event.event_time
            view.funding_rate_e8 = event.funding_rate_e8
        return self._on_time(event)

    def _on_tick(self, event: ClockTick) -> list[Event]:
        return self._on_time(event)

    def _on_time(self, event: MarkPrice | ClockTick) -> list[Event]:
        self._state.now = max(self._state.now, event.event_time)
        return self._watch(event.event_id, event.event_time) + self._protect(event.event_id, event.instrument)

    def _on_order_event(self, event: OrderEvent) -> list[Event]:
        if event.account == self._account:
            self._state.take_order_event(event)
            self._stops.take_order_event(event)
        return []

    def _on_forecast(self, event: Forecast) -> list[Event]:
        if event.is_of(self._model):
            self._state.market(event.instrument).remember_forecast(
                event.event_id, event.event_time, event.is_incomplete
            )
        return []

    def _on_bar(self, event: Bar) -> list[Event]:
        if event.timeframe == "1m":
            view = self._state.market(event.instrument)
            view.has_incomplete_bar = event.is_incomplete
            view.add_bar(
                event.close_time, event.high_e8, event.low_e8, event.close_e8, self._limits.volatility_warmup_bars
            )
        return []

    def _on_account(self, event: AccountState) -> list[Event]:
        if event.account != self._account:
            return []
        is_first = self._state.account is None
        if not self._state.take_account(event):
            return []
        outputs: list[Event] = []
        if is_first:
            outputs.append(self._announce(event.event_id, event.event_time))
        outputs += self._watch(event.event_id, event.event_time)
        for instrument in sorted(self._instruments):
            outputs += self._protect(event.event_id, instrument)
        return outputs

    # --- verdicts --------------------------------------------------------------------------------------------

    def _on_intent(self, intent: OrderIntent) -> list[Event]:
        state = self._state
        if state.is_repeated(intent.event_id):
            return []
        equity = self._watch_equity()
        state.forget_before(state.now, self._limits.duplicate_window_ms * 1_000_000)
        context = self._context_of(intent, equity)
        checks = run_checks(context)
        failed = [check for check in checks if not check.has_passed]
        if failed:
            return [self._refuse(intent, checks, failed)]
        if context.exemption == REDUCTION and not intent.reduce_only:
            intent = replace(intent, reduce_only=True)
        if intent.action is IntentAction.PLACE:
            self._count(intent, context)
        return [self._approve(intent, checks, Origin.STRATEGY)]

    def _context_of(self, intent: OrderIntent, equity: Decimal | None) -> CheckContext:
        return build_context(
            intent,
            self._state,
            self._limits,
            self._account,
            self._instruments,
            self._brackets,
            equity,
        )

    def _count(self, intent: OrderIntent, context: CheckContext) -> None:
        state = self._state
        state.order_times.append(state.now)
        state.intent_shapes[context.shape] = state.now
        self._track(intent, context.price if context.price is not None else ZERO, is_from_risk=False)

    def _track(self, intent: OrderIntent, price: Decimal, *, is_from_risk: bool) -> None:
        self._state.orders[client_order_id_of(intent.event_id)] = WorkingOrder(
            instrument=intent.instrument,
            side=int(intent.side),
            remaining=intent.quantity,
            price=price,
            reduce_only=intent.reduce_only,
            is_conditional=intent.order_type.is_conditional,
            is_from_risk=is_from_risk,
        )

    def _approve(self, intent: OrderIntent, checks: tuple[CheckResult, ...], origin: Origin) -> OrderApproved:
        return OrderApproved(
            event_id=verdict_id_of(intent.event_id),
            event_time=intent.event_time,
            account=intent.account,
            instrument=intent.instrument,
            intent_id=intent.event_id,
            intent=intent,
            origin=origin,
            limits_version=self._state.limits_version,
            checks=checks,
        )

    def _refuse(self, intent: OrderIntent, checks: tuple[CheckResult, ...], failed: list[CheckResult]) -> OrderRefused:
        return OrderRefused(
            event_id=verdict_id_of(intent.event_id),
            event_time=intent.event_time,
            account=intent.account,
            instrument=intent.instrument,
            intent_id=intent.event_id,
            intent=intent,
            limits_version=self._state.limits_version,
            reasons=tuple(f"{check.name} is {check.value}, must be {check.limit}" for check in failed),
            checks=checks,
        )

    # --- control ---------------------------------------------------------------------------------------------

    def _on_command(self, command: ControlCommand) -> list[Event]:
        if command.account not in (ALL_ACCOUNTS, self._account):
            return []
        scope, cause, time = command.account, command.event_id, command.event_time
        reason = describe_command(command)
        hold = hold_of(command)
        if hold is not None:
            return (
                self._flatten(scope, reason, cause, time)
                if hold.is_flattening
                else self._tighten(scope, hold, cause, time)
            )
        if command.action is ControlAction.RESUME:
            return self._resume(command, reason)
        if command.action is ControlAction.SET_LIMITS:
            return self._set_limits(command, reason)
        return []

    def _set_limits(self, command: ControlCommand, described: str) -> list[Event]:
        state = self._state
        is_of_settings = command.issued_by == SETTINGS
        if is_of_settings and not self._follows_settings:
            return []
        is_first = is_of_settings and not state.has_settings_on_record
        try:
            limits = (RiskLimits() if is_first else self._limits).with_changes(command.arguments)
        except LimitError as error:
            refused = f"limits unchanged, refused {described}: {error}"
            return [replace(self._announce(command.event_id, command.event_time), reason=refused)]
        self._limits = limits
        state.has_settings_on_record |= is_of_settings
        state.limits_version += not is_first
        # Why trading is halted stays known: this is the reason of the new limits, not of the state.
        announced = replace(self._announce(command.event_id, command.event_time), reason=described)
        return [announced, *self._watch(f"{command.event_id}/watch", command.event_time)]

    def _resume(self, command: ControlCommand, described: str) -> list[Event]:
        state = self._state
        state.control = state.control.resume(command.account)
        left = state.control.in_force
        if left is None:
            state.reason = described
        else:
            scope, hold = left
            state.reason = f"stays {hold.state.name} until {scope} is resumed ({hold.reason}); {described}"
        if command.arguments.get("reset_drawdown") == "true":
            equity = state.equity(self._limits.allow_quote_as_mark)
            if equity is not None:
                state.peak_equity = state.day_start_equity = equity
            state.consecutive_losses = 0
        outputs: list[Event] = [
            self._announce(command.event_id, command.event_time),
            self._alert(command.event_id, command.event_time),
        ]
        return outputs + self._watch(f"{command.event_id}/watch", command.event_time)

    def _alert(self, cause: str, event_time: int) -> Alert:
        state = self._state
        is_halted = state.trading_state is TradingState.HALTED
        return Alert(
            event_id=f"alert/risk/{self._account}/{cause}",
            event_time=event_time,
            service="risk",
            name=f"trading_state/{self._account}",
            severity=Severity.CRITICAL if is_halted else Severity.WARNING,
            is_raised=state.trading_state is not TradingState.ACTIVE,
            message=f"{state.trading_state.name}: {state.reason}",
        )

    def _announce(self, cause: str, event_time: int) -> ControlState:
        state = self._state
        return ControlState(
            event_id=f"state/{self._account}/{cause}",
            event_time=event_time,
            account=self._account,
            state=state.trading_state,
            reason=state.reason,
            limits_version=state.limits_version,
            limits=self._limits.as_strings(),
            cause_id=cause,
        )

    def _tighten(self, scope: str, hold: Hold, cause: str, event_time: int) -> list[Event]:
        state = self._state
        state.control = state.control.tighten(scope, hold)
        in_force = state.trading_state
        if hold.state < in_force:  # the numbers of the states rise with their strictness
            return [replace(self._announce(cause, event_time), reason=f"stays {in_force.name}: {hold.reason}")]
        state.reason = hold.reason
        outputs: list[Event] = [self._announce(cause, event_time), self._alert(cause, event_time)]
        if in_force is TradingState.HALTED:
            outputs += self._cancel_working(cause, event_time, lambda order: not order.reduce_only)
        return outputs

    # --- what the gate does by itself ------------------------------------------------------------------------

    def _watch_equity(self) -> Decimal | None:
        """Follow the day's start and the peak; returns the equity."""
        state = self._state
        equity = state.equity(self._limits.allow_quote_as_mark)
        if equity is None:
            return None
        day = state.now // _DAY_NS
        if day != state.day:
            state.day = day
            state.day_start_equity = equity
        state.peak_equity = max(state.peak_equity, equity)
        return equity

    def _watch(self, cause: str, event_time: int) -> list[Event]:
        """Tighten where a limit of loss is passed; keep closing while flattening."""
        state, limits = self._state, self._limits
        equity = self._watch_equity()
        if equity is None:
            return []
        outputs: list[Event] = []
        fallen = state.peak_equity - equity
        lost = state.day_start_equity - equity
        if fallen > limits.hard_drawdown_fraction * state.peak_equity:
            if not state.control.is_flattening:
                reason = f"drawdown {fallen:f} of peak {state.peak_equity:f} USDT passes the hard limit"
                return self._flatten(self._account, reason, cause, event_time)
        elif state.trading_state is TradingState.ACTIVE:
            if fallen > limits.soft_drawdown_fraction * state.peak_equity:
                reason = f"drawdown {fallen:f} of peak {state.peak_equity:f} USDT passes the soft limit"
                outputs += self._tighten(self._account, Hold(TradingState.REDUCING, reason), cause, event_time)
            elif lost > limits.max_daily_loss_fraction * state.day_start_equity:
                reason = f"loss of {lost:f} USDT since the day began passes the daily limit"
                outputs += self._tighten(self._account, Hold(TradingState.REDUCING, reason), cause, event_time)
        if state.control.is_flattening and state.now - state.flatten_tried_at >= _FLATTEN_RETRY_NS:
            outputs += self._close_positions(cause, event_time)
        return outputs

    def _flatten(self, scope: str, reason: str, cause: str, event_time: int) -> list[Event]:
        outputs = self._tighten(scope, Hold(TradingState.HALTED, reason, is_flattening=True), cause, event_time)
        outputs += self._cancel_working(
            cause, event_time, lambda order: order.reduce_only and (order.is_conditional or not order.is_from_risk)
        )
        return outputs + self._close_positions(cause, event_time)

    def _cancel_working(self, cause: str, event_time: int, applies: Callable[[WorkingOrder], bool]) -> list[Event]:
        outputs: list[Event] = []
        for client_order_id, order in self._state.orders.items():
            if applies(order):
                outputs.append(self._cancel(client_order_id, order, cause, event_time))
        return outputs

    def _cancel(self, client_order_id: str, order: WorkingOrder, cause: str, event_time: int) -> OrderApproved:
        intent = make_cancel(self._account, client_order_id, order, cause, event_time)
        return self._approve_own(intent, CheckResult("origin", True, "cancel", "cancels always pass"))

    def _close_positions(self, cause: str, event_time: int) -> list[Event]:
        state = self._state
        is_overdue = state.now - state.flatten_tried_at >= _FLATTEN_OVERDUE_NS
        closing = {
            order.instrument for order in state.orders.values() if order.is_from_risk and not order.is_conditional
        }
        outputs: list[Event] = []
        for instrument in sorted(self._instruments):
            held = state.held(instrument).quantity + state.unsettled_quantity(instrument)
            if not held or (instrument in closing and not is_overdue):
                continue
            rules = self._instruments[instrument]
            for intent in make_closing_orders(self._account, rules, held, cause, event_time, state.reason):
                outputs.append(self._send_own(intent, "flatten"))
        state.flatten_tried_at = state.now
        return outputs

    def _protect(self, cause: str, instrument: str) -> list[Event]:
        """Bring the protective stops of an instrument in line with its position, once its fills are settled."""
        state, rules = self._state, self._instruments.get(instrument)
        if rules is None or state.account is None or state.control.is_flattening:
            return []
        if any(fill.instrument == instrument for fill in state.unsettled):
            return []
        reference = state.reference(instrument, self._limits.allow_quote_as_mark)
        if reference is None:
            return []
        held = state.held(instrument)
        outputs: list[Event] = []
        for action in self._stops.sync(
            instrument, held.quantity, held.entry_price, self._limits, rules, reference.price, state.now, cause
        ):
            if isinstance(action, StopOrder):
                intent = make_stop(self._account, instrument, action, cause, state.now)
                outputs.append(self._send_own(intent, action.kind))
            elif action.client_order_id in state.orders:
                order = state.orders[action.client_order_id]
                outputs.append(self._cancel(action.client_order_id, order, cause, state.now))
        return outputs

    def _send_own(self, intent: OrderIntent, kind: str) -> OrderApproved:
        verdict = self._approve_own(intent, CheckResult("origin", True, kind, "reductions always pass"))
        self._track(intent, ZERO, is_from_risk=True)
        return verdict

    def _approve_own(self, intent: OrderIntent, origin: CheckResult) -> OrderApproved:
        context = self._context_of(intent, self._state.equity(self._limits.allow_quote_as_mark))
        return self._approve(intent, (origin, *show_checks(context)), Origin.RISK)
