"""Checks of size and of how it has gone: exposure, leverage, margin, liquidation, losses, volatility."""

from __future__ import annotations

from decimal import Decimal
from typing import TypeAlias

from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.margin.liquidation import Leg, PositionSide, find_isolated_distance
from services.risk.core.context import CheckContext
from services.risk.core.findings import NOT_KNOWN, Finding, at_least, at_most, share_at_most, write
from services.risk.core.state import ZERO

ONE = Decimal(1)
Share: TypeAlias = tuple[Decimal | None, Decimal | None]
"""A part and its whole, None where one is not known."""


def order_notional_usdt(context: CheckContext) -> Decimal | None:
    """Notional of this order."""
    return context.notional


def position_notional_usdt(context: CheckContext) -> Decimal | None:
    """Notional of the position that this order and the working ones of its side can lead to."""
    return context.direction_notional


def instrument_exposure_usdt(context: CheckContext) -> Decimal | None:
    """Gross exposure in the instrument: position, working orders of both sides, this order."""
    return None if context.exposure is None else context.exposure.gross


def total_exposure_usdt(context: CheckContext) -> Decimal | None:
    """Gross exposure over all instruments."""
    if context.exposure is None or context.others is None:
        return None
    return context.exposure.gross + context.others.gross


def leverage(context: CheckContext) -> Share:
    """Worst-case notional over all instruments, as a multiple of equity."""
    if context.exposure is None or context.others is None:
        return None, context.equity
    return context.exposure.worst + context.others.worst, context.equity


def venue_leverage(context: CheckContext) -> Finding:
    """Leverage against what the venue's bracket allows at that notional."""
    notional, table = context.direction_notional, context.brackets
    if table is None or notional is None:
        return NOT_KNOWN
    if notional > table.max_notional:
        return at_most(notional, table.max_notional)
    return share_at_most(notional, context.equity, Decimal(table.bracket_of(notional).max_leverage))


def order_cost_usdt(context: CheckContext) -> Finding:
    """Initial margin at the leverage cap plus taker fee of this order, against what is free.

    Free is the smaller of the account's own figure and equity less the margin of positions and working orders.
    """
    notional, equity, known = context.notional, context.equity, context.state.account
    if notional is None or context.rules is None or known is None or equity is None or context.tied_up is None:
        return NOT_KNOWN
    cost = notional / context.limits.max_leverage + notional * context.rules.taker_fee_rate
    free = min(known.available_balance, equity - context.tied_up / context.limits.max_leverage)
    return at_most(cost, free)


def margin_ratio(context: CheckContext) -> Share:
    """Maintenance margin of the worst case over all instruments, as a share of equity."""
    exposure, others = context.exposure, context.others
    if exposure is None or exposure.maintenance is None or others is None or others.maintenance is None:
        return None, context.equity
    return exposure.maintenance + others.maintenance, context.equity


def liquidation_distance(context: CheckContext) -> Finding:
    """Share of the reference price between it and the liquidation price of the position this order can lead to."""
    floor = context.limits.min_liquidation_distance
    reference, table, others = context.reference, context.brackets, context.others
    if reference is None or context.direction_notional is None or context.equity is None:
        return at_least(None, floor)
    if table is None or others is None or others.maintenance is None:
        return at_least(None, floor)
    if context.direction_quantity <= 0:
        return True, "no position", f">= {write(floor)}"
    balance = context.equity - others.maintenance
    if balance <= 0:
        return False, f"equity less other maintenance {write(balance)}", f">= {write(floor)}"
    # Marked to the reference, so that equity is wallet plus profit and the entry price no longer matters.
    leg = Leg(
        symbol=context.intent.instrument,
        side=PositionSide.LONG if context.intent.side is Side.BUY else PositionSide.SHORT,
        quantity=context.direction_quantity,
        entry_price=reference.price,
        mark_price=reference.price,
        leverage=ONE,
        brackets=table,
        isolated_margin=balance,
    )
    distance, reason = find_isolated_distance(leg)
    if distance is None:
        # Long with more balance than notional; a balance above zero leaves a short some way to go, unless
        # maintenance eats it.
        return balance > leg.maintenance_margin, reason, f">= {write(floor)}"
    return at_least(distance, floor)


def daily_loss(context: CheckContext) -> Share:
    """Loss since the UTC day began, as a share of the equity then."""
    return _fall(context, context.state.day_start_equity)


def drawdown(context: CheckContext) -> Share:
    """Fall from the equity's peak, as a share of it.

    Past the soft limit only reductions pass; past the hard one the gate flattens and halts.
    """
    return _fall(context, context.state.peak_equity)


def _fall(context: CheckContext, start: Decimal) -> Share:
    if context.equity is None:
        return None, None
    return max(ZERO, start - context.equity), start


def consecutive_losses(context: CheckContext) -> Finding:
    """Losing closes in a row, while the pause after the last one lasts."""
    limits, state = context.limits, context.state
    count = state.consecutive_losses
    is_paused = state.now - state.last_loss_time <= limits.loss_pause_s * NANOSECONDS
    text = f"< {limits.max_consecutive_losses} or {limits.loss_pause_s} s of pause"
    return count < limits.max_consecutive_losses or not is_paused, str(count), text


def volatility_ratio(context: CheckContext) -> Finding:
    """Range of the last one-minute bar over the average range before it."""
    limits, view = context.limits, context.view
    if view.bar_count < limits.volatility_warmup_bars or view.average_range_ppb <= 0:
        seen = f"{view.bar_count} of {limits.volatility_warmup_bars} bars"
        return not limits.require_volatility, seen, f"<= {write(limits.max_volatility_ratio)}"
    ratio = Decimal(view.range_ppm * 1000) / Decimal(view.average_range_ppb)
    return at_most(ratio, limits.max_volatility_ratio)
