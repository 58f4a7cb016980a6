"""What an intent is checked against, computed once: what it is, what it could lead to, what is known of the market."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from libs.domain.instruments import Instrument
from libs.domain.market import Side
from libs.domain.orders import IntentAction, OrderIntent
from libs.margin.brackets import BracketTable
from services.risk.core.limits import RiskLimits
from services.risk.core.state import ZERO, GateState, MarketView, OpenRisk, Reference

CANCEL = "cancel"
REDUCTION = "reduction"


@dataclass(slots=True)
class Exposure:
    """What positions could become, in USDT: `gross` counts both directions, `worst` the larger, of one instrument.

    `maintenance` is the margin of the worst case, None where an instrument's brackets are not known.
    """

    gross: Decimal
    worst: Decimal
    maintenance: Decimal | None = ZERO


@dataclass(slots=True)
class CheckContext:
    """Everything the checks look at. `exemption` is "" for an order that may add risk, else why limits do not apply.

    `direction_notional` is the position notional if this order and all working ones of its side filled; `exposure` is
    the instrument's with this order; `others` are the other instruments' exposures, None where one cannot be priced.
    `tied_up` is the gross exposure of all instruments without this order. `shape` is what makes two intents the same.
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
    shape: str
    reference: Reference | None
    price: Decimal | None
    notional: Decimal | None
    equity: Decimal | None
    working_orders: int
    direction_notional: Decimal | None
    direction_quantity: Decimal
    exposure: Exposure | None
    others: Exposure | None
    tied_up: Decimal | None


def _is_sane(intent: OrderIntent) -> bool:
    """Whether every number of the intent is finite, so that comparing them cannot fail."""
    for number in (
        intent.quantity,
        intent.limit_price,
        intent.trigger_price,
        intent.callback_rate,
        intent.reference_price,
    ):
        if number is not None and not number.is_finite():
            return False
    return True


def _exemption(intent: OrderIntent, risk: OpenRisk, is_sane: bool) -> str:
    if intent.action is IntentAction.CANCEL:
        return CANCEL
    if intent.reduce_only or (is_sane and ZERO < intent.quantity <= risk.reducible(intent.side)):
        return REDUCTION
    return ""


def _shape(intent: OrderIntent) -> str:
    return (
        f"{intent.strategy}|{intent.instrument}|{int(intent.side)}|{int(intent.order_type)}|{intent.quantity}|"
        f"{intent.limit_price}|{intent.trigger_price}"
    )


def _exposure(
    risk: OpenRisk, price: Decimal, brackets: BracketTable | None, side: Side | None = None, added: Decimal = ZERO
) -> Exposure:
    buys, sells = risk.buys.notional, risk.sells.notional
    if side is Side.BUY:
        buys += added
    elif side is Side.SELL:
        sells += added
    worst = max(risk.reach(Side.BUY) * price + buys, risk.reach(Side.SELL) * price + sells)
    maintenance = None if brackets is None else brackets.maintenance_margin(worst)
    return Exposure(abs(risk.position * price) + buys + sells, worst, maintenance)


def _others(
    instrument: str, state: GateState, allow_quote: bool, brackets: Mapping[str, BracketTable]
) -> Exposure | None:
    total = Exposure(ZERO, ZERO, ZERO)
    for name in state.instruments_at_risk():
        if name == instrument:
            continue
        reference = state.reference(name, allow_quote)
        if reference is None:
            return None
        exposure = _exposure(state.open_risk(name, reference.price), reference.price, brackets.get(name))
        total.gross += exposure.gross
        total.worst += exposure.worst
        if total.maintenance is None or exposure.maintenance is None:
            total.maintenance = None
        else:
            total.maintenance += exposure.maintenance
    return total


def build_context(
    intent: OrderIntent,
    state: GateState,
    limits: RiskLimits,
    account: str,
    instruments: Mapping[str, Instrument],
    brackets: Mapping[str, BracketTable],
    equity: Decimal | None,
) -> CheckContext:
    """Compute what an intent is checked against; `brackets` are keyed by instrument id, `equity` is the account's."""
    is_sane = _is_sane(intent)
    instrument, side = intent.instrument, intent.side
    table = brackets.get(instrument)
    reference = state.reference(instrument, limits.allow_quote_as_mark)
    risk = state.open_risk(instrument, ZERO if reference is None else reference.price)
    others = _others(instrument, state, limits.allow_quote_as_mark, brackets)
    price = notional = direction_notional = tied_up = exposure = None
    direction_quantity = ZERO
    if reference is not None and is_sane:
        price = max(reference.price, intent.limit_price or ZERO, intent.trigger_price or ZERO)
        notional = abs(intent.quantity) * price
        exposure = _exposure(risk, reference.price, table, side, notional)
        tied_up = None if others is None else exposure.gross - notional + others.gross
        reach, working = risk.reach(side), risk.of_side(side)
        direction_notional = max(ZERO, reach * reference.price + working.notional + notional)
        direction_quantity = max(ZERO, reach + working.quantity + abs(intent.quantity))
    return CheckContext(
        intent=intent,
        rules=instruments.get(instrument),
        brackets=table,
        limits=limits,
        state=state,
        account=account,
        view=state.markets.get(instrument) or MarketView(),
        exemption=_exemption(intent, risk, is_sane),
        is_sane=is_sane,
        shape=_shape(intent),
        reference=reference,
        price=price,
        notional=notional,
        equity=equity,
        working_orders=risk.order_count,
        direction_notional=direction_notional,
        direction_quantity=direction_quantity,
        exposure=exposure,
        others=others,
        tied_up=tied_up,
    )
