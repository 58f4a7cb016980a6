"""Columns from events: exact money, nulls, lists; whatever integers and Decimals come."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.market import Side
from libs.domain.numbers import from_e8
from libs.store.columns import derive_columns
from libs.store.errors import MigrationMismatch, StoreError
from libs.store.migrations import load_migrations
from libs.store.tables import TABLES, StoredRow, complete_statements, market_view, table_of
from libs.wire.topics import RECORDED_TOPICS, TOPICS
from tests.kit.builders import a_trade

E8 = st.integers(-(2**63), 2**63 - 1)


@dataclass(frozen=True)
class Part:
    size: Decimal = Decimal(0)
    has_passed: bool = False


@dataclass(frozen=True)
class Sample:
    """A field of every kind that a message may have."""

    price_e8: int = 0
    bound_e8: int | None = None
    prices_e8: tuple[int, ...] = ()
    open_time: int = 0
    next_time: int | None = None
    fee: Decimal = Decimal(0)
    packed: bytes = b""
    side: Side | None = None
    words: dict[str, str] = field(default_factory=dict)
    part: Part | None = None
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True)
class Other:
    open_time: int = 0
    note: str = ""


def column(name: str, values: list[Any], field_name: str = "") -> Any:
    """Build one column out of samples that differ in one field."""
    found = next(each for each in derive_columns([Sample]) if each.name == name)
    return found.build([Sample(**{field_name or name: value}) for value in values])


@settings(deadline=None)
@given(st.lists(E8))
def test_integers_of_1e8_become_the_same_decimals(values: list[int]) -> None:
    array = column("price", values, "price_e8")
    assert array.type == pa.decimal128(18, 8)
    assert [int(Decimal(value).scaleb(8)) for value in array.cast(pa.decimal128(38, 8)).to_pylist()] == values


@settings(deadline=None)
@given(st.lists(st.none() | E8))
def test_absent_integers_stay_absent(values: list[int | None]) -> None:
    array = column("bound", values, "bound_e8")
    expected = [None if value is None else from_e8(value) for value in values]
    assert array.cast(pa.decimal128(38, 8)).to_pylist() == expected
    assert array.null_count == values.count(None)


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.lists(E8)))
def test_lists_keep_their_members_and_their_lengths(lists: list[list[int]]) -> None:
    array = column("prices", [tuple(each) for each in lists], "prices_e8")
    array.validate(full=False)
    assert [[from_e8(value) for value in each] for each in lists] == [
        [Decimal(value) for value in each] for each in array.to_pylist()
    ]


@settings(deadline=None)
@given(st.lists(st.integers(-(2**62), 2**62)))
def test_times_keep_every_nanosecond(times: list[int]) -> None:
    assert column("open_time", times).cast(pa.int64()).to_pylist() == times
    assert column("next_time", [*times, None]).cast(pa.int64()).to_pylist() == [*times, None]


@pytest.mark.slow
@settings(deadline=None)
@given(st.lists(st.lists(st.floats())))
def test_packed_features_are_unpacked_bit_by_bit(vectors: list[list[float]]) -> None:
    packed = [np.array(vector, dtype="<f8").tobytes() for vector in vectors]
    array = column("feature_values", packed, "packed")
    assert [np.array(vector, dtype="<f8").tobytes() for vector in array.to_pylist()] == packed


def test_amount_finer_than_eight_decimals_is_refused_not_rounded() -> None:
    with pytest.raises(pa.ArrowInvalid):
        column("fee", [Decimal("0.000000001")])


def test_float_is_no_amount() -> None:
    with pytest.raises((pa.ArrowTypeError, pa.ArrowInvalid)):
        column("fee", [0.1])


def test_table_begins_with_where_the_record_came_from() -> None:
    trade = a_trade()
    table = table_of("market.events.v1", trade).arrow("market.events.v1", [StoredRow(3, 7, b"BTC", 1_700, trade)])
    assert table.column_names[:5] == ["topic", "partition", "offset", "key", "append_time"]
    row = table.slice(0, 1).select(["topic", "partition", "offset", "key"]).to_pylist()[0]
    assert row == {"topic": "market.events.v1", "partition": 3, "offset": 7, "key": b"BTC"}


def test_enums_maps_and_values_inside_an_event_become_columns() -> None:
    assert column("side", [Side.BUY, None]).to_pylist() == ["buy", ""]
    assert column("words", [{"b": "1"}, {}]).to_pylist() == [[("b", "1")], []]
    assert column("size", [Part(Decimal(3)), None], "part").to_pylist() == [Decimal(3), None]
    both = [(Part(Decimal(1)), Part(Decimal(2), True)), ()]
    assert column("part_size", both, "parts").to_pylist() == [[Decimal(1), Decimal(2)], []]
    assert column("part_has_passed", both, "parts").to_pylist() == [[False, True], []]


def test_what_one_type_of_a_shared_table_lacks_is_empty_or_null() -> None:
    columns = {each.name: each for each in derive_columns([Sample, Other])}
    rows = [Sample(price_e8=5, open_time=1), Other(2, "why")]
    assert columns["open_time"].build(rows).cast(pa.int64()).to_pylist() == [1, 2]
    assert columns["note"].build(rows).to_pylist() == ["", "why"]
    assert columns["price"].build(rows).to_pylist() == [from_e8(5), None]
    assert columns["prices"].build(rows).to_pylist() == [[], []]
    assert columns["price"].type == "Nullable(Decimal64(8)) CODEC(ZSTD(1))"
    assert columns["note"].type == "String CODEC(ZSTD(1))"


def test_a_field_that_no_column_can_keep_is_refused_by_name() -> None:
    @dataclass
    class Strange:
        thing: complex

    with pytest.raises(StoreError, match="no column can keep thing, a <class 'complex'>"):
        derive_columns([Strange])


def made_by_the_files() -> dict[str, dict[str, str]]:
    """Return table to column to type, as the numbered files make them."""
    made = {}
    for migration in load_migrations():
        for statement in migration.statements:
            found = re.match(r"CREATE TABLE IF NOT EXISTS (\w+)\n\(\n(.*?)\n\)\n", statement, re.DOTALL)
            if found:
                lines = (line.strip().rstrip(",").partition(" CODEC(")[0] for line in found[2].splitlines())
                made[found[1]] = dict(line.split(" ", 1) for line in lines)
    return made


def as_the_server_says(made: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    return {
        table: {
            name: kind.replace("Decimal64(8)", "Decimal(18, 8)").replace("Decimal128(8)", "Decimal(38, 8)")
            for name, kind in columns.items()
        }
        for table, columns in made.items()
    }


def test_derived_columns_are_those_that_released_files_made() -> None:
    # What is missing from the files is added; a column of another type would be refused.
    statements = complete_statements(as_the_server_says(made_by_the_files()))
    assert "ALTER TABLE verdicts ADD COLUMN IF NOT EXISTS reason String CODEC(ZSTD(1))" in statements
    assert not [each for each in statements if each.startswith("CREATE TABLE IF NOT EXISTS trades")]


def test_a_message_without_a_table_gets_one_and_a_column_of_another_type_is_refused() -> None:
    made = as_the_server_says(made_by_the_files())
    del made["alerts"]
    assert TABLES["alerts"].create() in complete_statements(made)
    made["trades"]["price"] = "Float64"
    with pytest.raises(MigrationMismatch, match=r"column price of trades is Float64 where this version writes Decimal"):
        complete_statements(made)


def test_a_table_says_how_it_is_ordered_and_kept() -> None:
    assert (
        TABLES["alerts"]
        .create()
        .endswith(
            "ORDER BY (service, event_time, topic, partition, offset)\nTTL toDateTime(append_time) + INTERVAL 365 DAY"
        )
    )
    assert TABLES["journal_entries"].create().endswith("ORDER BY (topic, partition, offset)")


def test_every_recorded_type_has_a_table_and_the_view_shows_the_whole_market() -> None:
    kept = {each.type for name in RECORDED_TOPICS for each in TOPICS[name].carries}
    assert all(table_of("any", object.__new__(kind)).name in TABLES for kind in kept)
    assert market_view().count("FINAL") == len(TOPICS["market.events.v1"].carries)
