"""Checks against the market: is what we know fresh, is the price sane, what does it cost."""

from __future__ import annotations

from decimal import Decimal

from libs.domain.market import Side
from libs.domain.numbers import from_e8
from libs.domain.orders import CheckResult
from services.risk.core.check_results import UNKNOWN, at_least, at_most, share_at_most, word, write
from services.risk.core.situation import Situation
from services.risk.core.state import ZERO

MILLISECOND = 1_000_000
BPS = Decimal(10_000)
ONE = Decimal(1)


def reference_price(s: Situation) -> CheckResult:
    """There is a price to judge by; says which."""
    limit = "mark, quote_mid or last_price" if s.limits.allow_quote_as_mark else "mark"
    if s.reference is None:
        return word("reference_price", False, UNKNOWN, limit)
    return word("reference_price", True, f"{write(s.reference)} {s.reference_source}", limit)


def market_data_age_ms(s: Situation) -> CheckResult:
    """Age of the reference price, or of the quote where that is older."""
    age = None
    if s.reference is not None and s.view.quote_time:
        age = (s.state.now - min(s.reference_time, s.view.quote_time)) // MILLISECOND
    return at_most("market_data_age_ms", age, s.limits.max_market_data_age_ms)


def clock_skew_ms(s: Situation) -> CheckResult:
    """Distance between the venue's time and ours on the reference price."""
    skew = None if s.reference is None else abs(s.reference_skew_ns) // MILLISECOND
    return at_most("clock_skew_ms", skew, s.limits.max_clock_skew_ms)


def intent_age_ms(s: Situation) -> CheckResult:
    """Distance between the intent's time and the market's, either way."""
    age = None if not s.state.now else abs(s.state.now - s.intent.event_time) // MILLISECOND
    return at_most("intent_age_ms", age, s.limits.max_intent_age_ms)


def forecast_age_ms(s: Situation) -> CheckResult:
    """Age of the forecast behind the intent, where it used one."""
    if s.intent.confidence is None:
        return word("forecast_age_ms", True, "no forecast used", f"<= {s.limits.max_forecast_age_ms}")
    time = s.view.forecast_time(s.intent.cause_ids)
    age = None if time is None else (s.state.now - time) // MILLISECOND
    return at_most("forecast_age_ms", age, s.limits.max_forecast_age_ms)


def forecast_confidence(s: Situation) -> CheckResult:
    """Confidence of the forecast behind the intent, where it used one."""
    if s.intent.confidence is None:
        return word("forecast_confidence", True, "no forecast used", f">= {write(s.limits.min_forecast_confidence)}")
    confidence = Decimal(repr(float(s.intent.confidence)))
    known = confidence if confidence.is_finite() else None
    return at_least("forecast_confidence", known, s.limits.min_forecast_confidence)


def price_deviation(s: Situation) -> CheckResult:
    """Distance of a limit price from the reference, within our collar and the venue's multipliers."""
    name = "price_deviation"
    if s.rules is None:
        return at_most(name, None, s.limits.max_price_deviation)
    allowed = s.limits.max_price_deviation
    if s.intent.side is Side.BUY:
        allowed = min(allowed, s.rules.price_multiplier_up - ONE)
    else:
        allowed = min(allowed, ONE - s.rules.price_multiplier_down)
    if s.intent.limit_price is None and s.is_sane:
        return word(name, True, "no limit price", f"<= {write(allowed)}")
    if s.reference is None or not s.is_sane or s.intent.limit_price is None:
        return at_most(name, None, allowed)
    return share_at_most(name, abs(s.intent.limit_price - s.reference), s.reference, allowed)


def spread_bps(s: Situation) -> CheckResult:
    """Spread of the best quote over its mid."""
    bid, ask = s.view.bid_e8, s.view.ask_e8
    if not 0 < bid <= ask:
        return at_most("spread_bps", None, s.limits.max_spread_bps)
    spread = Decimal(2 * (ask - bid)) * BPS / Decimal(ask + bid)
    return at_most("spread_bps", spread, s.limits.max_spread_bps)


def slippage_bps(s: Situation) -> CheckResult:
    """How much worse than the price decided on the order can fill at once: at the touch, or its limit where better."""
    name, limit = "slippage_bps", s.limits.max_slippage_bps
    touch_e8 = s.view.ask_e8 if s.intent.side is Side.BUY else s.view.bid_e8
    decided = s.intent.reference_price if s.intent.reference_price is not None else s.reference
    if not s.is_sane or touch_e8 <= 0 or decided is None or decided <= 0:
        return at_most(name, None, limit)
    sign = s.intent.side.sign
    fill = from_e8(touch_e8)
    if s.intent.limit_price is not None and (fill - s.intent.limit_price) * sign > 0:
        fill = s.intent.limit_price
    worse = (fill - decided) * sign
    return at_most(name, worse * BPS / decided, limit)


def funding_cost_per_day(s: Situation) -> CheckResult:
    """What the order's side pays a day in funding at the rate in force, as a share of notional; 0 where it is paid."""
    name, limit = "funding_cost_per_day", s.limits.max_funding_cost_per_day
    if s.rules is None:
        return at_most(name, None, limit)
    if not s.view.mark_time:
        # Funding comes with the mark; where quotes may stand in for it, its absence is not a refusal of its own.
        return word(name, s.limits.allow_quote_as_mark, "no funding rate seen", f"<= {write(limit)}")
    rate = from_e8(s.view.funding_rate_e8) * s.intent.side.sign
    cost = max(ZERO, rate) * 24 / s.rules.funding_interval_hours
    return at_most(name, cost, limit)
