"""Rows of payloads by columns: those that the events themselves would give, whatever the bytes are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.bus.api import Record
from libs.domain.events import Event
from libs.domain.market import ExchangeBar, OutsideReading
from libs.store.batches import build_batch, column_kinds
from libs.store.tables import EVENT_TABLES, StoredRow, Undecodable, table_of
from libs.wire import DecodeError, decode_any, encode
from libs.wire.topics import MARKET_EVENTS, TOPICS
from tests.kit.builders import a_mark, a_quote, a_trade
from tests.kit.golden import examples

EXAMPLES = examples()
MARKET_KINDS = {each.kind: each.type for each in TOPICS[MARKET_EVENTS].carries}
PAYLOADS = {kind: encode(event).payload for kind, event in EXAMPLES.items() if kind in MARKET_KINDS}


def changed(kind: str, **fields: Any) -> Any:
    example: Any = EXAMPLES[kind]
    return replace(example, **fields)


def records_of(*payloads: bytes) -> list[Record]:
    return [
        Record(MARKET_EVENTS, at % 3, 100 + at, b"BTC" * (at % 2), payload, {}, 1_700_000_000_000 + at)
        for at, payload in enumerate(payloads)
    ]


def by_event(topic: str, records: Sequence[Record]) -> dict[str, Any]:
    """Return the tables of records as they are built of one event after the other."""
    rows: dict[str, tuple[Any, list[StoredRow]]] = {}
    for record in records:
        try:
            event = decode_any(topic, record.value)
        except DecodeError as error:
            event = Undecodable(record.value, str(error))
        table = table_of(topic, event)
        row = StoredRow(record.partition, record.offset, record.key, record.append_time_ms, event)
        rows.setdefault(table.name, (table, []))[1].append(row)
    return {name: table.arrow(topic, members) for name, (table, members) in rows.items()}


def assert_same_rows(topic: str, records: Sequence[Record]) -> None:
    batch, expected = build_batch(topic, records), by_event(topic, records)
    found = {name: arrow.sort_by("offset") for name, arrow in batch.tables}
    assert found.keys() == expected.keys()
    for name, arrow in expected.items():
        assert found[name].schema == arrow.schema, name
        assert found[name].equals(arrow), name
        found[name].validate()
    assert batch.row_count == len(records)
    refused = expected.get("undecodable")
    reasons = [] if refused is None else refused.select(["partition", "offset", "reason"]).to_pylist()
    assert [dict(zip(("partition", "offset", "reason"), each, strict=True)) for each in batch.undecodable] == reasons


def test_market_is_read_by_columns_but_for_its_klines_and_readings() -> None:
    assert set(column_kinds(MARKET_EVENTS)) == set(MARKET_KINDS.values()) - {ExchangeBar, OutsideReading}


@pytest.mark.parametrize("kind", [kind for kind, event in EXAMPLES.items() if type(event) in EVENT_TABLES])
def test_rows_of_every_kind_are_those_of_its_event(kind: str) -> None:
    encoded = encode(EXAMPLES[kind])
    assert_same_rows(encoded.topic, records_of(*[encoded.payload] * 3))


def test_rows_of_all_kinds_at_once_each_come_into_their_table() -> None:
    assert_same_rows(MARKET_EVENTS, records_of(*[payload for payload in PAYLOADS.values() for _ in range(2)]))


@pytest.mark.parametrize(
    "event",
    [
        replace(a_mark(), index_price_e8=None, funding_rate_e8=-1, next_funding_time=0),
        replace(a_mark(), index_price_e8=0),
        replace(a_quote(1), bid_quantity_e8=0, update_id=2**63 - 1, ask_price_e8=2**63 - 1),
        replace(a_trade(1), is_buyer_maker=True, venue_trade_id=-(2**63)),
        replace(a_trade(1), event_id="été/1"),
        changed("depth_delta", bid_prices_e8=(), bid_quantities_e8=()),
        # Refused, each by another check.
        replace(a_trade(1), price_e8=0),
        replace(a_trade(1), event_id=""),
        replace(a_trade(1), event_time=-1),
        replace(a_quote(1), ask_price_e8=-5),
        changed("gap", gap_id=""),
        changed("open_interest", open_interest_e8=-1),
        changed("depth_delta", bid_quantities_e8=(1,)),
        changed("depth_snapshot", ask_prices_e8=(0,)),
        changed("depth_snapshot", ask_quantities_e8=(-1,)),
    ],
)
def test_rows_of_unusual_and_refused_values_are_those_of_their_events(event: Event) -> None:
    assert_same_rows(MARKET_EVENTS, records_of(encode(a_trade(1)).payload, encode(event).payload, PAYLOADS["trade"]))


def test_forms_that_another_writer_may_choose_read_alike() -> None:
    schema: Any = TOPICS[MARKET_EVENTS].schema
    head = {"event_id": "a/1", "instrument": "BTCUSDT.BINANCE", "event_time": 5, "received_time": 6}
    delta = schema(**head)
    delta.depth_delta.bid_prices_e8.extend([300, 2])
    whole = delta.SerializeToString()
    quantities = schema()
    quantities.depth_delta.bid_quantities_e8.extend([1, 0])
    # A message in two pieces, a part in two pieces, integers that are not packed, two arms, a field of the future.
    in_pieces = whole + quantities.SerializeToString()
    unpacked = schema(**head).SerializeToString() + bytes([13 << 3 | 2, 4, 4 << 3, 7, 5 << 3, 9])
    two_arms = PAYLOADS["best_quote"] + bytes([10 << 3 | 2, 4, 1 << 3, 7, 2 << 3, 9])
    of_the_future = PAYLOADS["trade"] + bytes([15 << 3, 1])
    twice = PAYLOADS["trade"] + schema(event_id="other").SerializeToString()
    large_enum = PAYLOADS["liquidation"].replace(b"\x08\x02", b"\x08\x05")
    assert_same_rows(
        MARKET_EVENTS,
        records_of(whole, in_pieces, unpacked, two_arms, of_the_future, twice, large_enum, b"", b"\xff\xff"),
    )


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(sorted(PAYLOADS)), st.integers(0, 200), st.integers(0, 3), st.binary(min_size=0, max_size=3)
        ),
        min_size=1,
        max_size=12,
    )
)
def test_rows_of_damaged_payloads_are_those_that_decoding_gives(damages: list[tuple[str, int, int, bytes]]) -> None:
    payloads = []
    for kind, at, removed, added in damages:
        payload = PAYLOADS[kind]
        place = at % (len(payload) + 1)
        payloads.append(payload[:place] + added + payload[place + removed :])
    assert_same_rows(MARKET_EVENTS, records_of(*payloads))
