"""From a notional to a quantity that the venue takes: always down, never above what was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from libs.domain.instruments import Instrument
from libs.domain.numbers import round_down_to_step
from libs.margin.brackets import EXACT, ZERO
from libs.sizing.errors import check_above_zero, check_not_negative


@dataclass(frozen=True, slots=True)
class RoundedSize:
    """A quantity in base units with its notional; 0 with a reason where nothing that small can be traded.

    With a quantity above 0 the reason says what cut it, "" where only the step did.
    """

    quantity: Decimal
    notional: Decimal
    reason: str


def round_to_filters(notional: Decimal, price: Decimal, rules: Instrument, *, is_market: bool = True) -> RoundedSize:
    """Return the largest tradable quantity worth at most `notional` (quote units, >= 0) at `price`."""
    check_not_negative("notional", notional)
    check_above_zero("price", price)
    largest = min(rules.max_quantity, rules.market_max_quantity) if is_market else rules.max_quantity
    wanted = EXACT.divide(notional, price)
    reason = ""
    if wanted > largest:
        wanted, reason = largest, f"cut to the venue's maximum quantity {largest}"
    quantity = round_down_to_step(wanted, rules.step_size)
    # A quotient rounded up at the 60th digit must not buy one step too many.
    if EXACT.multiply(quantity, price) > notional:
        quantity = EXACT.subtract(quantity, rules.step_size)
    worth = EXACT.multiply(quantity, price)
    if quantity < rules.min_quantity or quantity <= 0:
        return RoundedSize(ZERO, ZERO, f"below the minimum quantity {rules.min_quantity}")
    if worth < rules.min_notional:
        return RoundedSize(ZERO, ZERO, f"worth {worth:f}, below the minimum notional {rules.min_notional}")
    return RoundedSize(quantity, worth, reason)
