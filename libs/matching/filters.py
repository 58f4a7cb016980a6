"""The venue's trading rules. A refusal is a sentence that begins with Binance's error code."""

from __future__ import annotations

from decimal import Decimal

from libs.domain.instruments import Instrument
from libs.domain.market import Side
from libs.domain.numbers import InexactNumber, to_e8
from libs.domain.orders import OrderType, PlaceOrder, TimeInForce

DUPLICATE_ID = "-4116 client order id is duplicated"
UNKNOWN_ORDER = "-2011 unknown order sent"
REDUCE_ONLY = "-2022 reduce-only order is rejected: no position to reduce"
WOULD_TRIGGER = "-2021 order would immediately trigger"
FILL_OR_KILL = "-5021 the order could not be filled in full at once, fill-or-kill is rejected"
POST_ONLY = "-5022 the order would take, post-only is rejected"
SELF_TRADE = "self-trade prevention: maker expires"
MIN_CALLBACK_RATE = Decimal("0.001")
MAX_CALLBACK_RATE = Decimal("0.1")


def unknown_symbol(instrument: str) -> str:
    """Return the refusal of an instrument that the venue does not list."""
    return f"-1121 invalid symbol {instrument}"


def refuse_order(command: PlaceOrder, rules: Instrument, reference: Decimal | None, open_orders: int) -> str:
    """Return why the venue would not take an order, empty where it would.

    `reference` is the mark price (else the last known price), None before any; the price band and the notional of
    market orders are not checked then. Reduce-only orders are exempt from the minimum notional.
    """
    return (
        _refuse_quantity(command, rules)
        or _refuse_limit_price(command, rules, reference)
        or _refuse_condition(command, rules)
        or _refuse_notional(command, rules, reference)
        or (
            f"-2025 reached max open order limit of {rules.max_open_orders}"
            if open_orders >= rules.max_open_orders
            else ""
        )
    )


def _refuse_quantity(command: PlaceOrder, rules: Instrument) -> str:
    quantity = command.quantity
    if not quantity.is_finite() or quantity <= 0:
        return f"-4003 quantity {quantity} is not above zero"
    most = rules.max_quantity if command.order_type is OrderType.LIMIT else rules.market_max_quantity
    if quantity < rules.min_quantity:
        return f"-4004 quantity {quantity} is below the minimum {rules.min_quantity}"
    if quantity > most:
        return f"-4005 quantity {quantity} is above the maximum {most}"
    if not _is_exact(quantity):
        return f"-1111 quantity {quantity} has more than eight decimals"
    if quantity % rules.step_size:
        return f"-4023 quantity {quantity} is not a multiple of the step {rules.step_size}"
    return ""


def _refuse_price(price: Decimal, rules: Instrument, name: str) -> str:
    if not price.is_finite() or price <= 0:
        return f"-4001 {name} {price} is not above zero"
    if not _is_exact(price):
        return f"-1111 {name} {price} has more than eight decimals or is too large"
    if price % rules.tick_size:
        return f"-4014 {name} {price} is not a multiple of the tick {rules.tick_size}"
    return ""


def _refuse_limit_price(command: PlaceOrder, rules: Instrument, reference: Decimal | None) -> str:
    if command.order_type is not OrderType.LIMIT:
        return ""
    price = command.limit_price
    if price is None:
        return "-1102 a limit order needs a limit price"
    refusal = _refuse_price(price, rules, "limit price")
    if refusal or reference is None:
        return refusal
    if command.side is Side.BUY and price > reference * rules.price_multiplier_up:
        return f"-4016 limit price {price} is above {rules.price_multiplier_up} x the reference {reference}"
    if command.side is Side.SELL and price < reference * rules.price_multiplier_down:
        return f"-4024 limit price {price} is below {rules.price_multiplier_down} x the reference {reference}"
    return ""


def _refuse_condition(command: PlaceOrder, rules: Instrument) -> str:
    if not command.order_type.is_conditional:
        return ""
    if command.trigger_price is not None:
        refusal = _refuse_price(command.trigger_price, rules, "trigger price")
        if refusal:
            return refusal
    elif command.order_type is not OrderType.TRAILING_STOP_MARKET:
        return "-1102 a conditional order needs a trigger price"
    if command.order_type is OrderType.TRAILING_STOP_MARKET:
        rate = command.callback_rate
        if rate is None:
            return "-1102 a trailing stop needs a callback rate"
        if not rate.is_finite() or not MIN_CALLBACK_RATE <= rate <= MAX_CALLBACK_RATE or not _is_exact(rate):
            return f"-2007 callback rate {rate} is not within {MIN_CALLBACK_RATE} to {MAX_CALLBACK_RATE}"
    return ""


def _refuse_notional(command: PlaceOrder, rules: Instrument, reference: Decimal | None) -> str:
    if command.reduce_only:
        return ""
    price = reference
    if command.order_type is OrderType.LIMIT:
        price = command.limit_price
    elif command.order_type.is_conditional and command.trigger_price is not None:
        price = command.trigger_price
    if price is not None and price * command.quantity < rules.min_notional:
        return f"-4164 notional {price * command.quantity} is below the minimum {rules.min_notional}"
    return ""


def _is_exact(value: Decimal) -> bool:
    try:
        to_e8(value)
    except InexactNumber:
        return False
    return True


def is_immediate(time_in_force: TimeInForce) -> bool:
    """Whether what is not filled at once must not rest."""
    return time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
