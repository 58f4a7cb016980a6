"""Bybit's frames give exact events, its books keep their chain, its answers and refusals are told apart."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from libs.domain.instruments import INSTRUMENTS, find_instrument
from libs.domain.market import (
    BestQuote,
    DepthDelta,
    DepthSnapshot,
    Liquidation,
    MarketEvent,
    MarkPrice,
    OpenInterest,
    Side,
    Trade,
)
from libs.margin.default_brackets import find_brackets
from libs.venues.api import TradePosition
from libs.venues.bybit import BybitMarketData, read_rules
from libs.venues.bybit_frames import BybitDecoder, decode_klines
from libs.venues.errors import VenueRefused, VenueUnavailable
from libs.venues.frames import FrameError
from libs.venues.registry import UnknownVenue, find_trading_venue
from libs.venues.rest import RestClient
from libs.venues.rules import check_rules
from tests.unit.venues.builders import decode_all

BTC = "BTCUSDT.BYBIT"
FRAMES = Path(__file__).resolve().parents[2] / "data" / "bybit_frames.jsonl"
MINUTE_MS = 60_000
NOW_MS = 1_767_225_600_000


@pytest.fixture(scope="module")
def events() -> list[MarketEvent]:
    return decode_all(BybitDecoder(), FRAMES.read_bytes().splitlines())


def of(events: list[MarketEvent], kind: type) -> list[Any]:
    return [event for event in events if type(event) is kind]


def test_trades_carry_the_takers_side_and_leave_block_trades_out(events: list[MarketEvent]) -> None:
    buy, sell = of(events, Trade)
    assert (buy.price_e8, buy.quantity_e8, buy.is_buyer_maker) == (6_000_010_000_000, 1_000_000, False)
    assert sell.is_buyer_maker
    assert buy.event_id == f"{BTC}/trade/9dc75fca-4bdd-4773-9f78-6f5d7ab2a110"
    assert buy.event_time == 1_767_225_600_015_000_000


def test_a_book_chains_by_sequence_breaks_where_an_update_is_missing_and_starts_over(
    events: list[MarketEvent],
) -> None:
    first, restarted = of(events, DepthSnapshot)
    chained, broken, after = of(events, DepthDelta)
    assert (first.last_update_id, chained.previous_final_update_id, chained.final_update_id) == (9000, 9000, 9004)
    assert broken.previous_final_update_id == 0
    assert broken.first_update_id > chained.final_update_id + 1
    assert (restarted.last_update_id, after.previous_final_update_id) == (9011, 9011)
    assert first.event_time == 1_767_225_599_990_000_000


def test_a_ticker_is_remembered_and_says_only_what_has_changed(events: list[MarketEvent]) -> None:
    first, second = of(events, MarkPrice)
    assert (first.mark_price_e8, first.index_price_e8) == (6_000_005_000_000, 6_000_120_000_000)
    assert (first.funding_rate_e8, first.next_funding_time) == (-7_774, 1_767_254_400_000_000_000)
    assert (second.mark_price_e8, second.index_price_e8) == (6_000_010_000_000, first.index_price_e8)
    assert [event.open_interest_e8 for event in of(events, OpenInterest)] == [5_711_851_100_000, 5_711_852_100_000]


def test_quotes_of_book_and_ticker_share_one_numbering(events: list[MarketEvent]) -> None:
    quotes = of(events, BestQuote)
    assert [quote.update_id for quote in quotes] == [9001, 9005, 9007]
    assert quotes[-1].ask_quantity_e8 == 250_000_000


def test_a_liquidated_long_is_a_sell_order_and_two_alike_are_two(events: list[MarketEvent]) -> None:
    one, two = of(events, Liquidation)
    assert one.side is Side.SELL
    assert one.event_id != two.event_id


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"{", "not JSON"),
        (b"[]", "a JSON list"),
        (b'{"topic":"orderBookL2_25.BTCUSD","data":{}}', "unknown topic 'orderBookL2_25.BTCUSD'"),
        (b'{"topic":"order","data":[]}', "private topic 'order'"),
        (b'{"topic":"trade.BTCUSD","data":[{"trade_id":"a"}]}', "field 'i' is missing"),
        (b'{"topic":"tickers.BTC-6JAN23-17500-C","data":{"bidIv":"0"}}', "an option's ticker"),
        (b'{"op":"subscribe","success":false,"ret_msg":"Invalid topic"}', "refused subscribe: Invalid topic"),
        (b'{"op":"order.create","retCode":0}', "about orders"),
        (b'{"retCode":10001,"retMsg":"params error","result":{}}', "error 10001: params error"),
        (b'{"retCode":0,"result":{"category":"spot","list":[]}}', "of category spot"),
        (b'{"topic":"orderbook.50.BTCUSDT","type":"partial","data":{"b":[],"a":[],"u":1,"seq":1}}', "type 'partial'"),
        (b'{"topic":"publicTrade.BTCUSDT","data":[{"i":"a","T":1,"p":"1","v":"1","S":"Long"}]}', "side is 'Long'"),
        (b'{"topic":"publicTrade.BTCUSDT","data":[{"i":"a","T":"x","p":"1","v":"1","S":"Buy"}]}', "not milliseconds"),
        (b'{"hello":1}', "unknown frame"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(payload: bytes, reason: str) -> None:
    with pytest.raises(FrameError, match=reason):
        decode_all(BybitDecoder(), [payload])


def test_klines_come_newest_first_and_go_out_oldest_first() -> None:
    rows = [[str(NOW_MS + MINUTE_MS), "2", "3", "1", "2", "5", "10"], [str(NOW_MS), "1", "2", "1", "2", "5", "7.5"]]
    one, two = decode_klines(rows, instrument=BTC)
    assert one.close_time == two.open_time
    assert (one.quote_volume_e8, one.trade_count, one.taker_buy_volume_e8) == (750_000_000, None, None)


# Market data by REST.


def a_market(answer: Callable[[httpx.Request], Any]) -> BybitMarketData:
    def respond(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/time"):
            return httpx.Response(200, json={"retCode": 0, "result": {"timeNano": str(NOW_MS * 1_000_000)}})
        return httpx.Response(200, content=orjson.dumps(answer(request)))

    rest = RestClient("http://bybit.test", transport=httpx.MockTransport(respond))
    return BybitMarketData(rest, BTC, "ws://bybit.test/v5/public/linear")


def test_klines_are_asked_for_by_the_thousand_and_the_unfinished_one_is_left_out() -> None:
    asked: list[tuple[int, int]] = []

    def answer(request: httpx.Request) -> Any:
        start, end = (int(request.url.params[name]) for name in ("start", "end"))
        asked.append((start, end))
        minutes = range(start, min(end, NOW_MS) + 1, MINUTE_MS)
        return {"retCode": 0, "result": {"list": [[str(ms), "1", "1", "1", "1", "1", "1"] for ms in reversed(minutes)]}}

    bars = a_market(answer).klines(start_ms=None, limit=1500)
    assert len(asked) == 2
    assert len(bars) == 1500
    assert bars[-1].close_time == NOW_MS * 1_000_000
    assert all(right.open_time == left.close_time for left, right in pairwise(bars))


def recent_trades(count: int) -> Any:
    rows = [
        {
            "execId": f"t{number}",
            "price": "60000",
            "size": "1",
            "side": "Buy",
            "time": str(NOW_MS + number),
            "isBlockTrade": False,
        }
        for number in reversed(range(count))
    ]
    return {"retCode": 0, "result": {"category": "linear", "list": rows}}


def test_missed_trades_join_only_where_the_answer_reaches_back_far_enough() -> None:
    market = a_market(lambda _request: recent_trades(1000))
    known = TradePosition(-1, (NOW_MS + 10) * 1_000_000)
    page = market.trades_after(known, received_time=1)
    assert page.is_joined
    assert page.is_last
    assert [trade.event_id for trade in page.trades[:2]] == [f"{BTC}/trade/t0", f"{BTC}/trade/t1"]
    assert not market.trades_after(TradePosition(-1, 1), received_time=1).is_joined


@pytest.mark.parametrize(("code", "error"), [(10006, VenueUnavailable), (10001, VenueRefused)])
def test_a_code_says_whether_to_come_back(code: int, error: type[Exception]) -> None:
    with pytest.raises(error, match=f"code {code}"):
        a_market(lambda _request: {"retCode": code, "retMsg": "no"}).check_rules()


INFO: dict[str, Any] = {
    "list": [
        {
            "symbol": "BTCUSDT",
            "contractType": "LinearPerpetual",
            "quoteCoin": "USDT",
            "priceFilter": {"tickSize": "0.10"},
            "lotSizeFilter": {"qtyStep": "0.001", "minOrderQty": "0.001", "minNotionalValue": "5"},
        }
    ]
}


def test_rules_that_agree_are_taken_and_others_refused_by_name() -> None:
    check_rules([BTC], read_rules(INFO, {"BTCUSDT"}))
    with pytest.raises(VenueRefused, match="it is a LinearFutures, not a perpetual"):
        check_rules([BTC], read_rules({"list": [{**INFO["list"][0], "contractType": "LinearFutures"}]}, {"BTCUSDT"}))
    with pytest.raises(VenueUnavailable, match="not what Bybit documents"):
        read_rules({}, {"BTCUSDT"})


def test_every_listed_instrument_has_rules_and_brackets_of_its_venue() -> None:
    assert find_instrument(BTC).taker_fee_rate == Decimal("0.00055")
    assert all(find_brackets(instrument) is not None for instrument in INSTRUMENTS)
    binance, bybit = find_brackets("BTCUSDT.BINANCE"), find_brackets(BTC)
    assert binance is not None
    assert bybit is not None
    assert binance.max_notional != bybit.max_notional


def test_orders_to_bybit_are_refused_by_name() -> None:
    with pytest.raises(UnknownVenue, match=r"no orders can be sent to BYBIT.*BINANCE, SIMULATED"):
        find_trading_venue("BYBIT")
