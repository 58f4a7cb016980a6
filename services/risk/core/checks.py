"""The checks of the gate, each a function from the situation to one `CheckResult`: the number, its limit, passed or
not.

A number that is not known fails its check. A value exactly at its limit passes.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from libs.domain.control import TradingState
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS, format_decimal, from_e8, quantize_e8
from libs.domain.orders import CheckResult, IntentAction, OrderType
from libs.margin.liquidation import Leg, PositionSide, liquidate_isolated
from services.risk.core.situation import Situation
from services.risk.core.state import ZERO

MILLISECOND = 1_000_000
UNKNOWN = "unknown"
BPS = Decimal(10_000)
ONE = Decimal(1)

# Checks that bind cancels and reductions too: without them the venue could not carry the order out.
ALWAYS = frozenset(
    {"account", "instrument", "order_fields", "quantity_step", "min_quantity", "max_quantity", "price_tick"}
)
ALWAYS_FOR_CANCELS = frozenset({"account", "order_fields"})


def _show(value: Decimal) -> str:
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -8:
        value = quantize_e8(value)
    return format_decimal(value)


def _at_most(name: str, value: Decimal | int | None, limit: Decimal | int) -> CheckResult:
    if value is None:
        return CheckResult(name, False, UNKNOWN, f"<= {_text(limit)}")
    return CheckResult(name, value <= limit, _text(value), f"<= {_text(limit)}")


def _at_least(name: str, value: Decimal | int | None, limit: Decimal | int) -> CheckResult:
    if value is None:
        return CheckResult(name, False, UNKNOWN, f">= {_text(limit)}")
    return CheckResult(name, value >= limit, _text(value), f">= {_text(limit)}")


def _share_at_most(name: str, part: Decimal | None, whole: Decimal | None, limit: Decimal) -> CheckResult:
    """Compare part / whole with a limit without rounding; an unknown or empty whole fails unless the part is 0."""
    if part is None or whole is None:
        return CheckResult(name, False, UNKNOWN, f"<= {_text(limit)}")
    if whole <= 0:
        return CheckResult(name, False, f"{_text(part)} of {_text(whole)}", f"<= {_text(limit)}")
    return CheckResult(name, part <= limit * whole, _show(part / whole), f"<= {_text(limit)}")


def _text(value: Decimal | int) -> str:
    return _show(value) if isinstance(value, Decimal) else str(value)


def _word(name: str, has_passed: bool, value: str, limit: str) -> CheckResult:
    return CheckResult(name, has_passed, value, limit)


# --- what the venue would refuse ---------------------------------------------------------------------------------


def account(s: Situation) -> CheckResult:
    """The intent is for the account that this gate guards."""
    return _word("account", s.intent.account == s.account, s.intent.account, s.account)


def instrument(s: Situation) -> CheckResult:
    """The instrument's trading rules are known."""
    return _word("instrument", s.rules is not None, UNKNOWN if s.rules is None else "known", "known")


def brackets(s: Situation) -> CheckResult:
    """The instrument's leverage brackets are known."""
    return _word("brackets", s.brackets is not None, UNKNOWN if s.brackets is None else "known", "known")


def order_fields(s: Situation) -> CheckResult:
    """The fields its type needs are there, finite and above zero."""
    fault = _field_fault(s)
    return _word("order_fields", not fault, fault or "complete", "complete")


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
        return _word("quantity_step", False, UNKNOWN, UNKNOWN)
    step = s.rules.step_size
    return _word("quantity_step", s.intent.quantity % step == 0, _text(s.intent.quantity), f"multiple of {_text(step)}")


def min_quantity(s: Situation) -> CheckResult:
    """The quantity is no smaller than the venue takes."""
    if s.rules is None or not s.is_sane:
        return _word("min_quantity", False, UNKNOWN, UNKNOWN)
    return _at_least("min_quantity", s.intent.quantity, s.rules.min_quantity)


