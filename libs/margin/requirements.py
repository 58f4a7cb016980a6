"""What a position or an order ties up: notional, initial and maintenance margin, open loss. Exact; rounds nothing."""

from __future__ import annotations

from decimal import Decimal

from libs.margin.brackets import EXACT, ZERO, BracketTable, MarginError


def notional_of(quantity: Decimal, price: Decimal) -> Decimal:
    """Return |quantity| x price in quote units."""
    return EXACT.multiply(abs(quantity), price)


def initial_margin(notional: Decimal, leverage: Decimal) -> Decimal:
    """Return notional / leverage (leverage >= 1). Raises `MarginError` for a leverage below 1."""
    if leverage < 1:
        raise MarginError(f"leverage: {leverage} is below 1; 1 means fully paid")
    return EXACT.divide(notional, leverage)


def maintenance_margin(notional: Decimal, brackets: BracketTable) -> Decimal:
    """Return the maintenance margin of a notional at its tier: notional x rate - cum (Binance, "tax bracket"
    scheme).
    """
    return brackets.maintenance_margin(notional)


def open_loss(signed_quantity: Decimal, order_price: Decimal, mark_price: Decimal) -> Decimal:
    """Return what an order would lose at the mark the moment it filled, |q x min(0, side x (mark - price))| >= 0."""
    profit = EXACT.multiply(signed_quantity, EXACT.subtract(mark_price, order_price))
    return -profit if profit < 0 else ZERO


def cost_to_open(signed_quantity: Decimal, order_price: Decimal, mark_price: Decimal, leverage: Decimal) -> Decimal:
    """Return initial margin plus open loss of an order, what the available balance must cover (Binance USD-M)."""
    margin = initial_margin(notional_of(signed_quantity, order_price), leverage)
    return EXACT.add(margin, open_loss(signed_quantity, order_price, mark_price))
