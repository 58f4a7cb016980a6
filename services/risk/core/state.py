"""What the gate remembers: the market per instrument, orders on their way, the account, losses. All of it in the
snapshot.

Positions are counted for the worst case. An approved order counts until its terminal event; a fill that the orders
topic reported counts as unsettled until an account state that includes it has been seen. So no order of arrival among
topics lets an exposure go uncounted; the most it does is count one twice for a moment.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from libs.domain.accounts import AccountState, Position
from libs.domain.control import TradingControl, TradingState
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS, from_e8
from libs.domain.orders import OrderEvent, OrderStatus
from libs.domain.state import StateFormat
from services.risk.core.stops import WatchedPosition

ZERO = Decimal(0)
# A mark is asked for several times until the next one comes.
_price = lru_cache(maxsize=256)(from_e8)
UNSCOPED = ""
_REMEMBERED_INTENTS = 4_096
_REMEMBERED_CAUSES = 256
_REMEMBERED_FORECASTS = 8
_AVERAGE_BARS = 60


@dataclass(slots=True)
class MarketView:
    """The last mark, quote, forecast and bar range of one instrument; times in ns, 0 for never seen.

    With `is_last_price` no quote was ever seen (a recording of trades or bars alone) and the last price stands in for
    both sides of it. `has_incomplete_bar`: the last bar lacks trades; so do those behind the `incomplete_forecasts`.
    """

    mark_e8: int = 0
    mark_time: int = 0
    mark_skew_ns: int = 0
    funding_rate_e8: int = 0
    bid_e8: int = 0
    ask_e8: int = 0
    quote_time: int = 0
    quote_skew_ns: int = 0
    is_last_price: bool = False
    forecasts: dict[str, int] = field(default_factory=dict)
    incomplete_forecasts: list[str] = field(default_factory=list)
    has_incomplete_bar: bool = False
    bar_close_time: int = 0
    bar_count: int = 0
    range_ppm: int = 0
    average_range_ppb: int = 0

    def remember_forecast(self, event_id: str, event_time: int, is_incomplete: bool) -> None:
        """Keep the last few forecasts' times, and which of them are incomplete."""
        self.forecasts[event_id] = event_time
        while len(self.forecasts) > _REMEMBERED_FORECASTS:
            del self.forecasts[next(iter(self.forecasts))]
        if is_incomplete or self.incomplete_forecasts:
            known = [*self.incomplete_forecasts, *([event_id] if is_incomplete else [])]
            self.incomplete_forecasts = [name for name in known if name in self.forecasts]

    def forecast_time(self, cause_ids: tuple[str, ...]) -> int | None:
        """Return the time of the forecast among the causes, else of the newest one, None if there was none."""
        for cause_id in cause_ids:
            if cause_id in self.forecasts:
                return self.forecasts[cause_id]
        return max(self.forecasts.values(), default=None)

    def add_bar(self, close_time: int, high_e8: int, low_e8: int, close_e8: int, warmup_bars: int) -> None:
        """Fold the previous bar's range into the average (a mean while warming up, then 1/60 a bar) and keep this
        one's.
        """
        if close_time <= self.bar_close_time or close_e8 <= 0:
            return
        if self.bar_close_time:
            self.bar_count += 1
            weight = min(self.bar_count, max(warmup_bars, _AVERAGE_BARS))
            self.average_range_ppb += (self.range_ppm * 1000 - self.average_range_ppb) // weight
        self.bar_close_time = close_time
        self.range_ppm = (high_e8 - low_e8) * 1_000_000 // close_e8


@dataclass(slots=True)
class WorkingOrder:
    """An approved or venue-known order that may still fill. `price` is the one its exposure is counted at."""

    instrument: str
    side: int
    remaining: Decimal
    price: Decimal
    reduce_only: bool
    is_conditional: bool
    is_from_risk: bool


@dataclass(slots=True)
class UnsettledFill:
    """A fill known from the orders topic that no account state has included yet."""

    event_id: str
    report_id: str
    event_time: int
    instrument: str
    signed_quantity: Decimal


class Reference(NamedTuple):
    """The price to judge by: where it comes from, its time and its skew (arrival against the venue's time), in ns."""

    price: Decimal
    source: str
    time: int
    skew_ns: int


@dataclass(slots=True)
class WorkingSide:
    """The working orders of one side of an instrument: quantity and notional of those that may add to a position, and
    the quantities of the reduce-only ones and of those that wait for no trigger.
    """

    quantity: Decimal = ZERO
    notional: Decimal = ZERO
    reducing: Decimal = ZERO
    unconditional: Decimal = ZERO


