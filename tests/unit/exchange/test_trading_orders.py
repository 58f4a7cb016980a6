"""Orders at the simulated exchange: placed, matched, filled, cancelled and refused as Binance does it."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from services.exchange.core.account import Refused
from tests.kit.builders import a_trade
from tests.unit.exchange.trader import Trader, total


def test_market_order_takes_level_by_level_and_pays_the_taker_fee() -> None:
    trader = Trader("100000")
    order = trader.place("BUY", "3")
    assert (order["status"], order["executedQty"], order["origQty"]) == ("FILLED", "3.000", "3.000")
    fills = trader.ask("GET /fapi/v1/userTrades", orderId=order["orderId"])
    assert [(fill["price"], fill["qty"], fill["maker"]) for fill in fills] == [
        ("60000.00", "1.000", False),
        ("60001.00", "2.000", False),
    ]
    assert total(fills, "commission") == (Decimal(60000) + 2 * Decimal(60001)) * Decimal("0.0005")
    assert trader.wallet == 100_000 - total(fills, "commission")
    view = trader.ask("GET /fapi/v1/order", orderId=order["orderId"])
    assert (view["avgPrice"], view["cumQuote"]) == ("60000.66666", "180002.00000")


def test_acknowledged_order_is_new_whatever_its_result() -> None:
    trader = Trader()
    order = trader.place("BUY", "0.1", newOrderRespType="ACK")
    assert (order["status"], order["executedQty"]) == ("NEW", "0.000")
    assert trader.ask("GET /fapi/v1/order", orderId=order["orderId"])["status"] == "FILLED"


def test_resting_order_fills_in_parts_as_the_maker() -> None:
    trader = Trader("100000")
    order = trader.place("BUY", "2", "59950")
    assert order["status"] == "NEW"
    assert [entry["orderId"] for entry in trader.ask("GET /fapi/v1/openOrders")] == [order["orderId"]]
    trader.market(a_trade(1, "59949.9", "0.5", seconds=2, is_buyer_maker=True))
    part = trader.ask("GET /fapi/v1/openOrder", orderId=order["orderId"])
    assert (part["status"], part["executedQty"]) == ("PARTIALLY_FILLED", "0.500")
    trader.market(a_trade(2, "59949.9", "9", seconds=3, is_buyer_maker=True))
    assert trader.steps() == [("NEW", "NEW"), ("TRADE", "PARTIALLY_FILLED"), ("TRADE", "FILLED")]
    fills = trader.ask("GET /fapi/v1/userTrades")
    assert {(fill["price"], fill["maker"], fill["commission"]) for fill in fills} == {
        ("59950.00", True, "5.99500000"),
        ("59950.00", True, "17.98500000"),
    }
    assert trader.ask("GET /fapi/v1/openOrders") == []


def test_stream_sends_balance_and_position_with_each_fill() -> None:
    trader = Trader()
    order = trader.place("BUY", "0.5", newClientOrderId="mine")
    update = trader.events_of("ORDER_TRADE_UPDATE")[-1]["o"]
    assert (update["c"], update["i"], update["l"], update["L"]) == ("mine", order["orderId"], "0.500", "60000.00")
    assert (update["n"], update["N"], update["rp"], update["m"]) == ("15.00000000", "USDT", "0.00000000", False)
    account = trader.events_of("ACCOUNT_UPDATE")[-1]["a"]
    assert account["m"] == "ORDER"
    assert account["B"] == [{"a": "USDT", "wb": "9985.00000000", "cw": "9985.00000000", "bc": "0.00000000"}]
    assert (account["P"][0]["pa"], account["P"][0]["ep"]) == ("0.500", "60000.00000000")
    assert trader.events_of("TRADE_LITE")[-1]["t"] == update["t"]


def test_closing_realises_profit() -> None:
    trader = Trader()
    trader.place("BUY", "0.5")
    order = trader.place("SELL", "0.5", reduceOnly="true")
    fill = trader.ask("GET /fapi/v1/userTrades", orderId=order["orderId"])[0]
    assert Decimal(fill["realizedPnl"]) == Decimal("-0.05")
    assert trader.position == "0.000"
    kinds = [income["incomeType"] for income in trader.ask("GET /fapi/v1/income")]
    assert kinds == ["COMMISSION", "REALIZED_PNL", "COMMISSION"]
    incomes = trader.ask("GET /fapi/v1/income")
    assert trader.wallet == 10_000 + total(incomes, "income")


@pytest.mark.parametrize(
    ("time_in_force", "quantity", "status", "executed"),
    [("IOC", "3", "EXPIRED", "1.000"), ("IOC", "1", "FILLED", "1.000"), ("FOK", "1", "FILLED", "1.000")],
)
def test_immediate_orders_take_what_is_there(time_in_force: str, quantity: str, status: str, executed: str) -> None:
    order = Trader("100000").place("BUY", quantity, "60000", timeInForce=time_in_force)
    assert (order["status"], order["executedQty"]) == (status, executed)


def test_fill_or_kill_and_post_only_are_refused_and_leave_no_trace() -> None:
    trader = Trader("1000000")
    assert trader.refused_order(quantity="3", price="60000", timeInForce="FOK") == -5021
    assert trader.refused_order(quantity="1", price="60000", timeInForce="GTX") == -5022
    assert trader.ask("GET /fapi/v1/allOrders") == []
    assert trader.events == []


def test_post_only_order_that_rests_is_taken() -> None:
    assert Trader().place("BUY", "0.1", "59990", timeInForce="GTX")["status"] == "NEW"


def test_cancelled_order_is_gone_and_its_id_may_be_used_again() -> None:
    trader = Trader()
    first = trader.place("BUY", "0.1", "59000", newClientOrderId="mine")
    assert trader.refused_order(quantity="0.1", price="59000", newClientOrderId="mine") == -4116
    cancelled = trader.send("DELETE /fapi/v1/order", origClientOrderId="mine")
    assert (cancelled["orderId"], cancelled["status"]) == (first["orderId"], "CANCELED")
    assert trader.refused("DELETE /fapi/v1/order", origClientOrderId="mine") == -2011
    second = trader.place("BUY", "0.1", "59000", newClientOrderId="mine")
    assert second["orderId"] == first["orderId"] + 1
    assert trader.ask("GET /fapi/v1/order", origClientOrderId="mine")["orderId"] == second["orderId"]
    assert trader.ask("GET /fapi/v1/order", orderId=first["orderId"])["status"] == "CANCELED"


def test_all_open_orders_are_cancelled_at_once() -> None:
    trader = Trader()
    for price in ("59000", "58000"):
        trader.place("BUY", "0.01", price)
    assert trader.send("DELETE /fapi/v1/allOpenOrders")["code"] == 200
    assert [order["status"] for order in trader.ask("GET /fapi/v1/allOrders")] == ["CANCELED", "CANCELED"]


def test_own_orders_do_not_trade_with_each_other() -> None:
    trader = Trader("100000")
    maker = trader.place("SELL", "0.5", "60000")
    trader.place("BUY", "0.5", "60000")
    assert trader.ask("GET /fapi/v1/order", orderId=maker["orderId"])["status"] == "EXPIRED_IN_MATCH"
    assert ("TRADE_PREVENTION", "EXPIRED_IN_MATCH") in trader.steps()


def test_reduce_only_never_opens() -> None:
    trader = Trader()
    assert trader.refused_order(side="SELL", quantity="0.1", reduceOnly="True") == -2022
    trader.place("BUY", "0.1")
    order = trader.place("SELL", "0.5", reduceOnly="true")
    assert (order["status"], order["executedQty"]) == ("EXPIRED", "0.100")
    assert trader.position == "0.000"


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"symbol": "DOGEUSDT"}, -1121),
        ({"symbol": ""}, -1102),
        ({"side": "UP"}, -1117),
        ({"side": ""}, -1102),
        ({"type": "ICEBERG"}, -1116),
        ({"type": "STOP_MARKET", "stopPrice": "59000"}, -4120),
        ({"type": "LIMIT", "price": "60000"}, -1102),
        ({"type": "LIMIT", "timeInForce": "GTC"}, -1102),
        ({"type": "LIMIT", "price": "60000", "timeInForce": "GTD"}, -1115),
        ({"timeInForce": "GTC"}, -1106),
        ({"price": "60000"}, -1106),
        ({"quantity": ""}, -1102),
        ({"quantity": "NaN"}, -1100),
        ({"quantity": "1e3"}, -1100),
        ({"quantity": "0"}, -4003),
        ({"quantity": "-1"}, -4003),
        ({"quantity": "0.0001"}, -4004),
        ({"quantity": "121"}, -4005),
        ({"quantity": "0.0015"}, -4023),
        ({"quantity": "0.001"}, -4164),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "60000.05"}, -4014),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "0"}, -4001),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "70000"}, -4016),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "50000", "side": "SELL"}, -4024),
        ({"newClientOrderId": "with space"}, -1100),
        ({"newClientOrderId": "x" * 37}, -4015),
        ({"positionSide": "LONG"}, -4061),
        ({"reduceOnly": "perhaps"}, -1100),
        ({"closePosition": "true"}, -1130),
        ({"priceMatch": "QUEUE"}, -1130),
        ({"selfTradePreventionMode": "EXPIRE_TAKER"}, -1130),
        ({"newOrderRespType": "FULL"}, -1130),
        ({"quantity": "100"}, -2019),
    ],
)
def test_bad_orders_are_refused_with_their_code(sent: dict[str, Any], code: int) -> None:
    trader = Trader()
    order = {"side": "BUY", "type": "MARKET", "quantity": "0.1", **sent}
    assert trader.refused("POST /fapi/v1/order", **order) == code
    assert trader.ask("GET /fapi/v1/allOrders") == []


def test_order_beyond_what_the_leverage_allows_is_refused() -> None:
    trader = Trader("100000", leverage=125)
    assert trader.refused_order(quantity="1") == -2027
    trader.send("POST /fapi/v1/leverage", leverage=20)
    assert trader.place("BUY", "1")["status"] == "FILLED"


def test_market_without_a_price_takes_no_orders() -> None:
    trader = Trader()
    trader.core.reopen_market(None)
    assert trader.refused_order(quantity="1") == -4140


@pytest.mark.parametrize(
    ("request_name", "sent", "code"),
    [
        ("GET /fapi/v1/order", {}, -1102),
        ("GET /fapi/v1/order", {"orderId": "seven"}, -1100),
        ("GET /fapi/v1/order", {"orderId": 1}, -2013),
        ("GET /fapi/v1/openOrder", {"origClientOrderId": "nobody"}, -2013),
        ("GET /fapi/v1/algoOrder", {}, -1102),
        ("GET /fapi/v1/algoOrder", {"clientAlgoId": "nobody"}, -2013),
        ("GET /fapi/v1/allOrders", {"symbol": ""}, -1102),
        ("GET /fapi/v1/allOrders", {"limit": 1001}, -1130),
        ("GET /fapi/v1/allOrders", {"startTime": 2, "endTime": 1}, -1130),
        ("GET /fapi/v1/userTrades", {"fromId": 1, "startTime": 1}, -1128),
        ("GET /fapi/v1/openOrders", {"symbol": "DOGEUSDT"}, -1121),
    ],
)
def test_bad_questions_are_refused_with_their_code(request_name: str, sent: dict[str, Any], code: int) -> None:
    with pytest.raises(Refused) as caught:
        Trader().ask(request_name, **sent)
    assert caught.value.code == code


def test_history_is_paged_by_id_time_and_limit() -> None:
    trader = Trader()
    ids = []
    for _ in range(4):
        trader.wait(1)
        ids.append(trader.place("BUY", "0.01")["orderId"])
    times = [order["time"] for order in trader.ask("GET /fapi/v1/allOrders")]

    def orders(**sent: Any) -> list[int]:
        return [order["orderId"] for order in trader.ask("GET /fapi/v1/allOrders", **sent)]

    assert orders(limit=2) == ids[2:]
    assert orders(orderId=ids[1], limit=2) == ids[1:3]
    assert orders(startTime=times[1], endTime=times[2]) == ids[1:3]
    fills = [fill["id"] for fill in trader.ask("GET /fapi/v1/userTrades")]
    assert [fill["id"] for fill in trader.ask("GET /fapi/v1/userTrades", fromId=fills[2])] == fills[2:]
    assert [fill["orderId"] for fill in trader.ask("GET /fapi/v1/userTrades", orderId=ids[3])] == [ids[3]]


def test_order_test_checks_and_takes_nothing() -> None:
    trader = Trader()
    good = {"side": "BUY", "type": "MARKET", "quantity": "0.1"}
    assert trader.ask("POST /fapi/v1/order/test", **good) == {}
    with pytest.raises(Refused, match="Margin"):
        trader.ask("POST /fapi/v1/order/test", **{**good, "quantity": "100"})
    assert trader.ask("GET /fapi/v1/allOrders") == []


def test_countdown_cancels_orders_at_its_end_and_leaves_conditional_ones() -> None:
    trader = Trader()
    order = trader.place("BUY", "0.1", "59000")
    trader.place_algo(triggerPrice="59000", quantity="0.1")
    ends_ms = trader.now_ms + 5000
    answer = trader.send("POST /fapi/v1/countdownCancelAll", countdownTime=5000)
    assert answer == {"symbol": "BTCUSDT", "countdownTime": "5000"}
    trader.wait(4.9)
    assert len(trader.ask("GET /fapi/v1/openOrders")) == 1
    trader.wait(10)
    view = trader.ask("GET /fapi/v1/order", orderId=order["orderId"])
    assert (view["status"], view["updateTime"]) == ("CANCELED", ends_ms)
    assert len(trader.ask("GET /fapi/v1/openAlgoOrders")) == 1


def test_countdown_ends_before_what_the_market_does_after_it() -> None:
    trader = Trader()
    order = trader.place("BUY", "0.1", "59000")
    trader.send("POST /fapi/v1/countdownCancelAll", countdownTime=1000)
    trader.market(a_trade(1, "58000", "9", seconds=60, is_buyer_maker=True))
    assert trader.ask("GET /fapi/v1/order", orderId=order["orderId"])["status"] == "CANCELED"


def test_countdown_of_nothing_disables_it() -> None:
    trader = Trader()
    trader.place("BUY", "0.1", "59000")
    trader.send("POST /fapi/v1/countdownCancelAll", countdownTime=1000)
    trader.send("POST /fapi/v1/countdownCancelAll", countdownTime=0)
    trader.wait(60)
    assert len(trader.ask("GET /fapi/v1/openOrders")) == 1


def test_listen_key_lives_an_hour_from_when_it_was_last_asked_for() -> None:
    trader = Trader()
    assert trader.refused("PUT /fapi/v1/listenKey") == -1125
    key = trader.send("POST /fapi/v1/listenKey")["listenKey"]
    assert len(key) == 64
    trader.wait(3599)
    assert trader.send("PUT /fapi/v1/listenKey", listenKey=key) == {"listenKey": key}
    trader.wait(3599)
    assert trader.send("POST /fapi/v1/listenKey") == {"listenKey": key}
    assert trader.refused("PUT /fapi/v1/listenKey", listenKey="another") == -1125
    trader.wait(3600)
    assert trader.events_of("listenKeyExpired") == [{"e": "listenKeyExpired", "E": trader.now_ms, "listenKey": key}]
    new = trader.send("POST /fapi/v1/listenKey")["listenKey"]
    assert new != key
    assert trader.send("DELETE /fapi/v1/listenKey") == {}
    assert trader.refused("DELETE /fapi/v1/listenKey") == -1125
