"""How a check's number and limit become a `CheckResult`. A number that is not known fails."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from libs.domain.numbers import format_decimal, quantize_e8
from libs.domain.orders import CheckResult

UNKNOWN = "unknown"


@lru_cache(maxsize=4096)
def show(value: Decimal) -> str:
    """Write a Decimal with at most eight decimals. Limits and round numbers come again and again, so texts are kept."""
    exponent = value.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -8:
        value = quantize_e8(value)
    return format_decimal(value)


@lru_cache(maxsize=1024)
def _bound(sign: str, limit: Decimal | int) -> str:
    return f"{sign} {write(limit)}"


def at_most(name: str, value: Decimal | int | None, limit: Decimal | int) -> CheckResult:
    """Check that a number is known and no larger than its limit."""
    if value is None:
        return CheckResult(name, False, UNKNOWN, _bound("<=", limit))
    return CheckResult(name, value <= limit, write(value), _bound("<=", limit))


def at_least(name: str, value: Decimal | int | None, limit: Decimal | int) -> CheckResult:
    """Check that a number is known and no smaller than its limit."""
    if value is None:
        return CheckResult(name, False, UNKNOWN, _bound(">=", limit))
    return CheckResult(name, value >= limit, write(value), _bound(">=", limit))


def share_at_most(name: str, part: Decimal | None, whole: Decimal | None, limit: Decimal) -> CheckResult:
    """Compare part / whole with a limit without rounding; an unknown part or whole, or a whole not above 0, fails."""
    if part is None or whole is None:
        return CheckResult(name, False, UNKNOWN, _bound("<=", limit))
    if whole <= 0:
        return CheckResult(name, False, f"{write(part)} of {write(whole)}", _bound("<=", limit))
    return CheckResult(name, part <= limit * whole, show(part / whole), _bound("<=", limit))


def write(value: Decimal | int) -> str:
    """Write a number of a verdict."""
    return show(value) if isinstance(value, Decimal) else str(value)


def word(name: str, has_passed: bool, value: str, limit: str) -> CheckResult:
    """Check something that is no comparison of numbers."""
    return CheckResult(name, has_passed, value, limit)
