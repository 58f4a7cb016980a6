"""Conditional orders at the simulated exchange wait for their price and send a market order."""

from __future__ import annotations

from typing import Any

import pytest

from services.exchange.core.account.conditional import MAX_ALGO_ORDERS
from tests.kit.builders import a_mark, a_trade
from tests.unit.exchange.trader import Trader


def statuses(trader: Trader) -> list[str]:
    return [event["o"]["X"] for event in trader.events_of("ALGO_UPDATE")]


def test_stop_on_the_mark_sends_an_order_that_fills() -> None:
    trader = Trader()
    trader.place("BUY", "0.1")
    algo = trader.place_algo(triggerPrice="59500", quantity="0.1", reduceOnly="true", clientAlgoId="stop")
    assert (algo["algoStatus"], algo["triggerPrice"]) == ("NEW", "59500.00")
    trader.market(a_trade(1, "59000", "0.001", seconds=2), a_mark(2, "59500.1", seconds=3))
    assert [entry["algoId"] for entry in trader.ask("GET /fapi/v1/openAlgoOrders")] == [algo["algoId"]]
    trader.market(a_mark(3, "59500", seconds=4))
    done = trader.ask("GET /fapi/v1/algoOrder", clientAlgoId="stop")
    assert (done["algoStatus"], done["actualQty"], done["actualType"]) == ("FINISHED", "0.100", "MARKET")
    order = trader.ask("GET /fapi/v1/order", orderId=done["actualOrderId"])
    assert (order["status"], order["type"], order["origType"]) == ("FILLED", "MARKET", "STOP_MARKET")
    assert trader.position == "0.000"
    assert statuses(trader) == ["NEW", "TRIGGERED", "FINISHED"]
    assert trader.events_of("ALGO_UPDATE")[-1]["o"]["ai"] == done["actualOrderId"]
    assert trader.ask("GET /fapi/v1/openAlgoOrders") == []
    assert [entry["algoId"] for entry in trader.ask("GET /fapi/v1/allAlgoOrders")] == [algo["algoId"]]


def test_stop_on_the_contract_price_watches_trades() -> None:
    trader = Trader()
    trader.market(a_trade(1, "60000", "0.001", seconds=2))
    trader.place_algo(side="BUY", triggerPrice="60500", quantity="0.1", workingType="CONTRACT_PRICE")
    trader.market(a_mark(2, "60600", seconds=3))
    assert trader.position == "0.000"
    trader.market(a_trade(2, "60500", "0.001", seconds=4))
    assert trader.position == "0.100"


def test_take_profit_triggers_the_other_way() -> None:
    trader = Trader()
    trader.place("BUY", "0.1")
    trader.place_algo("TAKE_PROFIT_MARKET", triggerPrice="60500", quantity="0.1", reduceOnly="true")
    trader.market(a_mark(2, "60500", seconds=2))
    assert trader.position == "0.000"


def test_trailing_stop_follows_from_its_activation_by_percent() -> None:
    trader = Trader()
    trader.place("BUY", "0.1")
    algo = trader.place_algo("TRAILING_STOP_MARKET", callbackRate="1", activatePrice="60500", quantity="0.1")
    assert (algo["activatePrice"], algo["callbackRate"]) == ("60500.00", "1.00")
    trader.market(a_mark(2, "59000", seconds=2), a_mark(3, "61000", seconds=3), a_mark(4, "60391", seconds=4))
    assert trader.position == "0.100"
    trader.market(a_mark(5, "60390", seconds=5))
    assert trader.position == "0.000"


def test_trailing_stop_without_activation_follows_at_once() -> None:
    trader = Trader()
    trader.place("BUY", "0.1")
    trader.place_algo("TRAILING_STOP_MARKET", callbackRate="0.5", quantity="0.1")
    trader.market(a_mark(2, "59700", seconds=2))
    assert trader.position == "0.000"


def test_reduce_only_stop_without_a_position_is_rejected_when_it_triggers() -> None:
    trader = Trader()
    trader.place_algo(triggerPrice="59500", quantity="0.1", reduceOnly="true", clientAlgoId="stop")
    trader.market(a_mark(2, "59000", seconds=2))
    algo = trader.ask("GET /fapi/v1/algoOrder", clientAlgoId="stop")
    assert (algo["algoStatus"], algo["actualOrderId"]) == ("REJECTED", "")
    assert trader.events_of("ALGO_UPDATE")[-1]["o"]["rm"] == "ReduceOnly Order is rejected."
    assert trader.ask("GET /fapi/v1/allOrders") == []


