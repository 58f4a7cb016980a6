"""Checks of size and of how it has gone: exposure, leverage, margin, liquidation, losses, volatility."""

from __future__ import annotations

from decimal import Decimal

from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import CheckResult
from libs.margin.liquidation import Leg, PositionSide, liquidate_isolated
from services.risk.core.check_results import UNKNOWN, at_least, at_most, share_at_most, word, write
from services.risk.core.situation import Situation
from services.risk.core.state import ZERO

ONE = Decimal(1)


def order_notional_usdt(s: Situation) -> CheckResult:
    """Notional of this order."""
    return at_most("order_notional_usdt", s.notional, s.limits.max_order_notional_usdt)


def position_notional_usdt(s: Situation) -> CheckResult:
    """Notional of the position that this order and the working ones of its side can lead to."""
    return at_most("position_notional_usdt", s.direction_notional, s.limits.max_position_notional_usdt)


def instrument_exposure_usdt(s: Situation) -> CheckResult:
    """Gross exposure in the instrument: position, working orders of both sides, this order."""
    gross = None if s.exposure is None else s.exposure.gross
    return at_most("instrument_exposure_usdt", gross, s.limits.max_instrument_exposure_usdt)


def total_exposure_usdt(s: Situation) -> CheckResult:
    """Gross exposure over all instruments."""
    total = None if s.exposure is None or s.others is None else s.exposure.gross + s.others.gross
    return at_most("total_exposure_usdt", total, s.limits.max_total_exposure_usdt)


def leverage(s: Situation) -> CheckResult:
    """Worst-case notional over all instruments, as a multiple of equity."""
    worst = None if s.exposure is None or s.others is None else s.exposure.worst + s.others.worst
    return share_at_most("leverage", worst, s.equity, s.limits.max_leverage)


def venue_leverage(s: Situation) -> CheckResult:
    """Leverage against what the venue's bracket allows at that notional."""
    if s.brackets is None or s.direction_notional is None:
        return word("venue_leverage", False, UNKNOWN, UNKNOWN)
    if s.direction_notional > s.brackets.max_notional:
        return at_most("venue_leverage", s.direction_notional, s.brackets.max_notional)
    allowed = Decimal(s.brackets.bracket_of(s.direction_notional).max_leverage)
    return share_at_most("venue_leverage", s.direction_notional, s.equity, allowed)


def order_cost_usdt(s: Situation) -> CheckResult:
    """Initial margin at the leverage cap plus taker fee of this order, against what is free.

    Free is the smaller of the account's own figure and equity less the margin of positions and working orders.
    """
    if s.notional is None or s.rules is None or s.state.account is None or s.equity is None or s.tied_up is None:
        return word("order_cost_usdt", False, UNKNOWN, UNKNOWN)
    cost = s.notional / s.limits.max_leverage + s.notional * s.rules.taker_fee_rate
    free = min(s.state.account.available_balance, s.equity - s.tied_up / s.limits.max_leverage)
    return at_most("order_cost_usdt", cost, free)


def margin_ratio(s: Situation) -> CheckResult:
    """Maintenance margin of the worst case over all instruments, as a share of equity."""
    maintenance = None
    if s.exposure is not None and s.brackets is not None and s.other_maintenance is not None:
        maintenance = s.brackets.maintenance_margin(s.exposure.worst) + s.other_maintenance
    return share_at_most("margin_ratio", maintenance, s.equity, s.limits.max_margin_ratio)


def liquidation_distance(s: Situation) -> CheckResult:
    """Share of the reference price between it and the liquidation price of the position this order can lead to."""
    name, floor = "liquidation_distance", s.limits.min_liquidation_distance
    if s.reference is None or s.direction_notional is None or s.equity is None:
        return at_least(name, None, floor)
    if s.brackets is None or s.other_maintenance is None:
        return at_least(name, None, floor)
    if s.direction_quantity <= 0:
        return word(name, True, "no position", f">= {write(floor)}")
    balance = s.equity - s.other_maintenance
    if balance <= 0:
        return word(name, False, f"equity less other maintenance {write(balance)}", f">= {write(floor)}")
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
        return word(name, is_safe, result.liquidation_reason, f">= {write(floor)}")
    return at_least(name, result.liquidation_distance, floor)


def daily_loss(s: Situation) -> CheckResult:
    """Loss since the UTC day began, as a share of the equity then."""
    if s.equity is None:
        return share_at_most("daily_loss", None, None, s.limits.max_daily_loss_fraction)
    lost = max(ZERO, s.state.day_start_equity - s.equity)
    return share_at_most("daily_loss", lost, s.state.day_start_equity, s.limits.max_daily_loss_fraction)


def drawdown(s: Situation) -> CheckResult:
    """Fall from the equity's peak, as a share of it; past the soft limit only reductions pass."""
    return _drawdown("drawdown", s, s.limits.soft_drawdown_fraction)


def hard_drawdown(s: Situation) -> CheckResult:
    """The same fall against the limit past which the gate flattens and halts."""
    return _drawdown("hard_drawdown", s, s.limits.hard_drawdown_fraction)


def _drawdown(name: str, s: Situation, limit: Decimal) -> CheckResult:
    if s.equity is None:
        return share_at_most(name, None, None, limit)
    fallen = max(ZERO, s.state.peak_equity - s.equity)
    return share_at_most(name, fallen, s.state.peak_equity, limit)


def consecutive_losses(s: Situation) -> CheckResult:
    """Losing closes in a row, while the pause after the last one lasts."""
    limit = f"< {s.limits.max_consecutive_losses} or {s.limits.loss_pause_s} s of pause"
    count = s.state.consecutive_losses
    paused = s.state.now - s.state.last_loss_time <= s.limits.loss_pause_s * NANOSECONDS
    has_passed = count < s.limits.max_consecutive_losses or not paused
    return word("consecutive_losses", has_passed, str(count), limit)


def volatility_ratio(s: Situation) -> CheckResult:
    """Range of the last one-minute bar over the average range before it."""
    name, limit, view = "volatility_ratio", s.limits.max_volatility_ratio, s.view
    if view.bar_count < s.limits.volatility_warmup_bars or view.average_range_ppb <= 0:
        seen = f"{view.bar_count} of {s.limits.volatility_warmup_bars} bars"
        return word(name, not s.limits.require_volatility, seen, f"<= {write(limit)}")
    return at_most(name, Decimal(view.range_ppm * 1000) / Decimal(view.average_range_ppb), limit)
