"""The checks of the gate: each is declared here once, with its name, its limit and the orders that it binds.

A check finds a number and compares it with its limit; a number that is not known fails, a value exactly at its limit
passes. Verdicts carry every check, in the order of the declarations, and are read by its name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from typing import TypeAlias

from libs.domain.orders import CheckResult
from services.risk.core import checks_exposure, checks_market, checks_orders, findings
from services.risk.core.checks_exposure import Share
from services.risk.core.context import CANCEL, REDUCTION, CheckContext
from services.risk.core.findings import Finding

Judge: TypeAlias = Callable[[CheckContext], Finding]

OPENING = frozenset({""})
ALL_BUT_CANCELS = frozenset({"", REDUCTION})
ALL_ORDERS = frozenset({"", REDUCTION, CANCEL})


@dataclass(frozen=True, slots=True)
class Check:
    """A check by its name. `binds` holds the exemptions of the orders that fail with it, "" for those without one."""

    name: str
    judge: Judge
    binds: frozenset[str] = OPENING


def at_most(limit: str, number: Callable[[CheckContext], Decimal | int | None]) -> Judge:
    """Compare a number with a limit by its name: it must not exceed it."""

    limit_of = attrgetter(limit)

    def judge(context: CheckContext) -> Finding:
        return findings.at_most(number(context), limit_of(context.limits))

    return judge


def share_at_most(limit: str, share: Callable[[CheckContext], Share]) -> Judge:
    """Compare a share of a whole with a limit by its name: it must not exceed it."""

    limit_of = attrgetter(limit)

    def judge(context: CheckContext) -> Finding:
        part, whole = share(context)
        return findings.share_at_most(part, whole, limit_of(context.limits))

    return judge


CHECKS: tuple[Check, ...] = (
    # Those that bind cancels and reductions too: without them the venue could not carry the order out.
    Check("account", checks_orders.account, ALL_ORDERS),
    Check("instrument", checks_orders.instrument, ALL_BUT_CANCELS),
    Check("brackets", checks_orders.brackets),
    Check("order_fields", checks_orders.order_fields, ALL_ORDERS),
    Check("quantity_step", checks_orders.quantity_step, ALL_BUT_CANCELS),
    Check("min_quantity", checks_orders.min_quantity, ALL_BUT_CANCELS),
    Check("max_quantity", checks_orders.max_quantity, ALL_BUT_CANCELS),
    Check("price_tick", checks_orders.price_tick, ALL_BUT_CANCELS),
    Check("min_notional", checks_orders.min_notional),
    Check("trading_state", checks_orders.trading_state),
    Check("duplicate_intent", checks_orders.duplicate_intent),
    Check("orders_per_second", at_most("max_orders_per_second", checks_orders.orders_per_second)),
    Check("orders_per_minute", at_most("max_orders_per_minute", checks_orders.orders_per_minute)),
    Check("open_orders", at_most("max_open_orders", checks_orders.open_orders)),
    Check("venue_open_orders", checks_orders.venue_open_orders),
    Check("reference_price", checks_market.reference_price),
    Check("market_data_complete", checks_market.market_data_complete),
    Check("market_data_age_ms", at_most("max_market_data_age_ms", checks_market.market_data_age_ms)),
    Check("clock_skew_ms", at_most("max_clock_skew_ms", checks_market.clock_skew_ms)),
    Check("intent_age_ms", at_most("max_intent_age_ms", checks_market.intent_age_ms)),
    Check("forecast_age_ms", checks_market.forecast_age_ms),
    Check("forecast_confidence", checks_market.forecast_confidence),
    Check("order_notional_usdt", at_most("max_order_notional_usdt", checks_exposure.order_notional_usdt)),
    Check("position_notional_usdt", at_most("max_position_notional_usdt", checks_exposure.position_notional_usdt)),
    Check(
        "instrument_exposure_usdt", at_most("max_instrument_exposure_usdt", checks_exposure.instrument_exposure_usdt)
    ),
    Check("total_exposure_usdt", at_most("max_total_exposure_usdt", checks_exposure.total_exposure_usdt)),
    Check("leverage", share_at_most("max_leverage", checks_exposure.leverage)),
    Check("venue_leverage", checks_exposure.venue_leverage),
    Check("order_cost_usdt", checks_exposure.order_cost_usdt),
    Check("margin_ratio", share_at_most("max_margin_ratio", checks_exposure.margin_ratio)),
    Check("liquidation_distance", checks_exposure.liquidation_distance),
    Check("price_deviation", checks_market.price_deviation),
    Check("spread_bps", at_most("max_spread_bps", checks_market.spread_bps)),
    Check("slippage_bps", at_most("max_slippage_bps", checks_market.slippage_bps)),
    Check("funding_cost_per_day", checks_market.funding_cost_per_day),
    Check("daily_loss", share_at_most("max_daily_loss_fraction", checks_exposure.daily_loss)),
    Check("drawdown", share_at_most("soft_drawdown_fraction", checks_exposure.drawdown)),
    Check("hard_drawdown", share_at_most("hard_drawdown_fraction", checks_exposure.drawdown)),
    Check("consecutive_losses", checks_exposure.consecutive_losses),
    Check("volatility_ratio", checks_exposure.volatility_ratio),
)
"""Every check, in the order verdicts carry them."""

# Most results are those of the verdict before.
_result = lru_cache(maxsize=4096)(CheckResult)


def run_checks(context: CheckContext) -> tuple[CheckResult, ...]:
    """Run every check. For cancels and reductions those that guard against new risk are shown but do not bind."""
    exemption = context.exemption
    results: list[CheckResult] = []
    for check in CHECKS:
        has_passed, value, limit = check.judge(context)
        if exemption not in check.binds:
            has_passed, limit = True, f"{limit} (not binding: {exemption})"
        results.append(_result(check.name, has_passed, value, limit))
    return tuple(results)


def show_checks(context: CheckContext) -> tuple[CheckResult, ...]:
    """Run every check for an order of risk's own, a cancel or a reduction: all are shown, none binds."""
    results: list[CheckResult] = []
    for check in CHECKS:
        _, value, limit = check.judge(context)
        results.append(_result(check.name, True, value, f"{limit} (not binding: {context.exemption})"))
    return tuple(results)
