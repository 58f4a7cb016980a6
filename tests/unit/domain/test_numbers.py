"""Exact numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.numbers import (
    MAX_E8,
    InexactNumber,
    format_decimal,
    from_e8,
    parse_e8,
    round_down_to_step,
    round_up_to_step,
    to_e8,
)


@given(st.integers(-MAX_E8, MAX_E8))
def test_scaling_is_exact_both_ways(scaled: int) -> None:
    assert to_e8(from_e8(scaled)) == scaled


@given(st.integers(0, MAX_E8))
def test_text_is_read_exactly(scaled: int) -> None:
    assert parse_e8(f"{scaled // 10**8}.{scaled % 10**8:08d}") == scaled


@pytest.mark.parametrize(
    ("text", "scaled"),
    [("61800.30", 6_180_030_000_000), ("0", 0), ("-0.00001012", -1012), ("1e-8", 1), ("5.000000000", 5 * 10**8)],
)
def test_exchange_forms_are_read(text: str, scaled: int) -> None:
    assert parse_e8(text) == scaled


@pytest.mark.parametrize(
    "text", ["", "abc", "1.2.3", "0.123456789", "NaN", "Infinity", "99999999999999999999", "٣", "1_0 x"]
)
def test_nonsense_is_refused(text: str) -> None:
    with pytest.raises(InexactNumber):
        parse_e8(text)


@given(st.decimals(0, 10**6, places=8), st.sampled_from(["0.001", "0.1", "5", "0.00000001"]))
def test_rounding_stays_within_a_step(value: Decimal, step: str) -> None:
    size = Decimal(step)
    down, up = round_down_to_step(value, size), round_up_to_step(value, size)
    assert down <= value <= up
    assert up - down in (0, size)
    assert down % size == 0


def test_a_step_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        round_down_to_step(Decimal(1), Decimal(0))


def test_decimals_are_written_plainly() -> None:
    assert [format_decimal(Decimal(text)) for text in ("1.500", "0", "-0.0", "1E+3", "1E-8")] == [
        "1.5",
        "0",
        "0",
        "1000",
        "0.00000001",
    ]
