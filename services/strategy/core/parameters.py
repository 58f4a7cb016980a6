"""Checks of strategies' parameters; every fault names the parameter, its value and what it must be."""

from __future__ import annotations

import math
from decimal import Decimal, InvalidOperation


def positive_int(name: str, value: object) -> int:
    """Return an integer above zero. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError(f"{name} is {value!r}, must be a whole number above 0")
    return value


def positive_decimal(name: str, value: object) -> Decimal:
    """Return an exact number above zero, from a string, an integer or a Decimal. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int | Decimal):
        raise ValueError(f"{name} is {value!r}, must be a number above 0 written as a string")
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise ValueError(f"{name} is {value!r}, must be a number above 0") from None
    if not number.is_finite() or number <= 0:
        raise ValueError(f"{name} is {value!r}, must be a number above 0")
    return number


def share(name: str, value: object) -> float:
    """Return a number in [0, 1]. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= 1.0 or math.isnan(value):
        raise ValueError(f"{name} is {value!r}, must be between 0 and 1")
    return float(value)
