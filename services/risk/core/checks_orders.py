"""Checks of the order itself: what the venue would refuse, whether anything may go out now, how often."""

from __future__ import annotations

from bisect import bisect_right
from decimal import Decimal

from libs.domain.control import TradingState
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import IntentAction, OrderType
from services.risk.core.context import CheckContext
from services.risk.core.findings import NOT_KNOWN, UNKNOWN, Finding, at_least, at_most, multiple_of

MILLISECOND = 1_000_000


def account(context: CheckContext) -> Finding:
    """The intent is for the account that this gate guards."""
    return context.intent.account == context.account, context.intent.account, context.account


def instrument(context: CheckContext) -> Finding:
    """The instrument's trading rules are known."""
    return _is_known(context.rules is not None)


def brackets(context: CheckContext) -> Finding:
    """The instrument's leverage brackets are known."""
    return _is_known(context.brackets is not None)


def _is_known(is_known: bool) -> Finding:
    return is_known, "known" if is_known else UNKNOWN, "known"


def order_fields(context: CheckContext) -> Finding:
    """The fields its type needs are there, finite and above zero."""
    error = _field_error(context)
    return not error, error or "complete", "complete"


def _field_error(context: CheckContext) -> str:
    intent = context.intent
    if intent.action is IntentAction.CANCEL:
        return "" if intent.target_client_order_id else "target_client_order_id is empty"
    if not context.is_sane:
        return "a number is not finite"
    if intent.quantity <= 0:
        return f"quantity {intent.quantity} is not above zero"
    for name, price in (("limit_price", intent.limit_price), ("trigger_price", intent.trigger_price)):
        if price is not None and price <= 0:
            return f"{name} {price} is not above zero"
    if intent.order_type is OrderType.LIMIT and intent.limit_price is None:
        return "limit_price is missing"
    if intent.order_type in (OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET) and intent.trigger_price is None:
        return "trigger_price is missing"
    if intent.order_type is OrderType.TRAILING_STOP_MARKET:
        rate = intent.callback_rate
        if rate is None or not Decimal("0.001") <= rate <= Decimal("0.1"):
            return f"callback_rate {rate} lies outside 0.001 to 0.1"
    return ""


def quantity_step(context: CheckContext) -> Finding:
    """The quantity is a multiple of the step."""
    if context.rules is None or not context.is_sane:
        return NOT_KNOWN
    return multiple_of((context.intent.quantity,), context.rules.step_size, "no quantity")


def min_quantity(context: CheckContext) -> Finding:
    """The quantity is no smaller than the venue takes."""
    if context.rules is None or not context.is_sane:
        return NOT_KNOWN
    return at_least(context.intent.quantity, context.rules.min_quantity)


def max_quantity(context: CheckContext) -> Finding:
    """The quantity is no larger than the venue takes for this type."""
    if context.rules is None or not context.is_sane:
        return NOT_KNOWN
    is_limit = context.intent.order_type is OrderType.LIMIT
    return at_most(
        context.intent.quantity, context.rules.max_quantity if is_limit else context.rules.market_max_quantity
    )


def price_tick(context: CheckContext) -> Finding:
    """Limit and trigger price are multiples of the tick."""
    if context.rules is None or not context.is_sane:
        return NOT_KNOWN
    prices = (context.intent.limit_price, context.intent.trigger_price)
    return multiple_of(tuple(price for price in prices if price is not None), context.rules.tick_size, "no price")


def min_notional(context: CheckContext) -> Finding:
    """The notional is no smaller than the venue takes."""
    if context.rules is None:
        return NOT_KNOWN
    return at_least(context.notional, context.rules.min_notional)


def venue_open_orders(context: CheckContext) -> Finding:
    """The venue's cap on open orders of the instrument holds."""
    if context.rules is None:
        return NOT_KNOWN
    return at_most(context.working_orders + 1, context.rules.max_open_orders)


def trading_state(context: CheckContext) -> Finding:
    """Only ACTIVE lets new risk through."""
    state = context.state.trading_state
    return state is TradingState.ACTIVE, state.name, "ACTIVE"


def duplicate_intent(context: CheckContext) -> Finding:
    """No intent of the same shape was approved within the window."""
    limit = f"none within {context.limits.duplicate_window_ms} ms"
    seen = context.state.intent_shapes.get(context.shape)
    if seen is None:
        return True, "none", limit
    return False, f"one {(context.state.now - seen) // MILLISECOND} ms ago", limit


def orders_per_second(context: CheckContext) -> int:
    """Orders approved within the last second, this one included."""
    times = context.state.order_times
    return len(times) - bisect_right(times, context.state.now - NANOSECONDS) + 1


def orders_per_minute(context: CheckContext) -> int:
    """Orders approved within the last minute, this one included."""
    return len(context.state.order_times) + 1


def open_orders(context: CheckContext) -> int:
    """Orders working on the account, this one included; the larger of our count and the account's."""
    counted = len(context.state.orders)
    if context.state.account is not None:
        counted = max(counted, context.state.account.open_order_count)
    return counted + 1
