"""python-binance, made for Binance, trades at the simulated exchange over its whole surface."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from binance import AsyncClient, BinanceSocketManager
from binance.client import Client
from binance.exceptions import BinanceAPIException
from websockets.sync.client import connect

from libs.margin.brackets import parse_leverage_brackets
from libs.margin.default_brackets import DEFAULT_BRACKETS
from tests.kit.waiting import eventually
from tests.unit.exchange.served import API_KEY, API_SECRET, Served, a_client, an_exchange

BTC = {"symbol": "BTCUSDT"}
MARKET = {**BTC, "type": "MARKET", "quantity": "0.01", "newOrderRespType": "RESULT"}


@pytest.fixture(scope="module")
def exchange() -> Iterator[Served]:
    with an_exchange(speed=2, is_running=True) as served:
        yield served


@pytest.fixture
def client(exchange: Served) -> Iterator[Client]:
    with a_client(exchange.url) as client:
        yield client
        held = Decimal(client.futures_position_information(version=2, **BTC)[0]["positionAmt"])
        client.futures_cancel_all_open_orders(**BTC)
        client.futures_cancel_all_algo_open_orders(**BTC)
        if held:
            side = "SELL" if held > 0 else "BUY"
            client.futures_create_order(**{**MARKET, "side": side, "quantity": str(abs(held)), "reduceOnly": True})


def far_below(client: Client) -> str:
    mark = float(client.futures_mark_price(**BTC)["markPrice"])
    return f"{mark * 0.97:.1f}"


def code_of(call: Any, **sent: Any) -> int:
    with pytest.raises(BinanceAPIException) as caught:
        call(**sent)
    assert caught.value.message
    return int(caught.value.code)


@pytest.mark.slow
def test_market_order_fills_and_is_found_by_every_question(client: Client) -> None:
    order = client.futures_create_order(**MARKET, side="BUY", newClientOrderId="pf-1")
    assert (order["status"], order["executedQty"], order["clientOrderId"]) == ("FILLED", "0.010", "pf-1")
    assert client.response.headers["X-MBX-ORDER-COUNT-10S"]
    assert client.futures_get_order(**BTC, origClientOrderId="pf-1")["orderId"] == order["orderId"]
    (fill,) = client.futures_account_trades(**BTC, orderId=order["orderId"])
    assert (fill["qty"], fill["buyer"], fill["commissionAsset"]) == ("0.010", True, "USDT")
    assert client.futures_get_all_orders(**BTC)[-1]["orderId"] == order["orderId"]
    (risk,) = client.futures_position_information(**BTC)
    assert (risk["positionAmt"], Decimal(risk["entryPrice"])) == ("0.010", Decimal(fill["price"]))
    account = client.futures_account()
    assert account["positions"][0]["positionAmt"] == "0.010"
    (balance,) = client.futures_account_balance()
    assert Decimal(balance["balance"]) == Decimal(account["totalWalletBalance"])
    assert client.futures_account(version=3)["positions"][0]["positionAmt"] == "0.010"
    incomes = client.futures_income_history(incomeType="COMMISSION")
    assert Decimal(incomes[-1]["income"]) == -Decimal(fill["commission"])


def test_limit_order_rests_until_it_is_cancelled(client: Client) -> None:
    limit = {**BTC, "type": "LIMIT", "side": "BUY", "timeInForce": "GTX", "quantity": "0.01"}
    order = client.futures_create_order(**limit, price=far_below(client))
    assert [each["orderId"] for each in client.futures_get_open_orders(**BTC)] == [order["orderId"]]
    assert client.futures_v1_get_open_order(**BTC, orderId=order["orderId"])["status"] == "NEW"
    assert client.futures_cancel_order(**BTC, orderId=order["orderId"])["status"] == "CANCELED"
    assert code_of(client.futures_cancel_order, **BTC, orderId=order["orderId"]) == -2011
    assert client.futures_get_open_orders() == []


def test_conditional_order_is_routed_queried_and_cancelled(client: Client) -> None:
    stop = {**BTC, "type": "STOP_MARKET", "side": "SELL", "quantity": "0.01", "stopPrice": far_below(client)}
    algo = client.futures_create_order(**stop, reduceOnly=True, workingType="MARK_PRICE", clientAlgoId="pf-stop")
    assert algo["algoStatus"] == "NEW"
    assert client.futures_get_order(**BTC, clientAlgoId="pf-stop")["algoId"] == algo["algoId"]
    assert [each["algoId"] for each in client.futures_get_open_orders(conditional=True)] == [algo["algoId"]]
    assert client.futures_cancel_order(**BTC, algoId=algo["algoId"])["code"] == "200"
    assert client.futures_get_all_algo_orders(**BTC)[-1]["algoStatus"] == "CANCELED"


def test_trailing_stop_is_taken_in_percent(client: Client) -> None:
    trailing = {**BTC, "type": "TRAILING_STOP_MARKET", "side": "BUY", "quantity": "0.01", "callbackRate": "1.5"}
    algo = client.futures_create_algo_order(**trailing, algoType="CONDITIONAL")
    assert (algo["algoStatus"], algo["callbackRate"]) == ("NEW", "1.50")


def test_stop_triggers_and_fills(client: Client) -> None:
    stop = {**BTC, "type": "STOP_MARKET", "side": "BUY", "quantity": "0.01", "workingType": "MARK_PRICE"}
    placed: list[dict[str, Any]] = []

    def place_near() -> bool:
        mark = float(client.futures_mark_price(**BTC)["markPrice"])
        try:
            placed.append(client.futures_create_order(**stop, stopPrice=f"{mark + 0.5:.1f}"))
        except BinanceAPIException as refusal:
            # The mark may have moved past it meanwhile.
            assert refusal.code == -2021
        return bool(placed)

    def look() -> dict[str, Any]:
        answer: dict[str, Any] = client.futures_get_algo_order(algoId=placed[0]["algoId"])
        return answer

    eventually(place_near)
    eventually(lambda: look()["algoStatus"] == "FINISHED", within_s=60)
    order = client.futures_get_order(**BTC, orderId=look()["actualOrderId"])
    assert (order["status"], order["executedQty"], look()["actualQty"]) == ("FILLED", "0.010", "0.010")


def test_countdown_cancels_in_exchange_time(client: Client) -> None:
    limit = {**BTC, "type": "LIMIT", "side": "BUY", "timeInForce": "GTC", "quantity": "0.01"}
    order = client.futures_create_order(**limit, price=far_below(client))
    answer = client.futures_countdown_cancel_all(**BTC, countdownTime=1000)
    assert answer == {"symbol": "BTCUSDT", "countdownTime": "1000"}
    eventually(lambda: client.futures_get_order(**BTC, orderId=order["orderId"])["status"] == "CANCELED")


def test_settings_answer_as_binance_does(client: Client) -> None:
    tables = parse_leverage_brackets(client.futures_leverage_bracket(**BTC))
    assert tables["BTCUSDT"].brackets == DEFAULT_BRACKETS["BTCUSDT"].brackets
    assert client.futures_change_leverage(**BTC, leverage=10)["leverage"] == 10
    assert client.futures_change_leverage(**BTC, leverage=20)["leverage"] == 20
    assert code_of(client.futures_change_margin_type, **BTC, marginType="CROSSED") == -4046
    assert code_of(client.futures_change_position_mode, dualSidePosition="true") == -1130
    assert code_of(client.futures_change_position_mode, dualSidePosition="false") == -4059
    assert client.futures_get_position_mode() == {"dualSidePosition": False}
    assert client.futures_get_multi_assets_mode() == {"multiAssetsMargin": False}
    assert code_of(client.futures_change_multi_assets_mode, multiAssetsMargin=True) == -1130
    assert client.futures_commission_rate(**BTC)["takerCommissionRate"] == "0.0005"
    assert client.futures_account_config()["dualSidePosition"] is False
    assert client.futures_symbol_config(**BTC)[0]["leverage"] == 20
    assert {limit["rateLimitType"] for limit in client.futures_v1_get_rate_limit_order()} == {"ORDERS"}
    assert client.futures_create_test_order(**MARKET, side="BUY") == {}


def test_exchange_info_says_what_may_be_traded(client: Client) -> None:
    symbol = client.futures_exchange_info()["symbols"][0]
    assert {"LIMIT", "MARKET", "STOP_MARKET", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"} == set(symbol["orderTypes"])
    assert "MAX_NUM_ALGO_ORDERS" in {item["filterType"] for item in symbol["filters"]}
    assert all(Decimal(symbol[name]) > 0 for name in ("triggerProtect", "liquidationFee", "marketTakeBound"))


def test_refusals_are_the_client_own_exceptions(client: Client) -> None:
    assert code_of(client.futures_create_order, **{**MARKET, "side": "BUY", "quantity": "100"}) == -2019
    assert code_of(client.futures_create_order, **{**MARKET, "side": "SELL", "reduceOnly": True}) == -2022
    assert code_of(client.futures_get_order, **BTC, origClientOrderId="nobody") == -2013
    assert code_of(client.futures_stream_keepalive, listenKey="nobody") == -1125


def test_async_client_trades_and_its_user_socket_receives_its_events(exchange: Served) -> None:
    class LocalClient(AsyncClient):
        API_URL = f"{exchange.url}/api"
        FUTURES_URL = f"{exchange.url}/fapi"

    class LocalSockets(BinanceSocketManager):
        FSTREAM_URL = f"{exchange.stream_url}/"

    async def trade() -> tuple[dict[str, Any], list[dict[str, Any]]]:
        client = await LocalClient.create(API_KEY, API_SECRET)
        heard: list[dict[str, Any]] = []
        try:
            client.timestamp_offset = (await client.futures_time())["serverTime"] - int(time.time() * 1000)
            async with LocalSockets(client).futures_user_socket() as stream:
                # How long it goes on listening once it is closed.
                stream.TIMEOUT = 0.2
                order = await client.futures_create_order(**MARKET, side="BUY")
                await client.futures_create_order(**{**MARKET, "side": "SELL", "reduceOnly": "true"})
                while [event["e"] for event in heard].count("ACCOUNT_UPDATE") < 2:
                    heard.append(await asyncio.wait_for(stream.recv(), 10))
        finally:
            await client.close_connection()
        return order, heard

    order, heard = asyncio.run(trade())
    mine = [event["o"] for event in heard if event["e"] == "ORDER_TRADE_UPDATE" and event["o"]["i"] == order["orderId"]]
    assert [(update["x"], update["X"]) for update in mine] == [("NEW", "NEW"), ("TRADE", "FILLED")]
    assert [event["a"]["P"][0]["pa"] for event in heard if event["e"] == "ACCOUNT_UPDATE"] == ["0.010", "0.000"]


def test_combined_private_stream_wraps_and_chooses(exchange: Served, client: Client) -> None:
    key = client.futures_stream_get_listen_key()
    address = f"{exchange.stream_url}/private/stream?listenKey={key}&events=ORDER_TRADE_UPDATE"
    with connect(address, close_timeout=0.2) as stream:
        client.futures_create_order(**MARKET, side="BUY")
        first, second = (json.loads(stream.recv(10)) for _ in range(2))
        assert {first["stream"], second["stream"]} == {key}
        assert [event["data"]["o"]["x"] for event in (first, second)] == ["NEW", "TRADE"]
        client.futures_stream_close(key)
        with pytest.raises(Exception, match="listenKey has ended"):
            stream.recv(10)


def test_private_stream_needs_the_listen_key(exchange: Served) -> None:
    with (
        connect(f"{exchange.stream_url}/private/ws?listenKey=nobody", close_timeout=0.2) as stream,
        pytest.raises(Exception, match="This listenKey does not exist"),
    ):
        stream.recv(10)
