"""The facts an intent is judged by, reckoned once: what it is, what it could lead to, what is known of the market."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from libs.domain.instruments import Instrument
from libs.domain.market import Side
from libs.domain.orders import IntentAction, OrderIntent
from libs.margin.brackets import BracketTable
from services.risk.core.limits import RiskLimits
from services.risk.core.state import ZERO, GateState, MarketView


@dataclass(frozen=True, slots=True)
class Exposure:
    """What positions could become, in USDT: `gross` counts both directions, `worst` the larger, of one instrument."""

    gross: Decimal
    worst: Decimal


@dataclass(frozen=True, slots=True)
class Situation:
    """Everything the checks look at. `exemption` is "" for an order that may add risk, else why limits do not apply.

    `direction_notional` is the position notional if this order and all working ones of its side filled;
    `worst_notional` the larger of both directions; `others` are the other instruments' exposures, None where one
    cannot be priced.
    """

    intent: OrderIntent
    rules: Instrument | None
    brackets: BracketTable | None
    limits: RiskLimits
    state: GateState
    account: str
    view: MarketView
    exemption: str
    is_sane: bool
    reference: Decimal | None
    reference_source: str
    reference_time: int
    reference_skew_ns: int
    price: Decimal | None
    notional: Decimal | None
    equity: Decimal | None
    direction_notional: Decimal | None
    direction_quantity: Decimal
    exposure: Exposure | None
    others: Exposure | None
    tied_up: Decimal | None
    other_maintenance: Decimal | None


def is_sane(intent: OrderIntent) -> bool:
    """Whether every number of the intent is finite, so that comparing them cannot fail."""
    numbers = (
        intent.quantity,
        intent.limit_price,
        intent.trigger_price,
        intent.callback_rate,
        intent.reference_price,
    )
    return all(number is None or number.is_finite() for number in numbers)


def reducible_quantity(intent: OrderIntent, state: GateState) -> Decimal:
    """Return how much of the position an order of this side could close, whatever of the working orders fills."""
    held = state.held(intent.instrument).quantity
    settled = held + state.unsettled_quantity(intent.instrument)
    sign = intent.side.sign
    if held * sign >= 0 or settled * sign >= 0:
        return ZERO
    closing = sum(
        (
            order.remaining
            for order in state.orders.values()
            if order.instrument == intent.instrument and order.side == intent.side and not order.is_conditional
        ),
        ZERO,
    )
    return max(ZERO, min(abs(held), abs(settled)) - closing)


def _exemption(intent: OrderIntent, state: GateState, sane: bool) -> str:
    if intent.action is IntentAction.CANCEL:
        return "cancel"
    if intent.reduce_only or (sane and ZERO < intent.quantity <= reducible_quantity(intent, state)):
        return "reduction"
    return ""


def _exposure(instrument: str, price: Decimal, state: GateState, side: Side | None, added: Decimal) -> Exposure:
    position = (state.held(instrument).quantity + state.unsettled_quantity(instrument)) * price
    _, buys = state.working(instrument, Side.BUY, price)
    _, sells = state.working(instrument, Side.SELL, price)
    if side is Side.BUY:
        buys += added
    elif side is Side.SELL:
        sells += added
    upward = state.reach(instrument, Side.BUY) * price + buys
    downward = state.reach(instrument, Side.SELL) * price + sells
    return Exposure(gross=abs(position) + buys + sells, worst=max(upward, downward))


def _others(instrument: str, state: GateState, limits: RiskLimits) -> Exposure | None:
    gross = worst = ZERO
    for name in state.instruments_at_risk() - {instrument}:
        price, _, _, _ = state.reference(name, limits.allow_quote_as_mark)
        if price is None:
            return None
        exposure = _exposure(name, price, state, None, ZERO)
        gross += exposure.gross
        worst += exposure.worst
    return Exposure(gross, worst)


def _other_maintenance(
    instrument: str, state: GateState, limits: RiskLimits, brackets: dict[str, BracketTable]
) -> Decimal | None:
    total = ZERO
    for name in state.instruments_at_risk() - {instrument}:
        price, _, _, _ = state.reference(name, limits.allow_quote_as_mark)
        table = brackets.get(name)
        if price is None or table is None:
            return None
        total += table.maintenance_margin(_exposure(name, price, state, None, ZERO).worst)
    return total


def assess(
    intent: OrderIntent,
    state: GateState,
    limits: RiskLimits,
    account: str,
    instruments: dict[str, Instrument],
    brackets: dict[str, BracketTable],
) -> Situation:
    """Reckon the facts of an intent; `brackets` are keyed by instrument id."""
    sane = is_sane(intent)
    instrument = intent.instrument
    source = state.reference(instrument, limits.allow_quote_as_mark)
    reference, reference_source, reference_time, reference_skew_ns = source
    price = notional = direction_notional = None
    exposure = None
    direction_quantity = ZERO
    others = _others(instrument, state, limits)
    tied_up = None
    if reference is not None and sane:
        price = max(reference, intent.limit_price or ZERO, intent.trigger_price or ZERO)
        notional = abs(intent.quantity) * price
        exposure = _exposure(instrument, reference, state, intent.side, notional)
        reach = state.reach(instrument, intent.side)
        working_quantity, working = state.working(instrument, intent.side, reference)
        tied_up = None if others is None else exposure.gross - notional + others.gross
        direction_notional = max(ZERO, reach * reference + working + notional)
        direction_quantity = max(ZERO, reach + working_quantity + abs(intent.quantity))
    return Situation(
        intent=intent,
        rules=instruments.get(instrument),
        brackets=brackets.get(instrument),
        limits=limits,
        state=state,
        account=account,
        view=state.markets.get(instrument) or MarketView(),
        exemption=_exemption(intent, state, sane),
        is_sane=sane,
        reference=reference,
        reference_source=reference_source,
        reference_time=reference_time,
        reference_skew_ns=reference_skew_ns,
        price=price,
        notional=notional,
        equity=state.equity(limits.allow_quote_as_mark),
        direction_notional=direction_notional,
        direction_quantity=direction_quantity,
        exposure=exposure,
        others=others,
        tied_up=tied_up,
        other_maintenance=_other_maintenance(instrument, state, limits, brackets),
    )
