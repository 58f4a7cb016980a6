"""Exact prices and quantities: `Decimal` where money is computed, integers of 1e-8 where events are many."""

from __future__ import annotations

from decimal import ROUND_DOWN, ROUND_HALF_EVEN, ROUND_UP, Context, Decimal, InvalidOperation
from functools import lru_cache

SCALE = 100_000_000
NANOSECONDS = 1_000_000_000
MAX_E8 = 2**63 - 1

_EXPONENT = Decimal("1E-8")
_SCALE = Decimal(SCALE)
# 38 digits hold price x quantity of anything an exchange lists; the default context's traps stay on.
_CONTEXT = Context(prec=38, rounding=ROUND_HALF_EVEN)
# Bound once: these are called for every price of every event.
_multiply, _quantize = _CONTEXT.multiply, _CONTEXT.quantize


class InexactNumber(ValueError):
    """A number has more than eight decimals, is not finite, or does not fit 64 bits once scaled."""


@lru_cache(maxsize=65_536)
def parse_e8(text: str) -> int:
    """Read a decimal string such as ``"61800.30"`` as an integer of 1e-8. Raises `InexactNumber`.

    The common form of exchange frames (digits, point, at most eight digits) takes a path without Decimal. A book says
    the same prices and quantities again and again: the last ones read are remembered.
    """
    whole, point, fraction = text.partition(".")
    if whole.isdigit() and whole.isascii() and (not point or (fraction.isdigit() and fraction.isascii())):
        if len(fraction) > 8:
            if fraction[8:].strip("0"):
                raise InexactNumber(f"{text!r} has more than eight decimals")
            fraction = fraction[:8]
        scaled = int(whole) * SCALE + (int(fraction) * 10 ** (8 - len(fraction)) if fraction else 0)
        if scaled > MAX_E8:
            raise InexactNumber(f"{text!r} does not fit a scaled 64-bit integer")
        return scaled
    try:
        # Decimal reads digits of every script; an exchange writes ASCII, and anything else is a damaged frame.
        value = Decimal(text if text.isascii() else "")
    except InvalidOperation:
        raise InexactNumber(f"{text!r} is not a decimal number") from None
    return to_e8(value)


def to_e8(value: Decimal) -> int:
    """Scale a Decimal to an integer of 1e-8. Raises `InexactNumber` rather than round."""
    if not value.is_finite():
        raise InexactNumber(f"{value} is not a finite number")
    scaled = _multiply(value, _SCALE)
    as_integer = int(scaled)
    if as_integer != scaled:
        raise InexactNumber(f"{value} has more than eight decimals")
    if not -MAX_E8 <= as_integer <= MAX_E8:
        raise InexactNumber(f"{value} does not fit a scaled 64-bit integer")
    return as_integer


def from_e8(scaled: int) -> Decimal:
    """Return the exact Decimal of an integer of 1e-8, without trailing zeros beyond the point's need."""
    return _multiply(Decimal(scaled), _EXPONENT)


def quantize_e8(value: Decimal) -> Decimal:
    """Round a computed amount half-even to the eight decimals that the wire carries."""
    return _quantize(value, _EXPONENT)


def round_down_to_step(value: Decimal, step: Decimal) -> Decimal:
    """Round toward zero to a multiple of `step` (> 0), as exchanges demand of quantities."""
    if step <= 0:
        raise ValueError(f"step must be above zero, got {step}")
    return (value / step).to_integral_value(rounding=ROUND_DOWN) * step


def round_up_to_step(value: Decimal, step: Decimal) -> Decimal:
    """Round away from zero to a multiple of `step` (> 0)."""
    if step <= 0:
        raise ValueError(f"step must be above zero, got {step}")
    return (value / step).to_integral_value(rounding=ROUND_UP) * step


def format_decimal(value: Decimal) -> str:
    """Write a Decimal plainly: no exponent, no trailing zeros after the point."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text