def test_stop_that_the_margin_does_not_carry_is_rejected_when_it_triggers() -> None:
    trader = Trader("1000")
    trader.place_algo(triggerPrice="59500", quantity="10")
    trader.market(a_mark(2, "59000", seconds=2))
    assert statuses(trader) == ["NEW", "REJECTED"]


def test_cancelled_stop_does_not_trigger() -> None:
    trader = Trader()
    algo = trader.place_algo(triggerPrice="59500", quantity="0.1")
    assert trader.refused("DELETE /fapi/v1/algoOrder", algoId=1) == -2011
    answer = trader.send("DELETE /fapi/v1/algoOrder", algoId=algo["algoId"])
    assert (answer["algoStatus"], answer["code"], answer["msg"]) == ("CANCELED", "200", "success")
    assert trader.refused("DELETE /fapi/v1/algoOrder", algoId=algo["algoId"]) == -2011
    trader.market(a_mark(2, "59000", seconds=2))
    assert trader.position == "0.000"


def test_all_conditional_orders_are_cancelled_at_once_and_orders_stay() -> None:
    trader = Trader()
    trader.place("BUY", "0.1", "59000")
    trader.place_algo(triggerPrice="59500", quantity="0.1")
    trader.place_algo("TAKE_PROFIT_MARKET", triggerPrice="60500", quantity="0.1")
    assert trader.send("DELETE /fapi/v1/algoOpenOrders")["code"] == 200
    assert trader.ask("GET /fapi/v1/openAlgoOrders") == []
    assert len(trader.ask("GET /fapi/v1/openOrders")) == 1


def test_triggered_order_takes_another_client_id_where_an_open_order_bears_its_own() -> None:
    trader = Trader()
    trader.place("BUY", "0.1", "59000", newClientOrderId="same")
    trader.place_algo(triggerPrice="59500", quantity="0.1", clientAlgoId="same")
    trader.market(a_mark(2, "59500", seconds=2))
    ids = [order["clientOrderId"] for order in trader.ask("GET /fapi/v1/allOrders")]
    assert ids[0] == "same"
    assert len(ids) == len(set(ids)) == 2


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ({"algoType": "VP"}, -1130),
        ({"algoType": ""}, -1102),
        ({"order_type": "LIMIT"}, -1116),
        ({}, -1102),
        ({"triggerPrice": "61000"}, -2021),
        ({"triggerPrice": "59000.05"}, -4014),
        ({"triggerPrice": "59000", "quantity": "0"}, -4003),
        ({"triggerPrice": "59000", "quantity": "0.001"}, -4164),
        ({"triggerPrice": "59000", "workingType": "INDEX"}, -1130),
        ({"triggerPrice": "59000", "closePosition": "true"}, -1130),
        ({"triggerPrice": "59000", "priceProtect": "TRUE"}, -1130),
        ({"triggerPrice": "59000", "positionSide": "SHORT"}, -4061),
        ({"triggerPrice": "59000", "clientAlgoId": "bad id"}, -1100),
        ({"order_type": "TRAILING_STOP_MARKET"}, -1102),
        ({"order_type": "TRAILING_STOP_MARKET", "callbackRate": "11"}, -2007),
        ({"order_type": "TRAILING_STOP_MARKET", "callbackRate": "0.05"}, -2007),
        ({"order_type": "TRAILING_STOP_MARKET", "callbackRate": "1", "activatePrice": "59000"}, -2021),
    ],
)
def test_bad_conditional_orders_are_refused_with_their_code(sent: dict[str, Any], code: int) -> None:
    trader = Trader()
    assert trader.refused_algo(**sent) == code
    assert trader.ask("GET /fapi/v1/allAlgoOrders") == []


def test_client_algo_id_is_unique_among_those_that_wait() -> None:
    trader = Trader()
    trader.place_algo(triggerPrice="59500", quantity="0.1", clientAlgoId="stop")
    assert trader.refused_algo(triggerPrice="59400", quantity="0.1", clientAlgoId="stop") == -4116
    trader.send("DELETE /fapi/v1/algoOrder", clientAlgoId="stop")
    assert trader.place_algo(triggerPrice="59500", quantity="0.1", clientAlgoId="stop")["algoStatus"] == "NEW"


def test_there_is_an_end_to_conditional_orders() -> None:
    trader = Trader()
    for _ in range(MAX_ALGO_ORDERS):
        trader.place_algo(triggerPrice="59500", quantity="0.1")
    assert trader.refused_algo(triggerPrice="59500", quantity="0.1") == -4045