def max_quantity(s: Situation) -> CheckResult:
    """The quantity is no larger than the venue takes for this type."""
    if s.rules is None or not s.is_sane:
        return _word("max_quantity", False, UNKNOWN, UNKNOWN)
    is_limit = s.intent.order_type is OrderType.LIMIT
    largest = s.rules.max_quantity if is_limit else s.rules.market_max_quantity
    return _at_most("max_quantity", s.intent.quantity, largest)


def price_tick(s: Situation) -> CheckResult:
    """Limit and trigger price are multiples of the tick."""
    if s.rules is None or not s.is_sane:
        return _word("price_tick", False, UNKNOWN, UNKNOWN)
    tick = s.rules.tick_size
    prices = [price for price in (s.intent.limit_price, s.intent.trigger_price) if price is not None]
    value = ", ".join(_text(price) for price in prices) or "no price"
    return _word("price_tick", all(price % tick == 0 for price in prices), value, f"multiple of {_text(tick)}")


def min_notional(s: Situation) -> CheckResult:
    """The notional is no smaller than the venue takes."""
    if s.rules is None:
        return _word("min_notional", False, UNKNOWN, UNKNOWN)
    return _at_least("min_notional", s.notional, s.rules.min_notional)


def venue_open_orders(s: Situation) -> CheckResult:
    """The venue's cap on open orders of the instrument holds."""
    if s.rules is None:
        return _word("venue_open_orders", False, UNKNOWN, UNKNOWN)
    working = sum(order.instrument == s.intent.instrument for order in s.state.orders.values())
    return _at_most("venue_open_orders", working + 1, s.rules.max_open_orders)


# --- may anything go out now -------------------------------------------------------------------------------------


def trading_state(s: Situation) -> CheckResult:
    """Only ACTIVE lets new risk through."""
    state = s.state.trading_state
    return _word("trading_state", state is TradingState.ACTIVE, state.name, TradingState.ACTIVE.name)


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
        return _word("duplicate_intent", True, "none", limit)
    return _word("duplicate_intent", False, f"one {(s.state.now - seen) // MILLISECOND} ms ago", limit)


def orders_per_second(s: Situation) -> CheckResult:
    """Orders approved within the last second, this one included."""
    recent = sum(time > s.state.now - NANOSECONDS for time in s.state.order_times)
    return _at_most("orders_per_second", recent + 1, s.limits.max_orders_per_second)


def orders_per_minute(s: Situation) -> CheckResult:
    """Orders approved within the last minute, this one included."""
    return _at_most("orders_per_minute", len(s.state.order_times) + 1, s.limits.max_orders_per_minute)


def open_orders(s: Situation) -> CheckResult:
    """Orders working on the account, this one included; the larger of our count and the account's."""
    counted = len(s.state.orders)
    if s.state.account is not None:
        counted = max(counted, s.state.account.open_order_count)
    return _at_most("open_orders", counted + 1, s.limits.max_open_orders)


# --- is what we know fresh ---------------------------------------------------------------------------------------


def reference_price(s: Situation) -> CheckResult:
    """There is a price to judge by; says which."""
    limit = "mark or quote_mid" if s.limits.allow_quote_as_mark else "mark"
    if s.reference is None:
        return _word("reference_price", False, UNKNOWN, limit)
    return _word("reference_price", True, f"{_text(s.reference)} {s.reference_source}", limit)


def market_data_age_ms(s: Situation) -> CheckResult:
    """Age of the reference price, or of the quote where that is older."""
    age = None
    if s.reference is not None and s.view.quote_time:
        age = (s.state.now - min(s.reference_time, s.view.quote_time)) // MILLISECOND
    return _at_most("market_data_age_ms", age, s.limits.max_market_data_age_ms)


def clock_skew_ms(s: Situation) -> CheckResult:
    """Distance between the venue's time and ours on the reference price."""
    skew = None if s.reference is None else abs(s.reference_skew_ns) // MILLISECOND
    return _at_most("clock_skew_ms", skew, s.limits.max_clock_skew_ms)


def intent_age_ms(s: Situation) -> CheckResult:
    """Distance between the intent's time and the market's, either way."""
    age = None if not s.state.now else abs(s.state.now - s.intent.event_time) // MILLISECOND
    return _at_most("intent_age_ms", age, s.limits.max_intent_age_ms)


