"""Columns from events: exact money, nulls, lists; whatever integers and Decimals come."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.numbers import from_e8
from libs.store import columns
from libs.store.tables import StoredRow, table_of
from tests.kit.builders import a_trade

E8 = st.integers(-(2**63), 2**63 - 1)


def of(name: str, values: list[Any]) -> list[Any]:
    return [SimpleNamespace(**{name: value}) for value in values]


@settings(deadline=None)
@given(st.lists(E8))
def test_integers_of_1e8_become_the_same_decimals(values: list[int]) -> None:
    array = columns.e8("price").build(of("price_e8", values))
    assert array.type == pa.decimal128(18, 8)
    assert [int(Decimal(value).scaleb(8)) for value in array.cast(pa.decimal128(38, 8)).to_pylist()] == values


@settings(deadline=None)
@given(st.lists(st.none() | E8))
def test_absent_integers_stay_absent(values: list[int | None]) -> None:
    array = columns.optional_e8("price").build(of("price_e8", values))
    expected = [None if value is None else from_e8(value) for value in values]
    assert array.cast(pa.decimal128(38, 8)).to_pylist() == expected
    assert array.null_count == values.count(None)


@settings(deadline=None)
@given(st.lists(st.lists(E8)))
def test_lists_keep_their_members_and_their_lengths(lists: list[list[int]]) -> None:
    array = columns.e8_list("prices").build(of("prices_e8", [tuple(each) for each in lists]))
    array.validate(full=False)
    assert [[from_e8(value) for value in each] for each in lists] == [
        [Decimal(value) for value in each] for each in array.to_pylist()
    ]


@settings(deadline=None)
@given(st.lists(st.integers(-(2**62), 2**62)))
def test_times_keep_every_nanosecond(times: list[int]) -> None:
    assert columns.time("at").build(of("at", times)).cast(pa.int64()).to_pylist() == times
    assert columns.optional_time("at").build(of("at", [*times, None])).cast(pa.int64()).to_pylist() == [*times, None]


@settings(deadline=None)
@given(st.lists(st.lists(st.floats())))
def test_packed_features_are_unpacked_bit_by_bit(vectors: list[list[float]]) -> None:
    packed = [np.array(vector, dtype="<f8").tobytes() for vector in vectors]
    array = columns.reals("values", "packed").build(of("packed", packed))
    assert [np.array(vector, dtype="<f8").tobytes() for vector in array.to_pylist()] == packed


def test_amount_finer_than_eight_decimals_is_refused_not_rounded() -> None:
    with pytest.raises(pa.ArrowInvalid):
        columns.amount("fee").build(of("fee", [Decimal("0.000000001")]))


def test_float_is_no_amount() -> None:
    with pytest.raises((pa.ArrowTypeError, pa.ArrowInvalid)):
        columns.amount("fee").build(of("fee", [0.1]))


def test_table_begins_with_where_the_record_came_from() -> None:
    trade = a_trade()
    table = table_of("market.events.v1", trade).arrow("market.events.v1", [StoredRow(3, 7, b"BTC", 1_700, trade)])
    assert table.column_names[:5] == ["topic", "partition", "offset", "key", "append_time"]
    row = table.slice(0, 1).select(["topic", "partition", "offset", "key"]).to_pylist()[0]
    assert row == {"topic": "market.events.v1", "partition": 3, "offset": 7, "key": b"BTC"}
