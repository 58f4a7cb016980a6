"""Every event survives the wire exactly, for any values of its fields; nonsense is refused by name."""

from __future__ import annotations

import dataclasses
import enum
import math
import types
import typing
from decimal import Decimal
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.accounts import VenuePosition
from libs.domain.bars import TIMEFRAMES, Bar, BarRevision
from libs.domain.control import AuditEntry, ControlCommand
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast
from libs.domain.market import (
    BestQuote,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    MarketEvent,
    OutsideReading,
    Trade,
)
from libs.domain.orders import OrderApproved, OrderRefused, ReportKind, VenueReport
from libs.wire import DecodeError, EncodeError, decode, encode
from libs.wire import records as shell_records
from libs.wire.codec import EVENT_TYPES
from libs.wire.topics import BARS_CLOSED, MARKET_EVENTS
from tests.kit.builders import a_bar, a_trade, an_intent
from tests.kit.golden import examples

INT64 = st.integers(-(2**63), 2**63 - 1)
POSITIVE = st.integers(1, 2**62)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=20)
NAME = TEXT.filter(bool)


def decimals(low: int = -(2**62)) -> st.SearchStrategy[Decimal]:
    return st.integers(low, 2**62).map(lambda scaled: Decimal(scaled).scaleb(-8))


def field_strategy(owner: type, name: str, hint: Any) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (types.UnionType, typing.Union) and type(None) in arguments:
        inner = next(argument for argument in arguments if argument is not type(None))
        if owner is VenueReport and name in ("last_quantity", "last_price", "fee"):
            return decimals(1)
        return st.none() | field_strategy(owner, name, inner)
    if origin is tuple:
        return st.lists(field_strategy(owner, name, arguments[0]), max_size=4).map(tuple)
    if origin is dict:
        return st.dictionaries(NAME, TEXT, max_size=4).map(lambda items: dict(sorted(items.items())))
    if isinstance(hint, type) and issubclass(hint, enum.IntEnum):
        return st.sampled_from(list(hint))
    if dataclasses.is_dataclass(hint):
        return instances(typing.cast(type, hint))
    if hint is bool:
        return st.booleans()
    if hint is Decimal:
        return decimals()
    if hint is float:
        if name in ("confidence", "coverage"):
            return st.floats(0, 1)
        return st.floats(allow_nan=False, allow_infinity=owner is not OutsideReading)
    if hint is bytes:
        return (
            st.binary(min_size=1, max_size=5).map(lambda part: part * 8) if name == "packed" else st.binary(max_size=20)
        )
    if hint is str:
        if name == "timeframe":
            return st.sampled_from(list(TIMEFRAMES))
        if name == "schema_hash":
            return st.text("0123456789abcdef", min_size=64, max_size=64)
        required = name.endswith(("_id", "_id_of")) or name in ("instrument", "account", "service", "series")
        return NAME if required else TEXT
    if hint is int:
        if name.endswith("_time"):
            return POSITIVE
        if name in ("sequence",):
            return INT64
        if name in ("open_order_count", "limits_version", "known_count"):
            return st.integers(0, 2**31 - 1)
        return POSITIVE
    raise AssertionError(f"no strategy for {owner.__name__}.{name}: {hint}")


def instances(kind: type) -> st.SearchStrategy[Any]:
    hints = get_type_hints(kind)
    fields = {field.name: field_strategy(kind, field.name, hints[field.name]) for field in dataclasses.fields(kind)}
    return st.fixed_dictionaries(fields).map(lambda values: shape(kind, values))


def shape(kind: type, values: dict[str, Any]) -> Any:
    """Fix what fields owe to each other: bars have times and prices that fit, books have parallel sides."""
    if kind in (Bar, BarRevision, ExchangeBar):
        length = TIMEFRAMES[values["timeframe"]]
        values["open_time"] = values["open_time"] % 10**5 * length
        values["close_time"] = values["open_time"] + length
        low, first, last, high = sorted(values[name] for name in ("open_e8", "high_e8", "low_e8", "close_e8"))
        values |= {"low_e8": low, "open_e8": first, "close_e8": last, "high_e8": high}
    if kind in (DepthSnapshot, DepthDelta):
        for side in ("bid", "ask"):
            size = min(len(values[f"{side}_prices_e8"]), len(values[f"{side}_quantities_e8"]))
            for part in ("prices", "quantities"):
                values[f"{side}_{part}_e8"] = values[f"{side}_{part}_e8"][:size]
    if kind is Forecast:
        down = values["probability_down"]
        down = down if 0.0 <= down <= 1.0 else 0.25
        values |= {"probability_down": down, "probability_flat": 0.0, "probability_up": 1.0 - down}
    if kind is VenuePosition:
        values |= {
            "quantity": values["quantity"] or Decimal(1),
            "entry_price": abs(values["entry_price"]) or Decimal(1),
        }
    return kind(**values)


@pytest.mark.slow
@pytest.mark.parametrize("kind", EVENT_TYPES, ids=lambda kind: kind.__name__)
def test_every_event_survives_the_wire(kind: type) -> None:
    @given(instances(kind))
    @settings(max_examples=25, deadline=None)
    def survives(event: Any) -> None:
        encoded = encode(event)
        assert decode(encoded.topic, encoded.payload) == event
        assert encode(decode(encoded.topic, encoded.payload)).payload == encoded.payload

    survives()


