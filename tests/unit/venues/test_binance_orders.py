"""Orders in Binance's words: what is sent, what an answer means, and answers that are not what is documented."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from libs.domain.accounts import VenuePosition
from libs.domain.market import Side
from libs.domain.orders import Liquidity, OrderStatus, OrderType, PlaceOrder, TimeInForce
from libs.venues.binance_orders import (
    UnreadableAnswer,
    actual_order_id,
    order_parameters,
    read_account,
    read_conditional,
    read_fills,
    read_open_ids,
    read_order,
)
from libs.venues.errors import VenueUnavailable
from tests.kit.builders import BTC, START

MS = 1_000_000
ORDER = {
    "clientOrderId": "pf-1",
    "orderId": 22542179,
    "status": "PARTIALLY_FILLED",
    "executedQty": "0.010",
    "updateTime": 1566818724722,
    "symbol": "BTCUSDT",
    "priceMatch": "NONE",
}
ALGO = {
    "algoId": 2146760,
    "clientAlgoId": "pf-2",
    "algoType": "CONDITIONAL",
    "orderType": "STOP_MARKET",
    "symbol": "BTCUSDT",
    "algoStatus": "NEW",
    "actualOrderId": "",
    "updateTime": 1750514545091,
}
TRADE = {
    "id": 698759,
    "orderId": 22542179,
    "price": "60000.10",
    "qty": "0.010",
    "commission": "0.30000050",
    "commissionAsset": "USDT",
    "maker": False,
    "time": 1569514978020,
}
HELD = {"symbol": "BTCUSDT", "positionAmt": "-0.2", "entryPrice": "60000.123456789", "positionSide": "BOTH"}
ACCOUNT = {
    "assets": [{"asset": "BNB", "walletBalance": "1"}, {"asset": "USDT", "walletBalance": "23.72469206"}],
    "positions": [{**HELD, "symbol": "ETHUSDT", "positionAmt": "0.000"}, HELD],
}


def an_order(order_type: OrderType, **changes: Any) -> PlaceOrder:
    fields: dict[str, Any] = {
        "event_id": "place/pf-1",
        "event_time": START,
        "account": "paper",
        "instrument": BTC,
        "client_order_id": "pf-1",
        "intent_id": "intent/1",
        "verdict_id": "verdict/1",
        "side": Side.SELL,
        "order_type": order_type,
        "quantity": Decimal("0.0100"),
        "time_in_force": TimeInForce.GTC,
        "reduce_only": False,
    }
    return PlaceOrder(**{**fields, **changes})


@pytest.mark.parametrize(
    ("order", "parameters"),
    [
        (
            an_order(OrderType.MARKET, reduce_only=True),
            {"type": "MARKET", "reduceOnly": "true", "newClientOrderId": "pf-1", "newOrderRespType": "RESULT"},
        ),
        (
            an_order(OrderType.LIMIT, limit_price=Decimal("60000.10"), time_in_force=TimeInForce.GTX),
            {
                "type": "LIMIT",
                "price": "60000.1",
                "timeInForce": "GTX",
                "newClientOrderId": "pf-1",
                "newOrderRespType": "RESULT",
            },
        ),
        (
            an_order(OrderType.STOP_MARKET, trigger_price=Decimal(59000), reduce_only=True),
            {
                "type": "STOP_MARKET",
                "triggerPrice": "59000",
                "reduceOnly": "true",
                "clientAlgoId": "pf-1",
                "workingType": "MARK_PRICE",
            },
        ),
        (
            an_order(OrderType.TRAILING_STOP_MARKET, trigger_price=Decimal(61000), callback_rate=Decimal("0.015")),
            {
                "type": "TRAILING_STOP_MARKET",
                "callbackRate": "1.5",
                "activatePrice": "61000",
                "clientAlgoId": "pf-1",
                "workingType": "MARK_PRICE",
            },
        ),
    ],
)
def test_order_goes_out_in_binances_words(order: PlaceOrder, parameters: dict[str, str]) -> None:
    common = {"symbol": "BTCUSDT", "side": "SELL", "quantity": "0.01"}
    assert order_parameters(order) == common | parameters


def test_answer_on_an_order_with_its_fills() -> None:
    state = read_order(ORDER, BTC, read_fills([TRADE]))
    assert (state.client_order_id, state.venue_order_id, state.instrument) == ("pf-1", "22542179", BTC)
    assert (state.status, state.filled_quantity) == (OrderStatus.PARTIALLY_FILLED, Decimal("0.010"))
    assert state.event_time == 1566818724722 * MS
    (fill,) = state.fills
    assert (fill.venue_trade_id, fill.event_time) == ("698759", 1569514978020 * MS)
    assert (fill.quantity, fill.price, fill.fee) == (Decimal("0.01"), Decimal("60000.1"), Decimal("0.3000005"))
    assert fill.liquidity is Liquidity.TAKER
    assert '"priceMatch":"NONE"' in state.raw


def test_fee_in_another_asset_is_not_charged_to_the_quote_wallet() -> None:
    (fill,) = read_fills([{**TRADE, "commissionAsset": "BNB", "maker": True}])
    assert (fill.fee, fill.liquidity) == (Decimal(0), Liquidity.MAKER)


@pytest.mark.parametrize(
    ("word", "status", "is_triggered"),
    [
        ("NEW", OrderStatus.ACCEPTED, False),
        ("TRIGGERING", OrderStatus.ACCEPTED, True),
        ("CANCELED", OrderStatus.CANCELLED, False),
        ("REJECTED", OrderStatus.REJECTED, False),
        ("EXPIRED", OrderStatus.EXPIRED, False),
        ("FINISHED", OrderStatus.EXPIRED, True),
    ],
)
def test_conditional_order_before_and_without_its_market_order(
    word: str, status: OrderStatus, is_triggered: bool
) -> None:
    state = read_conditional({**ALGO, "algoStatus": word}, None, BTC)
    assert (state.client_order_id, state.venue_order_id) == ("pf-2", "2146760")
    assert (state.status, state.is_triggered, state.filled_quantity) == (status, is_triggered, Decimal(0))


def test_conditional_order_whose_market_order_is_not_found_yet_stays_open() -> None:
    state = read_conditional({**ALGO, "algoStatus": "FINISHED", "actualOrderId": "22542179"}, None, BTC)
    assert (state.status, state.is_triggered) == (OrderStatus.ACCEPTED, True)


def test_triggered_conditional_order_takes_fills_and_end_from_its_market_order() -> None:
    actual = read_order({**ORDER, "status": "FILLED", "clientOrderId": "venue-made"}, BTC, read_fills([TRADE]))
    answer = {**ALGO, "algoStatus": "FINISHED", "actualOrderId": "22542179"}
    assert actual_order_id(answer) == "22542179"
    state = read_conditional(answer, actual, BTC)
    assert (state.client_order_id, state.venue_order_id) == ("pf-2", "2146760")
    assert (state.status, state.is_triggered, state.fills) == (OrderStatus.FILLED, True, actual.fills)


def test_account_is_the_usdt_wallet_and_the_open_positions() -> None:
    account = read_account(ACCOUNT)
    assert account.wallet_balance == Decimal("23.72469206")
    assert account.positions == (VenuePosition(BTC, Decimal("-0.2"), Decimal("60000.12345679")),)


def test_open_ids() -> None:
    assert read_open_ids([ORDER], "clientOrderId") == ["pf-1"]


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda: read_order({**ORDER, "status": "DREAMING"}, BTC), "unknown order status 'DREAMING'"),
        (lambda: read_order({**ORDER, "executedQty": "NaN"}, BTC), "executedQty .* not a number"),
        (lambda: read_order({**ORDER, "updateTime": 0}, BTC), "updateTime .* not a time"),
        (lambda: read_order({"orderId": 1}, BTC), "lacks clientOrderId"),
        (lambda: read_order("teapot", BTC), "lacks clientOrderId"),
        (lambda: read_fills({"code": 0}), "where a list was asked for"),
        (lambda: read_account({**ACCOUNT, "assets": []}), "0 assets of the name USDT"),
        (lambda: read_account({**ACCOUNT, "positions": [{**HELD, "positionSide": "SHORT"}]}), "one-way mode"),
    ],
)
def test_answer_that_is_not_what_is_documented_leaves_the_matter_open(read: Any, message: str) -> None:
    with pytest.raises(UnreadableAnswer, match=message) as caught:
        read()
    assert isinstance(caught.value, VenueUnavailable)