def forecast_age_ms(s: Situation) -> CheckResult:
    """Age of the forecast behind the intent, where it used one."""
    if s.intent.confidence is None:
        return _word("forecast_age_ms", True, "no forecast used", f"<= {s.limits.max_forecast_age_ms}")
    time = s.view.forecast_time(s.intent.cause_ids)
    age = None if time is None else (s.state.now - time) // MILLISECOND
    return _at_most("forecast_age_ms", age, s.limits.max_forecast_age_ms)


def forecast_confidence(s: Situation) -> CheckResult:
    """Confidence of the forecast behind the intent, where it used one."""
    if s.intent.confidence is None:
        return _word("forecast_confidence", True, "no forecast used", f">= {_text(s.limits.min_forecast_confidence)}")
    confidence = Decimal(repr(float(s.intent.confidence)))
    known = confidence if confidence.is_finite() else None
    return _at_least("forecast_confidence", known, s.limits.min_forecast_confidence)


# --- how much ----------------------------------------------------------------------------------------------------


def order_notional_usdt(s: Situation) -> CheckResult:
    """Notional of this order."""
    return _at_most("order_notional_usdt", s.notional, s.limits.max_order_notional_usdt)


def position_notional_usdt(s: Situation) -> CheckResult:
    """Notional of the position that this order and the working ones of its side can lead to."""
    return _at_most("position_notional_usdt", s.direction_notional, s.limits.max_position_notional_usdt)


def instrument_exposure_usdt(s: Situation) -> CheckResult:
    """Gross exposure in the instrument: position, working orders of both sides, this order."""
    gross = None if s.exposure is None else s.exposure.gross
    return _at_most("instrument_exposure_usdt", gross, s.limits.max_instrument_exposure_usdt)


def total_exposure_usdt(s: Situation) -> CheckResult:
    """Gross exposure over all instruments."""
    total = None if s.exposure is None or s.others is None else s.exposure.gross + s.others.gross
    return _at_most("total_exposure_usdt", total, s.limits.max_total_exposure_usdt)


def leverage(s: Situation) -> CheckResult:
    """Worst-case notional over all instruments, as a multiple of equity."""
    worst = None if s.exposure is None or s.others is None else s.exposure.worst + s.others.worst
    return _share_at_most("leverage", worst, s.equity, s.limits.max_leverage)


def venue_leverage(s: Situation) -> CheckResult:
    """Leverage against what the venue's bracket allows at that notional."""
    if s.brackets is None or s.direction_notional is None:
        return _share_at_most("venue_leverage", None, None, ONE)
    if s.direction_notional > s.brackets.max_notional:
        return _at_most("venue_leverage", s.direction_notional, s.brackets.max_notional)
    allowed = Decimal(s.brackets.bracket_of(s.direction_notional).max_leverage)
    return _share_at_most("venue_leverage", s.direction_notional, s.equity, allowed)


def order_cost_usdt(s: Situation) -> CheckResult:
    """Initial margin at the leverage cap plus taker fee of this order, against what is free.

    Free is the smaller of the account's own figure and equity less the margin of positions and working orders.
    """
    if s.notional is None or s.rules is None or s.state.account is None or s.equity is None or s.tied_up is None:
        return _word("order_cost_usdt", False, UNKNOWN, UNKNOWN)
    cost = s.notional / s.limits.max_leverage + s.notional * s.rules.taker_fee_rate
    free = min(s.state.account.available_balance, s.equity - s.tied_up / s.limits.max_leverage)
    return _at_most("order_cost_usdt", cost, free)


def margin_ratio(s: Situation) -> CheckResult:
    """Maintenance margin of the worst case over all instruments, as a share of equity."""
    maintenance = None
    if s.exposure is not None and s.brackets is not None and s.other_maintenance is not None:
        maintenance = s.brackets.maintenance_margin(s.exposure.worst) + s.other_maintenance
    return _share_at_most("margin_ratio", maintenance, s.equity, s.limits.max_margin_ratio)


