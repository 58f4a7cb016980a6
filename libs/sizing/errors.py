"""The one error of sizing."""

from __future__ import annotations

import math
from decimal import Decimal


class SizingError(ValueError):
    """An input of a sizing rule is impossible; the text names the field and what it may be."""


def check_above_zero(name: str, value: Decimal | float) -> None:
    """Raise `SizingError` unless the value is finite and above zero."""
    if not math.isfinite(value) or value <= 0:
        raise SizingError(f"{name}: {value} must be a finite number above zero")


def check_not_negative(name: str, value: Decimal | float) -> None:
    """Raise `SizingError` unless the value is finite and zero or above."""
    if not math.isfinite(value) or value < 0:
        raise SizingError(f"{name}: {value} must be a finite number, zero or above")


def check_share(name: str, value: Decimal | float) -> None:
    """Raise `SizingError` unless the value lies in [0, 1]."""
    if not math.isfinite(value) or not 0 <= value <= 1:
        raise SizingError(f"{name}: {value} must lie in [0, 1]; 0.02 means 2 %")