@dataclass(slots=True)
class OpenRisk:
    """An instrument's position, `held` by the account state and with the unsettled fills, and its working orders."""

    held: Decimal
    position: Decimal
    buys: WorkingSide = field(default_factory=WorkingSide)
    sells: WorkingSide = field(default_factory=WorkingSide)
    order_count: int = 0

    def of_side(self, side: Side) -> WorkingSide:
        """Return the working orders of a side."""
        return self.buys if side is Side.BUY else self.sells

    def reach(self, side: Side) -> Decimal:
        """Return the position in the direction of a side, below zero where it is opposite, before orders that may add.

        Working reduce-only orders of that side may close an opposite position first; then nothing is left of it that
        an order of that side would have to eat through.
        """
        position = self.position if side is Side.BUY else -self.position
        if position >= 0:
            return position
        return min(ZERO, position + self.of_side(side).reducing)

    def reducible(self, side: Side) -> Decimal:
        """Return how much of the position an order of a side could close, whatever of the working orders fills."""
        held, position = (-self.held, -self.position) if side is Side.BUY else (self.held, self.position)
        if held <= 0 or position <= 0:
            return ZERO
        return max(ZERO, min(held, position) - self.of_side(side).unconditional)


@dataclass(slots=True)
class GateState:
    """Everything `RiskCore` keeps between events."""

    control: TradingControl = field(default_factory=TradingControl)
    reason: str = "start"
    limits_version: int = 1
    has_settings_on_record: bool = False
    now: int = 0
    flatten_tried_at: int = 0
    account: AccountState | None = None
    markets: dict[str, MarketView] = field(default_factory=dict)
    orders: dict[str, WorkingOrder] = field(default_factory=dict)
    unsettled: list[UnsettledFill] = field(default_factory=list)
    account_causes: list[str] = field(default_factory=list)
    order_times: list[int] = field(default_factory=list)
    intent_ids: dict[str, int] = field(default_factory=dict)
    intent_shapes: dict[str, int] = field(default_factory=dict)
    day: int = -1
    day_start_equity: Decimal = ZERO
    peak_equity: Decimal = ZERO
    consecutive_losses: int = 0
    last_loss_time: int = 0
    last_closing_order: str = ""

    @property
    def trading_state(self) -> TradingState:
        """The state in force."""
        return self.control.state

    def market(self, instrument: str) -> MarketView:
        """Return the view of an instrument, a blank one the first time."""
        view = self.markets.get(instrument)
        if view is None:
            view = self.markets[instrument] = MarketView()
        return view

    def reference(self, instrument: str, allow_quote: bool) -> Reference | None:
        """Return the price to judge by, None where there is none.

        The mark where one was ever seen; else, where that is allowed, the mid of the best quote, or the last price of a
        market that sends no quotes.
        """
        view = self.markets.get(instrument)
        if view is None:
            return None
        if view.mark_e8 > 0:
            return Reference(_price(view.mark_e8), "mark", view.mark_time, view.mark_skew_ns)
        if allow_quote and view.bid_e8 > 0 and view.ask_e8 > 0:
            source = "last_price" if view.is_last_price else "quote_mid"
            return Reference(from_e8(view.bid_e8 + view.ask_e8) / 2, source, view.quote_time, view.quote_skew_ns)
        return None

    def held(self, instrument: str) -> Position:
        """Return the account's position, flat where there is none or no account yet."""
        return self.account.position(instrument) if self.account is not None else Position(instrument)

    def unsettled_quantity(self, instrument: str) -> Decimal:
        """Return the signed sum of fills that no account state has included yet."""
        return sum((fill.signed_quantity for fill in self.unsettled if fill.instrument == instrument), ZERO)

    def open_risk(self, instrument: str, reference: Decimal) -> OpenRisk:
        """Return what is held and working in an instrument.

        An order counts at its own price or the reference, whichever is higher: the market may have moved since.
        """
        held = self.held(instrument).quantity
        risk = OpenRisk(held, held + self.unsettled_quantity(instrument) if self.unsettled else held)
        for order in self.orders.values():
            if order.instrument != instrument:
                continue
            risk.order_count += 1
            side = risk.buys if order.side == Side.BUY else risk.sells
            if not order.is_conditional:
                side.unconditional += order.remaining
            if order.reduce_only:
                side.reducing += order.remaining
            else:
                side.quantity += order.remaining
                side.notional += order.remaining * max(order.price, reference)
        return risk

    def instruments_at_risk(self) -> set[str]:
        """Return every instrument with a position, an unsettled fill or a working order."""
        names = {order.instrument for order in self.orders.values() if not order.reduce_only}
        names.update(fill.instrument for fill in self.unsettled)
        if self.account is not None:
            names.update(position.instrument for position in self.account.positions if position.quantity)
        return names

    def equity(self, allow_quote: bool) -> Decimal | None:
        """Return wallet plus profit at the references known here, the account's own where one is missing."""
        account = self.account
        if account is None:
            return None
        equity = account.wallet_balance
        for position in account.positions:
            if position.quantity:
                reference = self.reference(position.instrument, allow_quote)
                if reference is None:
                    equity += position.unrealised_pnl
                else:
                    equity += (reference.price - position.entry_price) * position.quantity
        return equity

    def take_account(self, account: AccountState) -> bool:
        """Take over a newer account state and settle the fills it includes; False for one that is older."""
        if self.account is not None and account.sequence <= self.account.sequence:
            return False
        self.account = account
        cause = account.cause_id
        settled = 0
        for index, fill in enumerate(self.unsettled, start=1):
            # Execution books fills in order, so a state that includes one includes those before it. Times prove
            # nothing: states made by a moving mark are younger than fills that are still on their way.
            if cause and cause in (fill.event_id, fill.report_id):
                settled = index
        del self.unsettled[:settled]
        if cause:
            self.account_causes.append(cause)
            del self.account_causes[:-_REMEMBERED_CAUSES]
        return True

    def take_order_event(self, event: OrderEvent) -> None:
        """Follow an order, its fills and the run of losing closes."""
        if event.status.is_open:
            known = self.orders.get(event.client_order_id)
            price = known.price if known is not None else event.limit_price or event.average_price or ZERO
            self.orders[event.client_order_id] = WorkingOrder(
                instrument=event.instrument,
                side=int(event.side),
                remaining=event.quantity - event.filled_quantity,
                price=price,
                reduce_only=event.reduce_only,
                is_conditional=event.order_type.is_conditional,
                is_from_risk=known.is_from_risk if known is not None else event.intent_id.startswith("risk/"),
            )
        else:
            self.orders.pop(event.client_order_id, None)
        if event.last_quantity and event.status is not OrderStatus.REJECTED:
            self._take_fill(event)
        if event.realised_pnl is not None and event.realised_pnl != 0:
            if event.realised_pnl > 0:
                self.consecutive_losses = 0
            elif event.client_order_id != self.last_closing_order:
                self.consecutive_losses += 1
                self.last_loss_time = event.event_time
            self.last_closing_order = event.client_order_id

    def _take_fill(self, event: OrderEvent) -> None:
        is_included = event.event_id in self.account_causes or (
            event.report_id != "" and event.report_id in self.account_causes
        )
        if not is_included and event.last_quantity is not None:
            signed = event.last_quantity if event.side is Side.BUY else -event.last_quantity
            self.unsettled.append(
                UnsettledFill(event.event_id, event.report_id, event.event_time, event.instrument, signed)
            )

    def is_repeated(self, intent_id: str) -> bool:
        """Whether this intent had its verdict already; remembers it if not."""
        if intent_id in self.intent_ids:
            return True
        self.intent_ids[intent_id] = 0
        while len(self.intent_ids) > _REMEMBERED_INTENTS:
            del self.intent_ids[next(iter(self.intent_ids))]
        return False

    def forget_before(self, now: int, duplicate_window_ns: int) -> None:
        """Drop order times older than a minute and intent shapes older than the window."""
        while self.order_times and self.order_times[0] <= now - 60 * NANOSECONDS:
            self.order_times.pop(0)
        for shape in [shape for shape, time in self.intent_shapes.items() if time <= now - duplicate_window_ns]:
            del self.intent_shapes[shape]


@dataclass(slots=True)
class RiskState:
    """All that risk keeps between events: the gate's state, the limits in force, the resting stops by instrument."""

    gate: GateState
    limits: dict[str, str]
    stops: dict[str, WatchedPosition]


def _read_unversioned(data: bytes) -> dict[str, Any]:
    payload = orjson.loads(data)
    if not isinstance(payload, dict) or not payload.keys() & {"control", "trading_state"}:
        raise ValueError("delete the state topic to start from the account's state")
    limits, stops = payload.pop("limits"), payload.pop("stops")
    if "control" not in payload:
        # Written before holds had a scope: the account, whose name this does not know, resumes them.
        in_force, is_flattening = payload.pop("trading_state"), payload.pop("is_flattening")
        hold = {"state": in_force, "reason": payload["reason"], "is_flattening": is_flattening}
        payload["control"] = {"holds": {UNSCOPED: hold} if in_force != TradingState.ACTIVE else {}}
    return {"gate": payload, "limits": limits, "stops": stops}


STATE = StateFormat("risk", 1, RiskState, migrations={0: lambda values: values}, read_unversioned=_read_unversioned)
