"""Brackets: what is read, what is refused and by what name."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.margin.brackets import (
    Bracket,
    BracketTable,
    MarginError,
    build_bracket_table,
    parse_leverage_brackets,
    read_decimal,
)
from libs.margin.default_brackets import DEFAULT_BRACKETS
from tests.unit.margin.builders import an_entry, recorded_brackets

TWO = [an_entry(), an_entry(50000, 250000, "0.005", 50, 100)]


def answer(*entries: dict[str, Any], symbol: str = "BTCUSDT") -> list[dict[str, Any]]:
    return [{"symbol": symbol, "brackets": list(entries)}]


def test_shipped_btc_brackets_have_the_deductions_of_the_worked_table() -> None:
    amounts = [int(bracket.maintenance_amount) for bracket in DEFAULT_BRACKETS["BTCUSDT"].brackets]
    assert amounts == [0, 50, 950, 11450, 131450, 481450, 2981450, 14481450, 26481450, 41481450, 121481450, 421481450]
    assert [bracket.max_leverage for bracket in DEFAULT_BRACKETS["BTCUSDT"].brackets] == [
        125, 100, 75, 50, 25, 20, 10, 5, 4, 3, 2, 1,
    ]  # fmt: skip
    assert all(table.as_of for table in DEFAULT_BRACKETS.values())


def test_shipped_majors_equal_the_recorded_ones() -> None:
    recorded = parse_leverage_brackets(recorded_brackets("fapi_v1_leverageBracket_majors.json"))
    for symbol in ("ETHUSDT", "SOLUSDT", "BNBUSDT", "XRPUSDT"):
        assert DEFAULT_BRACKETS[symbol].brackets == recorded[symbol].brackets


@pytest.mark.parametrize("name", ["fapi_v1_leverageBracket_all.json.gz", "fapi_v1_leverageBracket_majors.json"])
def test_every_recorded_symbol_holds_the_cum_recurrence_and_is_continuous(name: str) -> None:
    tables = parse_leverage_brackets(recorded_brackets(name))
    assert len(tables) > 5
    for table in tables.values():
        for before, after in zip(table.brackets, table.brackets[1:], strict=False):
            step = after.maintenance_rate - before.maintenance_rate
            assert after.maintenance_amount == before.maintenance_amount + after.notional_floor * step
            edge = after.notional_floor
            below = edge * before.maintenance_rate - before.maintenance_amount
            assert below == edge * after.maintenance_rate - after.maintenance_amount
            assert table.maintenance_margin(edge) == below


def test_dated_futures_of_a_recording_are_kept_apart_from_the_perpetual() -> None:
    tables = parse_leverage_brackets(recorded_brackets("fapi_v1_leverageBracket_all.json.gz"))
    assert len(tables) == 698
    assert tables["BTCUSDT"].brackets[0].max_leverage == 150
    assert tables["BTCUSDT_260327"].brackets[0].maintenance_rate == Decimal("0.01")


def test_a_single_symbol_object_is_read_like_a_list() -> None:
    assert parse_leverage_brackets(answer(*TWO)[0]) == parse_leverage_brackets(answer(*TWO))


def test_a_dated_name_that_has_its_date_already_is_left_alone() -> None:
    entry = answer(*TWO, symbol="BTCUSDT_260327")[0] | {"ccxt_symbol": "BTC/USDT:USDT-260327"}
    assert list(parse_leverage_brackets([entry])) == ["BTCUSDT_260327"]


def test_tiers_in_any_order_and_floats_are_read() -> None:
    table = parse_leverage_brackets(answer(an_entry(50000, 250000, 0.005, 50.0, 100), an_entry()))["BTCUSDT"]
    assert [bracket.notional_floor for bracket in table.brackets] == [0, 50000]
    assert table.brackets[1].maintenance_rate == Decimal("0.005")
    assert table.max_notional == 250000


def test_neighbouring_tiers_may_share_rate_and_leverage() -> None:
    table = parse_leverage_brackets(answer(an_entry(), an_entry(50000, 250000, "0.004", 0, 125)))["BTCUSDT"]
    assert len(table.brackets) == 2


def test_bracket_of_takes_the_cap_into_its_tier_and_goes_on_past_the_last() -> None:
    table = parse_leverage_brackets(answer(*TWO))["BTCUSDT"]
    assert table.bracket_of(Decimal(0)).max_leverage == 125
    assert table.bracket_of(Decimal(50000)).max_leverage == 125
    assert table.bracket_of(Decimal("50000.01")).max_leverage == 100
    assert table.bracket_of(Decimal(10**9)).max_leverage == 100
    assert table.maintenance_margin(Decimal(100000)) == Decimal(450)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "there are none"),
        ([an_entry(0, 60000), an_entry(50000, 250000, "0.005", 50, 100)], "tier 2 overlaps"),
        ([an_entry(0, 40000), an_entry(50000, 250000, "0.005", 40, 100)], "tier 2 leaves a gap"),
        ([an_entry(10, 50000)], "the first tier starts at 10"),
        ([an_entry(-10, 50000)], "notionalFloor -10 is negative"),
        ([an_entry(0, 0)], "notionalCap 0 does not exceed"),
        ([an_entry(rate=0)], "tier 1: maintMarginRatio 0 lies outside"),
        ([an_entry(rate=1)], "maintMarginRatio 1 lies outside"),
        ([an_entry(cum=-1)], "cum -1 is negative"),
        ([an_entry(cum=1)], "cum 1 of the first tier"),
        ([an_entry(leverage=0)], "initialLeverage 0 is below 1"),
        ([an_entry(leverage="2.5")], "initialLeverage 2.5 is not a whole number"),
        ([an_entry(), an_entry(50000, 250000, "0.003", 0, 100)], "falls below 0.004"),
        ([an_entry(), an_entry(50000, 250000, "0.005", 50, 126)], "initialLeverage 126 exceeds 125"),
        ([an_entry(), an_entry(50000, 250000, "0.005", 51, 100)], "cum 51 breaks the recurrence"),
        ([an_entry(rate="NaN")], "maintMarginRatio: NaN is not a finite number"),
        ([an_entry(rate="much")], "maintMarginRatio: 'much' is not a number"),
        ([an_entry(rate=True)], "maintMarginRatio: True is not a number"),
        (["tier"], "entry 0 is not an object"),
        ([{"notionalFloor": 0}], "lacks notionalCap"),
    ],
)  # fmt: skip
def test_impossible_tiers_are_refused_by_name(entries: list[Any], message: str) -> None:
    with pytest.raises(MarginError, match=message) as refusal:
        parse_leverage_brackets(answer(*entries))
    assert "brackets of BTCUSDT" in str(refusal.value)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ("text", "expected a list"),
        ([], "expected a list"),
        ([3], "entry 0 names no symbol"),
        ([{"brackets": []}], "entry 0 names no symbol"),
        ([{"symbol": ""}], "entry 0 names no symbol"),
        ([{"symbol": "A", "brackets": 3}], "'brackets' is not a list"),
        (answer(*TWO) + answer(*TWO), "BTCUSDT appears twice"),
    ],
)
def test_answers_of_another_shape_are_refused(payload: object, message: str) -> None:
    with pytest.raises(MarginError, match=message):
        parse_leverage_brackets(payload)


@pytest.mark.parametrize("value", [None, [], {}, "", "1,5", "Infinity", float("nan"), False, Fraction(1)])
def test_what_is_no_finite_number_is_refused_with_its_field(value: object) -> None:
    with pytest.raises(MarginError, match="wallet: "):
        read_decimal(value, "wallet")


def test_numbers_are_read_exactly() -> None:
    assert read_decimal(" 0.1 ", "x") == read_decimal(0.1, "x") == Decimal("0.1")
    assert read_decimal(7, "x") == 7


@st.composite
def bracket_tables(draw: st.DrawFn) -> BracketTable:
    """Tables that obey the rules, with one to eight tiers."""
    count = draw(st.integers(1, 8))
    rates = sorted(draw(st.lists(st.integers(1, 900), min_size=count, max_size=count, unique=True)))
    floors = [0, *sorted(draw(st.lists(st.integers(1, 10**6), min_size=count, max_size=count, unique=True)))]
    brackets: list[Any] = []
    amount = Decimal(0)
    for index in range(count):
        rate = Decimal(rates[index]) / 1000
        if index:
            amount += floors[index] * (rate - brackets[-1].maintenance_rate)
        brackets.append(Bracket(Decimal(floors[index]), Decimal(floors[index + 1]), rate, amount, max(1, 100 - index)))
    return build_bracket_table("TESTUSDT", brackets)


@given(table=bracket_tables(), notional=st.decimals(0, 2_000_000, places=4))
def test_maintenance_margin_never_falls_and_never_exceeds_notional(table: BracketTable, notional: Decimal) -> None:
    margin = table.maintenance_margin(notional)
    assert 0 <= margin <= notional
    assert table.maintenance_margin(notional + 1) >= margin
