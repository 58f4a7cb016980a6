"""Sizing rules: each gives a notional in quote units, never below zero. Money in Decimal, statistics in floats."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from libs.margin.brackets import EXACT, ONE, ZERO, BracketTable
from libs.sizing.errors import SizingError, check_above_zero, check_not_negative, check_share
from libs.sizing.kelly import kelly_binary, scale_kelly


def size_fixed_fraction(equity: Decimal, fraction: Decimal) -> Decimal:
    """Return equity x fraction."""
    check_not_negative("equity", equity)
    check_not_negative("fraction", fraction)
    return EXACT.multiply(equity, fraction)


def size_volatility_target(equity: Decimal, target_volatility: Decimal, volatility: Decimal) -> Decimal:
    """Return equity x target / volatility, both over the same period: the position moves the equity by the target."""
    check_not_negative("equity", equity)
    check_not_negative("target_volatility", target_volatility)
    check_above_zero("volatility", volatility)
    return EXACT.divide(EXACT.multiply(equity, target_volatility), volatility)


def size_by_risk(
    equity: Decimal, risk_fraction: Decimal, entry_price: Decimal, stop_price: Decimal, fee_rate: Decimal = ZERO
) -> Decimal:
    """Return the notional that loses equity x risk fraction when the stop is hit, the fees of both ways included."""
    check_not_negative("equity", equity)
    check_share("risk_fraction", risk_fraction)
    check_above_zero("entry_price", entry_price)
    check_above_zero("stop_price", stop_price)
    check_share("fee_rate", fee_rate)
    if entry_price == stop_price:
        raise SizingError(f"stop_price: {stop_price} equals the entry price; a stop needs a distance")
    fees = EXACT.multiply(fee_rate, EXACT.add(entry_price, stop_price))
    loss_per_unit = EXACT.add(abs(EXACT.subtract(entry_price, stop_price)), fees)
    quantity = EXACT.divide(EXACT.multiply(equity, risk_fraction), loss_per_unit)
    return EXACT.multiply(quantity, entry_price)


def size_leverage_adjusted(
    equity: Decimal,
    margin_fraction: Decimal,
    leverage: Decimal,
    min_liquidation_distance: Decimal,
    brackets: BracketTable,
) -> Decimal:
    """Return equity x margin fraction x the leverage that keeps liquidation at least that share of the price away.

    An isolated position of leverage L is liquidated no nearer than 1 / L - rate (a long's distance, rate and
    deduction at its tier), so L is at most 1 / (distance + rate) as well as the leverage asked for and the tier's
    cap. The rate is taken at the notional it leads to, tier by tier from the first.
    """
    check_not_negative("equity", equity)
    check_share("margin_fraction", margin_fraction)
    check_share("min_liquidation_distance", min_liquidation_distance)
    if leverage < 1:
        raise SizingError(f"leverage: {leverage} must be 1 or above")
    stake = EXACT.multiply(equity, margin_fraction)
    best = ZERO
    for bracket in brackets.brackets:
        bound = EXACT.divide(ONE, EXACT.add(min_liquidation_distance, bracket.maintenance_rate))
        allowed = min(leverage, bound, Decimal(bracket.max_leverage))
        notional = min(EXACT.multiply(stake, allowed), bracket.notional_cap)
        if notional < bracket.notional_floor:
            break
        best = max(best, notional)
    return best


def size_kelly(
    equity: Decimal,
    win_probability: float,
    win_loss_ratio: float,
    loss_fraction: Decimal,
    share: float = 1.0,
    cap: Decimal | None = None,
) -> Decimal:
    """Return equity x Kelly's fraction of a bet that loses `loss_fraction` of its notional (> 0), scaled and capped."""
    check_not_negative("equity", equity)
    check_above_zero("loss_fraction", loss_fraction)
    staked = Decimal(f"{scale_kelly(kelly_binary(win_probability, win_loss_ratio), share):.12g}")
    fraction = EXACT.divide(staked, loss_fraction)
    if cap is not None:
        check_not_negative("cap", cap)
        fraction = min(fraction, cap)
    return EXACT.multiply(equity, fraction)


@dataclass(frozen=True, slots=True)
class SizeQuestion:
    """What all five rules need; shares are of 1, volatilities of the same period, prices in quote units."""

    equity: Decimal
    entry_price: Decimal
    stop_price: Decimal
    brackets: BracketTable
    win_probability: float
    win_loss_ratio: float
    kelly_share: float
    kelly_cap: Decimal
    fraction: Decimal
    target_volatility: Decimal
    volatility: Decimal
    risk_fraction: Decimal
    fee_rate: Decimal
    margin_fraction: Decimal
    leverage: Decimal
    min_liquidation_distance: Decimal


def size_by_all_rules(question: SizeQuestion) -> dict[str, Decimal]:
    """Return the notional of each rule by name: kelly, fixed_fraction, volatility_target, risk_based,
    leverage_adjusted.
    """
    q = question
    check_above_zero("entry_price", q.entry_price)
    check_above_zero("stop_price", q.stop_price)
    distance = EXACT.divide(abs(EXACT.subtract(q.entry_price, q.stop_price)), q.entry_price)
    if distance == 0:
        raise SizingError(f"stop_price: {q.stop_price} equals the entry price; a stop needs a distance")
    return {
        "kelly": size_kelly(q.equity, q.win_probability, q.win_loss_ratio, distance, q.kelly_share, q.kelly_cap),
        "fixed_fraction": size_fixed_fraction(q.equity, q.fraction),
        "volatility_target": size_volatility_target(q.equity, q.target_volatility, q.volatility),
        "risk_based": size_by_risk(q.equity, q.risk_fraction, q.entry_price, q.stop_price, q.fee_rate),
        "leverage_adjusted": size_leverage_adjusted(
            q.equity, q.margin_fraction, q.leverage, q.min_liquidation_distance, q.brackets
        ),
    }
