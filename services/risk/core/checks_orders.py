"""Checks of the order itself: what the venue would refuse, whether anything may go out now, how often."""

from __future__ import annotations

from decimal import Decimal

from libs.domain.control import TradingState
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import CheckResult, IntentAction, OrderType
from services.risk.core.check_results import UNKNOWN, at_least, at_most, word, write
from services.risk.core.situation import Situation

MILLISECOND = 1_000_000


def account(s: Situation) -> CheckResult:
    """The intent is for the account that this gate guards."""
    return word("account", s.intent.account == s.account, s.intent.account, s.account)


def instrument(s: Situation) -> CheckResult:
    """The instrument's trading rules are known."""
    return word("instrument", s.rules is not None, UNKNOWN if s.rules is None else "known", "known")


def brackets(s: Situation) -> CheckResult:
    """The instrument's leverage brackets are known."""
    return word("brackets", s.brackets is not None, UNKNOWN if s.brackets is None else "known", "known")


def order_fields(s: Situation) -> CheckResult:
    """The fields its type needs are there, finite and above zero."""
    fault = _field_fault(s)
    return word("order_fields", not fault, fault or "complete", "complete")


def _field_fault(s: Situation) -> str:
    intent = s.intent
    if intent.action is IntentAction.CANCEL:
        return "" if intent.target_client_order_id else "target_client_order_id is empty"
    if not s.is_sane:
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


def quantity_step(s: Situation) -> CheckResult:
    """The quantity is a multiple of the step."""
    if s.rules is None or not s.is_sane:
        return word("quantity_step", False, UNKNOWN, UNKNOWN)
    step = s.rules.step_size
    return word("quantity_step", s.intent.quantity % step == 0, write(s.intent.quantity), f"multiple of {write(step)}")


def min_quantity(s: Situation) -> CheckResult:
    """The quantity is no smaller than the venue takes."""
    if s.rules is None or not s.is_sane:
        return word("min_quantity", False, UNKNOWN, UNKNOWN)
    return at_least("min_quantity", s.intent.quantity, s.rules.min_quantity)


def max_quantity(s: Situation) -> CheckResult:
    """The quantity is no larger than the venue takes for this type."""
    if s.rules is None or not s.is_sane:
        return word("max_quantity", False, UNKNOWN, UNKNOWN)
    is_limit = s.intent.order_type is OrderType.LIMIT
    largest = s.rules.max_quantity if is_limit else s.rules.market_max_quantity
    return at_most("max_quantity", s.intent.quantity, largest)


def price_tick(s: Situation) -> CheckResult:
    """Limit and trigger price are multiples of the tick."""
    if s.rules is None or not s.is_sane:
        return word("price_tick", False, UNKNOWN, UNKNOWN)
    tick = s.rules.tick_size
    prices = [price for price in (s.intent.limit_price, s.intent.trigger_price) if price is not None]
    value = ", ".join(write(price) for price in prices) or "no price"
    return word("price_tick", all(price % tick == 0 for price in prices), value, f"multiple of {write(tick)}")


def min_notional(s: Situation) -> CheckResult:
    """The notional is no smaller than the venue takes."""
    if s.rules is None:
        return word("min_notional", False, UNKNOWN, UNKNOWN)
    return at_least("min_notional", s.notional, s.rules.min_notional)


def venue_open_orders(s: Situation) -> CheckResult:
    """The venue's cap on open orders of the instrument holds."""
    if s.rules is None:
        return word("venue_open_orders", False, UNKNOWN, UNKNOWN)
    working = sum(order.instrument == s.intent.instrument for order in s.state.orders.values())
    return at_most("venue_open_orders", working + 1, s.rules.max_open_orders)


def trading_state(s: Situation) -> CheckResult:
    """Only ACTIVE lets new risk through."""
    state = s.state.trading_state
    return word("trading_state", state is TradingState.ACTIVE, state.name, TradingState.ACTIVE.name)


def intent_shape(s: Situation) -> str:
    """Return what makes two intents the same order."""
    intent = s.intent
    return (
        f"{intent.strategy}|{intent.instrument}|{intent.side}|{intent.order_type}|{intent.quantity}|"
        f"{intent.limit_price}|{intent.trigger_price}"
    )


def duplicate_intent(s: Situation) -> CheckResult:
    """No intent of the same shape was approved within the window."""
    limit = f"none within {s.limits.duplicate_window_ms} ms"
    seen = s.state.intent_shapes.get(intent_shape(s))
    if seen is None:
        return word("duplicate_intent", True, "none", limit)
    return word("duplicate_intent", False, f"one {(s.state.now - seen) // MILLISECOND} ms ago", limit)


def orders_per_second(s: Situation) -> CheckResult:
    """Orders approved within the last second, this one included."""
    recent = sum(time > s.state.now - NANOSECONDS for time in s.state.order_times)
    return at_most("orders_per_second", recent + 1, s.limits.max_orders_per_second)


def orders_per_minute(s: Situation) -> CheckResult:
    """Orders approved within the last minute, this one included."""
    return at_most("orders_per_minute", len(s.state.order_times) + 1, s.limits.max_orders_per_minute)


def open_orders(s: Situation) -> CheckResult:
    """Orders working on the account, this one included; the larger of our count and the account's."""
    counted = len(s.state.orders)
    if s.state.account is not None:
        counted = max(counted, s.state.account.open_order_count)
    return at_most("open_orders", counted + 1, s.limits.max_open_orders)