def liquidation_distance(s: Situation) -> CheckResult:
    """Share of the reference price between it and the liquidation price of the position this order can lead to."""
    name, floor = "liquidation_distance", s.limits.min_liquidation_distance
    if s.reference is None or s.equity is None or s.brackets is None or s.other_maintenance is None:
        return _at_least(name, None, floor)
    if s.direction_quantity <= 0:
        return _word(name, True, "no position", f">= {_text(floor)}")
    balance = s.equity - s.other_maintenance
    if balance <= 0:
        return _word(name, False, f"equity less other maintenance {_text(balance)}", f">= {_text(floor)}")
    side = PositionSide.LONG if s.intent.side is Side.BUY else PositionSide.SHORT
    # Marked to the reference, so that equity is wallet plus profit and the entry price no longer matters.
    leg = Leg(
        symbol=s.intent.instrument,
        side=side,
        quantity=s.direction_quantity,
        entry_price=s.reference,
        mark_price=s.reference,
        leverage=ONE,
        brackets=s.brackets,
        isolated_margin=balance,
    )
    result = liquidate_isolated(leg)
    if result.liquidation_distance is None:
        # Long with more balance than notional; a balance above zero leaves a short some way to go, unless
        # maintenance eats it.
        is_safe = balance > leg.maintenance_margin
        return _word(name, is_safe, result.liquidation_reason, f">= {_text(floor)}")
    return _at_least(name, result.liquidation_distance, floor)


# --- at what price -----------------------------------------------------------------------------------------------


def price_deviation(s: Situation) -> CheckResult:
    """Distance of a limit price from the reference, within our collar and the venue's multipliers."""
    name = "price_deviation"
    if s.rules is None:
        return _at_most(name, None, s.limits.max_price_deviation)
    allowed = s.limits.max_price_deviation
    if s.intent.side is Side.BUY:
        allowed = min(allowed, s.rules.price_multiplier_up - ONE)
    else:
        allowed = min(allowed, ONE - s.rules.price_multiplier_down)
    if s.intent.limit_price is None and s.is_sane:
        return _word(name, True, "no limit price", f"<= {_text(allowed)}")
    if s.reference is None or not s.is_sane or s.intent.limit_price is None:
        return _at_most(name, None, allowed)
    return _share_at_most(name, abs(s.intent.limit_price - s.reference), s.reference, allowed)


def spread_bps(s: Situation) -> CheckResult:
    """Spread of the best quote over its mid."""
    bid, ask = s.view.bid_e8, s.view.ask_e8
    if not (bid > 0 and ask > 0) or bid > ask:
        return _at_most("spread_bps", None, s.limits.max_spread_bps)
    spread = Decimal(2 * (ask - bid)) * BPS / Decimal(ask + bid)
    return _at_most("spread_bps", spread, s.limits.max_spread_bps)


def slippage_bps(s: Situation) -> CheckResult:
    """How much worse than the price decided on the order can fill at once: at the touch, or its limit where better."""
    name, limit = "slippage_bps", s.limits.max_slippage_bps
    touch_e8 = s.view.ask_e8 if s.intent.side is Side.BUY else s.view.bid_e8
    decided = s.intent.reference_price if s.intent.reference_price is not None else s.reference
    if not s.is_sane or touch_e8 <= 0 or decided is None or decided <= 0:
        return _at_most(name, None, limit)
    sign = s.intent.side.sign
    fill = from_e8(touch_e8)
    if s.intent.limit_price is not None and (fill - s.intent.limit_price) * sign > 0:
        fill = s.intent.limit_price
    worse = (fill - decided) * sign
    return _at_most(name, worse * BPS / decided, limit)


