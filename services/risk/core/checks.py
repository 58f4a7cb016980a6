"""The checks of the gate in the order verdicts carry them, and running them.

Each is a function from the situation to one `CheckResult`: the number, its limit, passed or not. A number that is not
known fails its check. A value exactly at its limit passes.
"""

from __future__ import annotations

from collections.abc import Callable

from libs.domain.orders import CheckResult
from services.risk.core import checks_exposure, checks_market, checks_orders
from services.risk.core.situation import Situation

# Checks that bind cancels and reductions too: without them the venue could not carry the order out.
ALWAYS = frozenset(
    {"account", "instrument", "order_fields", "quantity_step", "min_quantity", "max_quantity", "price_tick"}
)
ALWAYS_FOR_CANCELS = frozenset({"account", "order_fields"})

CHECKS: tuple[Callable[[Situation], CheckResult], ...] = (
    checks_orders.account,
    checks_orders.instrument,
    checks_orders.brackets,
    checks_orders.order_fields,
    checks_orders.quantity_step,
    checks_orders.min_quantity,
    checks_orders.max_quantity,
    checks_orders.price_tick,
    checks_orders.min_notional,
    checks_orders.trading_state,
    checks_orders.duplicate_intent,
    checks_orders.orders_per_second,
    checks_orders.orders_per_minute,
    checks_orders.open_orders,
    checks_orders.venue_open_orders,
    checks_market.reference_price,
    checks_market.market_data_age_ms,
    checks_market.clock_skew_ms,
    checks_market.intent_age_ms,
    checks_market.forecast_age_ms,
    checks_market.forecast_confidence,
    checks_exposure.order_notional_usdt,
    checks_exposure.position_notional_usdt,
    checks_exposure.instrument_exposure_usdt,
    checks_exposure.total_exposure_usdt,
    checks_exposure.leverage,
    checks_exposure.venue_leverage,
    checks_exposure.order_cost_usdt,
    checks_exposure.margin_ratio,
    checks_exposure.liquidation_distance,
    checks_market.price_deviation,
    checks_market.spread_bps,
    checks_market.slippage_bps,
    checks_market.funding_cost_per_day,
    checks_exposure.daily_loss,
    checks_exposure.drawdown,
    checks_exposure.hard_drawdown,
    checks_exposure.consecutive_losses,
    checks_exposure.volatility_ratio,
)
"""Every check, in the order verdicts carry them."""


def run_checks(s: Situation) -> tuple[CheckResult, ...]:
    """Run every check. For cancels and reductions those that guard against new risk are shown but do not bind."""
    if not s.exemption:
        return tuple(check(s) for check in CHECKS)
    return _run_binding(s, ALWAYS_FOR_CANCELS if s.exemption == "cancel" else ALWAYS)


def show_checks(s: Situation) -> tuple[CheckResult, ...]:
    """Run every check for an order of risk's own, a cancel or a reduction: all are shown, none binds."""
    return _run_binding(s, frozenset())


def _run_binding(s: Situation, binding: frozenset[str]) -> tuple[CheckResult, ...]:
    results: list[CheckResult] = []
    for check in CHECKS:
        result = check(s)
        if result.name not in binding:
            result = CheckResult(result.name, True, result.value, f"{result.limit} (not binding: {s.exemption})")
        results.append(result)
    return tuple(results)
