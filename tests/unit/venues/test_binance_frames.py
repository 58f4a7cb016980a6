"""Binance frames become market events exactly, and what cannot be read is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.market import BestQuote, DepthDelta, DepthSnapshot, Liquidation, MarketEvent, MarkPrice, Side, Trade
from libs.domain.numbers import parse_e8
from libs.venues import binance_frames
from libs.venues.binance_frames import BinanceDecoder, decode_frame, decode_klines, open_frame
from libs.venues.binance_types import TypedFrame
from libs.venues.frames import FrameError, OpenedFrame, read_levels
from tests.kit.builders import BTC


def _decode(document: object, *, fallback_time: int = 5, symbol: str = "") -> MarketEvent | None:
    frame = open_frame(json.dumps(document).encode())
    assert frame is not None
    return decode_frame(frame, received_time=9, fallback_time=fallback_time, symbol=symbol)


TRADE = {
    "e": "trade",
    "E": 1723161256322,
    "T": 1723161256321,
    "s": "BTCUSDT",
    "t": 5266583935,
    "p": "61800.30",
    "q": "0.006",
    "X": "MARKET",
    "m": False,
    "new_field_of_2027": [1, 2],
}


def test_trade_is_exact_and_carries_the_match_time() -> None:
    event = _decode({"stream": "btcusdt@trade", "data": TRADE})
    assert event == Trade(
        BTC, f"{BTC}/trade/5266583935", 1723161256321000000, 9, 6180030000000, 600000, False, 5266583935
    )


def test_aggregate_trade_has_an_id_of_its_own_kind() -> None:
    event = _decode({**TRADE, "e": "aggTrade", "a": 7, "nq": "0.006", "st": 1})
    assert isinstance(event, Trade)
    assert (event.event_id, event.venue_trade_id) == (f"{BTC}/aggtrade/7", 7)


def test_what_is_no_execution_gives_nothing() -> None:
    assert _decode({**TRADE, "X": "NA", "p": "0", "q": "0"}) is None


def test_spot_quote_without_times_takes_the_fallback_time() -> None:
    event = _decode({"u": 3, "s": "BTCUSDT", "b": "10.5", "B": "1", "a": "10.6", "A": "2"})
    assert event == BestQuote(BTC, f"{BTC}/quote/3", 5, 9, 3, 1_050_000_000, 100_000_000, 1_060_000_000, 200_000_000)


def test_spot_delta_without_pu_chains_by_its_first_id() -> None:
    event = _decode(
        {"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": 11, "u": 13, "b": [["9", "1"], ["10", "0"]], "a": []}
    )
    assert isinstance(event, DepthDelta)
    assert event.previous_final_update_id == 10
    assert event.bid_prices_e8 == (1_000_000_000, 900_000_000)
    assert event.event_time == 1_000_000


@pytest.mark.parametrize(
    ("frame", "venue"),
    [
        (TRADE, "BINANCE"),
        ({**TRADE, "M": True}, "BINANCE_SPOT"),
        ({**TRADE, "s": "BTCUSD_PERP"}, "BINANCE_COINM"),
        ({**TRADE, "s": "ETHUSD_240628"}, "BINANCE_COINM"),
        # A delivery contract of USD-M.
        ({**TRADE, "s": "BTCUSDT_240628"}, "BINANCE"),
        ({"e": "depthUpdate", "E": 1, "T": 1, "s": "BTCUSDT", "U": 1, "u": 2, "pu": 0, "b": [], "a": []}, "BINANCE"),
        ({"e": "depthUpdate", "E": 1, "s": "BTCUSDT", "U": 1, "u": 2, "b": [], "a": []}, "BINANCE_SPOT"),
        ({"u": 3, "s": "BTCUSDT", "b": "10.5", "B": "1", "a": "10.6", "A": "2"}, "BINANCE_SPOT"),
        ({"lastUpdateId": 4, "E": 1, "T": 1, "bids": [], "asks": []}, "BINANCE"),
        ({"e": "kline", "E": 1, "s": "BTCUSDT", "k": {}}, ""),
        ({"result": None, "id": 1}, ""),
    ],
)
def test_the_market_is_told_by_fields_that_the_others_do_not_have(frame: dict[str, Any], venue: str) -> None:
    assert BinanceDecoder().venue_of(orjson.dumps(frame)) == venue


def test_events_carry_the_decoders_venue() -> None:
    decoder = BinanceDecoder("BINANCE_SPOT")
    for fields in (TRADE, {"u": 3, "s": "BTCUSDT", "b": "10.5", "B": "1", "a": "10.6", "A": "2"}):
        frame = decoder.open(orjson.dumps(fields))
        assert frame is not None
        (event,) = decoder.decode(frame, received_time=1, fallback_time=1)
        assert event.instrument == "BTCUSDT.BINANCE_SPOT"
        assert event.event_id.startswith("BTCUSDT.BINANCE_SPOT/")


def test_depth_answer_takes_the_readers_symbol() -> None:
    event = _decode({"lastUpdateId": 4, "bids": [["9", "1"]], "asks": [["10", "1"]]}, symbol="BTCUSDT")
    assert isinstance(event, DepthSnapshot)
    assert (event.instrument, event.event_id, event.event_time) == (BTC, f"{BTC}/snapshot/4", 5)


def test_mark_price_keeps_a_negative_funding_rate() -> None:
    event = _decode(
        {
            "e": "markPriceUpdate",
            "E": 2,
            "s": "BTCUSDT",
            "p": "83003.1",
            "i": "83045.69043478",
            "r": "-0.00001012",
            "T": 8,
        }
    )
    assert isinstance(event, MarkPrice)
    assert (event.funding_rate_e8, event.index_price_e8, event.next_funding_time) == (-1012, 8304569043478, 8_000_000)


def test_liquidation_takes_its_average_price_and_filled_quantity() -> None:
    order = {"s": "BTCUSDT", "S": "SELL", "q": "1", "p": "9910", "ap": "9910.12345678", "z": "0.5", "T": 3}
    event = _decode({"e": "forceOrder", "E": 4, "o": order})
    assert isinstance(event, Liquidation)
    assert (event.side, event.price_e8, event.quantity_e8) == (Side.SELL, 991012345678, 50_000_000)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"p": "-1"}, "negative"),
        ({"p": "0"}, "not a price"),
        ({"p": 61800.3}, "not a decimal string"),
        ({"q": "nan"}, "not a finite number"),
        ({"q": "0.000000001"}, "more than eight decimals"),
        ({"t": -4}, "not a whole number"),
        ({"m": "yes"}, "not true or false"),
        ({"T": None}, "not a whole number"),
    ],
)
def test_senseless_field_is_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(FrameError, match=message):
        _decode({**TRADE, **change})


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b'{"e":"trade"', "not JSON"),
        (b"[1]", "a JSON list"),
        (b'{"data":[1]}', "not an object"),
        (b'{"hello":1}', "unknown frame"),
        (b'{"code":-1121,"msg":"Invalid symbol."}', "error -1121"),
    ],
)
def test_what_is_no_frame_is_refused_with_a_fix(payload: bytes, message: str) -> None:
    with pytest.raises(FrameError, match=message) as caught:
        open_frame(payload)
    assert caught.value.fix


def test_missing_field_is_named() -> None:
    with pytest.raises(FrameError, match="'q' is missing"):
        _decode({name: value for name, value in TRADE.items() if name != "q"})


def test_unknown_event_type_is_refused_and_unwanted_ones_are_not() -> None:
    with pytest.raises(FrameError, match="unknown event type 'surprise'"):
        _decode({"e": "surprise", "s": "BTCUSDT"})
    assert _decode({"e": "kline", "s": "BTCUSDT", "k": {}}) is None
    assert open_frame(b'{"result":null,"id":1}') is None


def test_kline_rows_become_history_bars() -> None:
    (bar,) = decode_klines([[60_000, "1", "3", "0.5", "2", "10.5", 119_999, "20.25", 7, "4", "8", "0"]], instrument=BTC)
    assert (bar.open_time, bar.close_time, bar.trade_count) == (60_000_000_000, 120_000_000_000, 7)
    assert (bar.volume_e8, bar.quote_volume_e8, bar.taker_buy_volume_e8) == (1_050_000_000, 2_025_000_000, 400_000_000)
    assert bar.is_history
    with pytest.raises(FrameError, match="kline 0"):
        decode_klines([[1, "2"]], instrument=BTC)


TEXTS = ("", "0", "-1", "1.5", "1.000000001", "1e3", "ab", "99999999999999", "٣", "1_0", " 1", ".5", "5.")
LEVELS: list[object] = [[], [["1", "2"]], [["1"]], [["2", "1", "0"]], [[1, 2]], [["x", "1"]]]
ODD: st.SearchStrategy[object] = st.sampled_from([*TEXTS, None, 0, 7, -7, 2**63, 2**70, True, 1.5, 4.0, *LEVELS])
PLAIN: tuple[dict[str, object], ...] = (
    TRADE,
    {"e": "aggTrade", "E": 5, "T": 4, "s": "BTCUSDT", "a": 3, "p": "10.5", "q": "1", "f": 1, "l": 2, "m": True},
    {"e": "bookTicker", "E": 5, "T": 4, "s": "BTCUSDT", "u": 3, "b": "10.5", "B": "1", "a": "10.6", "A": "2"},
    {
        "e": "depthUpdate",
        "E": 5,
        "T": 4,
        "s": "BTCUSDT",
        "U": 2,
        "u": 3,
        "pu": 1,
        "b": [["10.5", "1"], ["10.4", "0"]],
        "a": [["10.6", "2"]],
    },
)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from(PLAIN),
    st.dictionaries(st.sampled_from(["e", "E", "s", "X", *"tTpqmuUbBaA", "pu"]), ODD, max_size=3),
    st.booleans(),
    st.sampled_from(["", "btcusdt@depth", "btcusdt@depth5@100ms"]),
)
def test_the_quick_way_reads_what_the_careful_one_reads(
    plain: dict[str, object], changes: dict[str, object], is_lacking: bool, stream: str
) -> None:
    data = {**plain, **changes}
    if is_lacking:
        for name in changes:
            del data[name]
    payload = json.dumps({"stream": stream, "data": data} if stream else data, separators=(",", ":")).encode()
    assert outcome(open_frame, payload) == outcome(binance_frames._open_document, payload)


def test_plain_frames_are_read_the_quick_way() -> None:
    for plain in PLAIN:
        for document in (plain, {"stream": "btcusdt@depth@100ms", "data": plain}):
            payload = json.dumps(document, separators=(",", ":")).encode()
            assert isinstance(open_frame(payload), TypedFrame)
            assert outcome(open_frame, payload) == outcome(binance_frames._open_document, payload)


def outcome(open_payload: Callable[[bytes], OpenedFrame | None], payload: bytes) -> object:
    try:
        frame = open_payload(payload)
        if frame is None:
            return None
        event = decode_frame(frame, received_time=9, fallback_time=8, symbol="ETHUSDT")
    except FrameError as error:
        return str(error)
    return frame.kind, frame.symbol, frame.sent_time, event


@settings(deadline=None, max_examples=200)
@given(st.lists(st.one_of(st.tuples(st.sampled_from(["1", "2.5", "3"]), st.sampled_from(["0", "4"])), ODD), max_size=5))
def test_levels_come_best_first_or_are_refused_by_name(levels: list[object]) -> None:
    is_plain = all(isinstance(level, tuple) for level in levels)
    for is_bid in (True, False):
        try:
            prices, quantities = read_levels(levels, "b", is_bid=is_bid)
        except FrameError:
            assert not is_plain
            continue
        assert is_plain
        plain = [level for level in levels if isinstance(level, tuple)]
        expected = sorted(((parse_e8(level[0]), parse_e8(level[1])) for level in plain), reverse=is_bid)
        if len(set(prices)) == len(prices):
            assert list(zip(prices, quantities, strict=True)) == expected
        assert sorted(prices, reverse=is_bid) == list(prices)
