"""Checks against the market: is what we know fresh, is the price sane, what does it cost."""

from __future__ import annotations

from decimal import Decimal

from libs.domain.market import Side
from libs.domain.numbers import from_e8
from services.risk.core.context import CheckContext
from services.risk.core.findings import UNKNOWN, Finding, at_least, at_most, share_at_most, write
from services.risk.core.state import ZERO

MILLISECOND = 1_000_000
BPS = Decimal(10_000)
ONE = Decimal(1)
_NO_FORECAST = "no forecast used"


def reference_price(context: CheckContext) -> Finding:
    """There is a price to judge by; says which."""
    limit = "mark, quote_mid or last_price" if context.limits.allow_quote_as_mark else "mark"
    if context.reference is None:
        return False, UNKNOWN, limit
    return True, f"{write(context.reference.price)} {context.reference.source}", limit


def market_data_complete(context: CheckContext) -> Finding:
    """Neither the last bar nor one that a forecast behind the intent was made from lacks trades."""
    if context.view.has_incomplete_bar:
        return False, "the last bar lacks trades", "complete"
    if any(cause in context.view.incomplete_forecasts for cause in context.intent.cause_ids):
        return False, "the forecast is of a bar that lacks trades", "complete"
    return True, "complete", "complete"


def market_data_age_ms(context: CheckContext) -> int | None:
    """Age of the reference price, or of the quote where that is older."""
    if context.reference is None or not context.view.quote_time:
        return None
    return (context.state.now - min(context.reference.time, context.view.quote_time)) // MILLISECOND


def clock_skew_ms(context: CheckContext) -> int | None:
    """Distance between the venue's time and ours on the reference price."""
    return None if context.reference is None else abs(context.reference.skew_ns) // MILLISECOND


def intent_age_ms(context: CheckContext) -> int | None:
    """Distance between the intent's time and the market's, either way."""
    return abs(context.state.now - context.intent.event_time) // MILLISECOND if context.state.now else None


def forecast_age_ms(context: CheckContext) -> Finding:
    """Age of the forecast behind the intent, where it used one."""
    limit = context.limits.max_forecast_age_ms
    if context.intent.confidence is None:
        return True, _NO_FORECAST, f"<= {limit}"
    time = context.view.forecast_time(context.intent.cause_ids)
    return at_most(None if time is None else (context.state.now - time) // MILLISECOND, limit)


def forecast_confidence(context: CheckContext) -> Finding:
    """Confidence of the forecast behind the intent, where it used one."""
    limit = context.limits.min_forecast_confidence
    if context.intent.confidence is None:
        return True, _NO_FORECAST, f">= {write(limit)}"
    confidence = Decimal(repr(float(context.intent.confidence)))
    return at_least(confidence if confidence.is_finite() else None, limit)


def price_deviation(context: CheckContext) -> Finding:
    """Distance of a limit price from the reference, within our collar and the venue's multipliers."""
    rules, intent, allowed = context.rules, context.intent, context.limits.max_price_deviation
    if rules is None:
        return at_most(None, allowed)
    if intent.side is Side.BUY:
        allowed = min(allowed, rules.price_multiplier_up - ONE)
    else:
        allowed = min(allowed, ONE - rules.price_multiplier_down)
    if intent.limit_price is None and context.is_sane:
        return True, "no limit price", f"<= {write(allowed)}"
    if context.reference is None or not context.is_sane or intent.limit_price is None:
        return at_most(None, allowed)
    reference = context.reference.price
    return share_at_most(abs(intent.limit_price - reference), reference, allowed)


def spread_bps(context: CheckContext) -> Decimal | None:
    """Spread of the best quote over its mid."""
    bid, ask = context.view.bid_e8, context.view.ask_e8
    if not 0 < bid <= ask:
        return None
    return Decimal(2 * (ask - bid)) * BPS / Decimal(ask + bid)


def slippage_bps(context: CheckContext) -> Decimal | None:
    """How much worse than the price decided on the order can fill at once: at the touch, or its limit where better."""
    intent = context.intent
    touch_e8 = context.view.ask_e8 if intent.side is Side.BUY else context.view.bid_e8
    decided = intent.reference_price
    if decided is None and context.reference is not None:
        decided = context.reference.price
    if not context.is_sane or touch_e8 <= 0 or decided is None or decided <= 0:
        return None
    sign = intent.side.sign
    fill = from_e8(touch_e8)
    if intent.limit_price is not None and (fill - intent.limit_price) * sign > 0:
        fill = intent.limit_price
    return (fill - decided) * sign * BPS / decided


def funding_cost_per_day(context: CheckContext) -> Finding:
    """What the order's side pays a day in funding at the rate in force, as a share of notional; 0 where it is paid."""
    limit = context.limits.max_funding_cost_per_day
    if context.rules is None:
        return at_most(None, limit)
    if not context.view.mark_time:
        # Funding comes with the mark; where quotes may stand in for it, its absence is not a refusal of its own.
        return context.limits.allow_quote_as_mark, "no funding rate seen", f"<= {write(limit)}"
    rate = from_e8(context.view.funding_rate_e8) * context.intent.side.sign
    return at_most(max(ZERO, rate) * 24 / context.rules.funding_interval_hours, limit)
