"""Several rules into one notional, under caps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

from libs.margin.brackets import EXACT, ZERO
from libs.sizing.errors import SizingError, check_not_negative


class Composition(StrEnum):
    """How several notionals become one."""

    SMALLEST = "smallest"
    MEAN = "mean"
    WEIGHTED = "weighted"


@dataclass(frozen=True, slots=True)
class CappedSize:
    """A notional and the name of the cap that bound it, "" where none did."""

    notional: Decimal
    bound_by: str


def compose(
    notionals: Mapping[str, Decimal], how: Composition, weights: Mapping[str, Decimal] | None = None
) -> Decimal:
    """Return one notional of several by rule name. WEIGHTED needs a weight (>= 0, not all 0) for each name.

    Raises `SizingError` where there is nothing to compose or a weight is missing.
    """
    if not notionals:
        raise SizingError("notionals: there are none to compose; give at least one rule")
    for name, notional in notionals.items():
        check_not_negative(name, notional)
    if how is Composition.SMALLEST:
        return min(notionals.values())
    if how is Composition.MEAN:
        return EXACT.divide(sum(notionals.values(), ZERO), Decimal(len(notionals)))
    given = weights or {}
    missing = sorted(set(notionals) - set(given))
    if missing:
        raise SizingError(f"weights: none for {', '.join(missing)}")
    total = weighted = ZERO
    for name, notional in notionals.items():
        check_not_negative(f"weight of {name}", given[name])
        total = EXACT.add(total, given[name])
        weighted = EXACT.add(weighted, EXACT.multiply(given[name], notional))
    if total == 0:
        raise SizingError("weights: all are 0")
    return EXACT.divide(weighted, total)


def cap_notional(
    notional: Decimal, equity: Decimal, max_leverage: Decimal, max_notional: Decimal | None = None
) -> CappedSize:
    """Return the notional under equity x leverage and under a cap of its own, and which of them bound it."""
    check_not_negative("notional", notional)
    check_not_negative("equity", equity)
    check_not_negative("max_leverage", max_leverage)
    result = CappedSize(notional, "")
    by_leverage = EXACT.multiply(equity, max_leverage)
    if by_leverage < result.notional:
        result = CappedSize(by_leverage, "max_leverage")
    if max_notional is not None:
        check_not_negative("max_notional", max_notional)
        if max_notional < result.notional:
            result = CappedSize(max_notional, "max_notional")
    return result