def funding_cost_per_day(s: Situation) -> CheckResult:
    """What the order's side pays a day in funding at the rate in force, as a share of notional; 0 where it is paid."""
    name, limit = "funding_cost_per_day", s.limits.max_funding_cost_per_day
    if s.rules is None:
        return _at_most(name, None, limit)
    if not s.view.mark_time:
        # Funding comes with the mark; where quotes may stand in for it, its absence is not a refusal of its own.
        return _word(name, s.limits.allow_quote_as_mark, "no funding rate seen", f"<= {_text(limit)}")
    rate = from_e8(s.view.funding_rate_e8) * s.intent.side.sign
    cost = max(ZERO, rate) * 24 / s.rules.funding_interval_hours
    return _at_most(name, cost, limit)


# --- how it has gone ---------------------------------------------------------------------------------------------


def daily_loss(s: Situation) -> CheckResult:
    """Loss since the UTC day began, as a share of the equity then."""
    if s.equity is None:
        return _share_at_most("daily_loss", None, None, s.limits.max_daily_loss_fraction)
    lost = max(ZERO, s.state.day_start_equity - s.equity)
    return _share_at_most("daily_loss", lost, s.state.day_start_equity, s.limits.max_daily_loss_fraction)


def drawdown(s: Situation) -> CheckResult:
    """Fall from the equity's peak, as a share of it; the soft limit bars new risk."""
    if s.equity is None:
        return _share_at_most("drawdown", None, None, s.limits.soft_drawdown_fraction)
    fallen = max(ZERO, s.state.peak_equity - s.equity)
    return _share_at_most("drawdown", fallen, s.state.peak_equity, s.limits.soft_drawdown_fraction)


def consecutive_losses(s: Situation) -> CheckResult:
    """Losing closes in a row, while the pause after the last one lasts."""
    limit = f"< {s.limits.max_consecutive_losses} or {s.limits.loss_pause_s} s of pause"
    count = s.state.consecutive_losses
    paused = s.state.now - s.state.last_loss_time <= s.limits.loss_pause_s * NANOSECONDS
    has_passed = count < s.limits.max_consecutive_losses or not paused
    return _word("consecutive_losses", has_passed, str(count), limit)


def volatility_ratio(s: Situation) -> CheckResult:
    """Range of the last one-minute bar over the average range before it."""
    name, limit, view = "volatility_ratio", s.limits.max_volatility_ratio, s.view
    if view.bar_count < s.limits.volatility_warmup_bars or view.average_range_ppb <= 0:
        seen = f"{view.bar_count} of {s.limits.volatility_warmup_bars} bars"
        return _word(name, not s.limits.require_volatility, seen, f"<= {_text(limit)}")
    return _at_most(name, Decimal(view.range_ppm * 1000) / Decimal(view.average_range_ppb), limit)


CHECKS: tuple[Callable[[Situation], CheckResult], ...] = (
    account,
    instrument,
    brackets,
    order_fields,
    quantity_step,
    min_quantity,
    max_quantity,
    price_tick,
    min_notional,
    trading_state,
    duplicate_intent,
    orders_per_second,
    orders_per_minute,
    open_orders,
    venue_open_orders,
    reference_price,
    market_data_age_ms,
    clock_skew_ms,
    intent_age_ms,
    forecast_age_ms,
    forecast_confidence,
    order_notional_usdt,
    position_notional_usdt,
    instrument_exposure_usdt,
    total_exposure_usdt,
    leverage,
    venue_leverage,
    order_cost_usdt,
    margin_ratio,
    liquidation_distance,
    price_deviation,
    spread_bps,
    slippage_bps,
    funding_cost_per_day,
    daily_loss,
    drawdown,
    consecutive_losses,
    volatility_ratio,
)
"""Every check, in the order verdicts carry them."""


def run_checks(s: Situation) -> tuple[CheckResult, ...]:
    """Run every check. For cancels and reductions those that guard against new risk are shown but do not bind."""
    if not s.exemption:
        return tuple(check(s) for check in CHECKS)
    binding = ALWAYS_FOR_CANCELS if s.exemption == "cancel" else ALWAYS
    results: list[CheckResult] = []
    for check in CHECKS:
        result = check(s)
        if result.name not in binding:
            result = CheckResult(result.name, True, result.value, f"{result.limit} (not binding: {s.exemption})")
        results.append(result)
    return tuple(results)
