"""How a check's number and limit become a finding: passed or not, both as text. A number that is not known fails."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache
from typing import TypeAlias

from libs.domain.numbers import quantize_e8

Finding: TypeAlias = tuple[bool, str, str]
"""Whether a check passed, what it found and what it allows, as texts."""

UNKNOWN = "unknown"
# Most numbers are those of the verdict before: what was found of them is kept.
_REMEMBERED = 4096

NOT_KNOWN: Finding = (False, UNKNOWN, UNKNOWN)
"""The finding of a check whose limit is not known either."""


@lru_cache(maxsize=_REMEMBERED)
def write(value: Decimal | int) -> str:
    """Write a number of a verdict, with at most eight decimals and no zeros at the end of them."""
    if not isinstance(value, Decimal):
        return str(value)
    text = _write_plainly(value)
    point = text.find(".")
    if point >= 0:
        if len(text) - point > 9:
            text = _write_plainly(quantize_e8(value))
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def _write_plainly(value: Decimal) -> str:
    text = str(value)
    # The plain text of nearly every number, in a third of the time that formatting takes.
    return format(value, "f") if "E" in text else text


@lru_cache(maxsize=_REMEMBERED)
def at_most(value: Decimal | int | None, limit: Decimal | int) -> Finding:
    """Find whether a number is known and no larger than its limit."""
    text = f"<= {write(limit)}"
    return (False, UNKNOWN, text) if value is None else (value <= limit, write(value), text)


@lru_cache(maxsize=_REMEMBERED)
def at_least(value: Decimal | int | None, limit: Decimal | int) -> Finding:
    """Find whether a number is known and no smaller than its limit."""
    text = f">= {write(limit)}"
    return (False, UNKNOWN, text) if value is None else (value >= limit, write(value), text)


@lru_cache(maxsize=_REMEMBERED)
def share_at_most(part: Decimal | None, whole: Decimal | None, limit: Decimal) -> Finding:
    """Compare part / whole with a limit without rounding; an unknown part or whole, or a whole not above 0, fails."""
    text = f"<= {write(limit)}"
    if part is None or whole is None:
        return False, UNKNOWN, text
    if whole <= 0:
        return False, f"{write(part)} of {write(whole)}", text
    return part <= limit * whole, write(part / whole), text


@lru_cache(maxsize=_REMEMBERED)
def multiple_of(values: tuple[Decimal, ...], step: Decimal, none: str) -> Finding:
    """Find whether numbers are multiples of a step; `none` is what there is where there are none."""
    value = ", ".join(write(each) for each in values) or none
    return not any(each % step for each in values), value, f"multiple of {write(step)}"