@pytest.mark.parametrize(
    ("kind", "write", "read"),
    [
        (shell_records.JournalEntry, shell_records.encode_journal_entry, shell_records.decode_journal_entry),
        (shell_records.SourceCursor, shell_records.encode_source_cursor, shell_records.decode_source_cursor),
        (shell_records.DeadLetter, shell_records.encode_dead_letter, shell_records.decode_dead_letter),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_the_shells_own_messages_survive_the_wire(kind: type, write: Any, read: Any) -> None:
    @given(st.data())
    @settings(max_examples=25, deadline=None)
    def survives(data: st.DataObject) -> None:
        hints = get_type_hints(kind)
        small = {int: st.integers(0, 2**31 - 1)}
        values = {
            field.name: data.draw(
                small[int] if hints[field.name] is int else field_strategy(kind, field.name, hints[field.name])
            )
            for field in dataclasses.fields(kind)
            if field.name != "runs"
        }
        if kind is shell_records.JournalEntry:
            run = st.builds(
                shell_records.InputRun, TEXT, st.integers(0, 99), st.integers(0, 2**40), st.integers(0, 2**40)
            )
            values["runs"] = tuple(data.draw(st.lists(run, max_size=4)))
        value = kind(**values)
        assert read(write(value)) == value

    survives()


def test_a_snapshot_survives_the_wire() -> None:
    snapshot = shell_records.CoreSnapshot(
        "risk", b"state", {("b", 1): 9, ("a", 0): 7}, 5, {("c", 0): (), ("a", 0): ("x", "y")}, {("z", 1): 4}
    )
    payload = shell_records.encode_core_snapshot(snapshot)
    assert shell_records.decode_core_snapshot(payload) == snapshot
    assert payload.hex() == (
        "0a047269736b120573746174651a050a016118071a070a0162100118092005"
        "2a090a01611a01781a01792a030a016332070a017a10011804"
    )


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise_anything_but_a_decode_error(payload: bytes) -> None:
    for topic in (MARKET_EVENTS, BARS_CLOSED, "risk.verdicts.v1", "execution.reports.v1", "features.vectors.v1"):
        try:
            decode(topic, payload)
        except DecodeError as error:
            assert str(error)


def test_unknown_fields_are_ignored() -> None:
    # Field 15000, varint 1: what a newer writer within v1 may add.
    payload = encode(a_trade()).payload + b"\xc0\xa9\x07\x01"
    assert decode(MARKET_EVENTS, payload) == a_trade()


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (dataclasses.replace(a_trade(), price_e8=0), "price and quantity must be above 0"),
        (dataclasses.replace(a_trade(), event_id=""), "MarketEvent: event_id is empty"),
        (dataclasses.replace(a_trade(), instrument=""), "instrument is empty"),
        (dataclasses.replace(a_trade(), event_time=0), "event_time is 0; it must be above 0"),
        (dataclasses.replace(a_bar(), close_time=5), "do not fit 1m"),
        (dataclasses.replace(a_bar(), timeframe="7m"), "'7m' is not one of"),
        (dataclasses.replace(a_bar(), low_e8=0), "is no bar"),
    ],
)
def test_values_without_meaning_are_refused_by_name(event: MarketEvent | Bar, message: str) -> None:
    encoded = encode(event)
    with pytest.raises(DecodeError, match=message):
        decode(encoded.topic, encoded.payload)


def test_an_unspecified_enum_is_refused() -> None:
    from libs.schemas.perpflow.execution.v1 import execution_pb2

    payload = execution_pb2.VenueReport(
        event_id="r", event_time=1, account="a", instrument="i", client_order_id="c"
    ).SerializeToString()
    with pytest.raises(DecodeError, match="ReportKind 0 is unspecified or unknown"):
        decode("execution.reports.v1", payload)


def test_an_unknown_liquidity_is_refused_and_stops_nothing() -> None:
    payload = encode(examples()["order_event"]).payload.replace(b"\x98\x01\x02", b"\x98\x01\x09")
    with pytest.raises(DecodeError, match="Liquidity 9 is unspecified or unknown"):
        decode("execution.orders.v1", payload)


def test_an_account_snapshot_of_another_kind_is_refused() -> None:
    account = encode(examples()["venue_account"]).payload
    with pytest.raises(DecodeError, match="kind is 2; it must be 9"):
        # Appended fields win: kind becomes REJECTED.
        decode("execution.reports.v1", account + b"\x38\x02")


def test_an_audit_entry_may_have_no_target() -> None:
    entry = examples()["audit_entry"]
    assert isinstance(entry, AuditEntry)
    entry = dataclasses.replace(entry, target="")
    encoded = encode(entry)
    assert decode(encoded.topic, encoded.payload) == entry


def test_a_number_with_nine_decimals_cannot_be_written() -> None:
    with pytest.raises(EncodeError, match="more than eight decimals"):
        encode(dataclasses.replace(an_intent(), quantity=Decimal("0.123456789")))


def test_packed_doubles_keep_their_bits() -> None:
    import numpy as np

    values = np.array([1.5, math.nan, -0.0, math.inf], dtype="<f8")
    vector = FeatureVector("I", "v", 1, "b", "1m", "core_v1", "0" * 64, values.tobytes(), 3, 1)
    encoded = encode(vector)
    read = decode(encoded.topic, encoded.payload)
    assert isinstance(read, FeatureVector)
    assert read.values.tobytes() == values.tobytes()


def test_maps_are_written_in_one_order() -> None:
    one = ControlCommand("c", 1, "*", next(iter(ControlCommandAction())), "x", "y", {"b": "2", "a": "1"})
    other = dataclasses.replace(one, arguments={"a": "1", "b": "2"})
    assert encode(one).payload == encode(other).payload


def ControlCommandAction() -> Any:  # noqa: N802
    from libs.domain.control import ControlAction

    return ControlAction


def test_every_type_of_the_union_has_a_topic() -> None:
    for kind in (Trade, BestQuote, OrderApproved, OrderRefused):
        assert kind in EVENT_TYPES
    assert {ReportKind.FILL} <= set(ReportKind)
