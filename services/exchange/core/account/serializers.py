"""Orders, fills and what happened to them in Binance's field names, for REST responses and the private stream."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from libs.domain.accounts import Position
from libs.domain.numbers import to_e8
from services.exchange.core.account.records import AlgoRecord, FillRecord, IncomeRecord, OrderRecord
from services.exchange.core.frames import SYMBOL, format_rate

ASSET = "USDT"
_UNIT = 100_000_000


def fixed(value: int, places: int) -> str:
    """Write an integer of 1e-8 with that many decimals (0 to 8), cut off rather than rounded."""
    sign = "-" if value < 0 else ""
    whole, part = divmod(abs(value), _UNIT)
    return f"{sign}{whole}.{part // 10 ** (8 - places):0{places}d}" if places else f"{sign}{whole}"


def money(amount: Decimal) -> str:
    """Write an amount with eight decimals."""
    return format_rate(to_e8(amount))


def order_response(order: OrderRecord) -> dict[str, Any]:
    """Return an order as the response to placing or cancelling it.

    Binance has left avgPrice and cumQuote out of these two answers since 2026-07-15; asking for the order gives them.
    """
    return {
        "orderId": order.order_id,
        "symbol": SYMBOL,
        "status": order.status,
        "clientOrderId": order.client_order_id,
        "price": fixed(order.price, 2),
        "origQty": fixed(order.quantity, 3),
        "executedQty": fixed(order.executed, 3),
        "cumQty": fixed(order.executed, 3),
        "timeInForce": order.time_in_force,
        "type": order.order_type,
        "reduceOnly": order.is_reduce_only,
        "closePosition": False,
        "side": order.side,
        "positionSide": "BOTH",
        "stopPrice": "0.00",
        "workingType": "CONTRACT_PRICE",
        "priceProtect": False,
        "origType": order.original_type or order.order_type,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "updateTime": order.updated_ms,
    }


def order_details(order: OrderRecord) -> dict[str, Any]:
    """Return an order as the response to querying it."""
    response = order_response(order)
    del response["cumQty"]
    return {
        **response,
        "avgPrice": fixed(order.average_price, 5),
        "cumQuote": fixed(order.quote // _UNIT, 5),
        "time": order.time_ms,
    }


def fill_details(fill: FillRecord) -> dict[str, Any]:
    """Write a fill as GET /fapi/v1/userTrades does."""
    return {
        "symbol": SYMBOL,
        "id": fill.trade_id,
        "orderId": fill.order_id,
        "side": fill.side,
        "price": fixed(fill.price, 2),
        "qty": fixed(fill.quantity, 3),
        "realizedPnl": fixed(fill.realised, 8),
        "quoteQty": fixed(fill.price * fill.quantity // _UNIT, 5),
        "commission": fixed(fill.fee, 8),
        "commissionAsset": ASSET,
        "time": fill.time_ms,
        "positionSide": "BOTH",
        "buyer": fill.side == "BUY",
        "maker": fill.is_maker,
    }


def income_details(income: IncomeRecord) -> dict[str, Any]:
    """Write an income as GET /fapi/v1/income does."""
    return {
        "symbol": SYMBOL,
        "incomeType": income.kind,
        "income": fixed(income.amount, 8),
        "asset": ASSET,
        "info": str(income.trade_id) if income.trade_id else income.kind,
        "time": income.time_ms,
        "tranId": income.transaction_id,
        "tradeId": str(income.trade_id) if income.trade_id else "",
    }


def algo_response(algo: AlgoRecord) -> dict[str, Any]:
    """Return a conditional order as the response to placing or cancelling it."""
    is_trailing = algo.order_type == "TRAILING_STOP_MARKET"
    return {
        "algoId": algo.algo_id,
        "clientAlgoId": algo.client_algo_id,
        "algoType": "CONDITIONAL",
        "orderType": algo.order_type,
        "symbol": SYMBOL,
        "side": algo.side,
        "positionSide": "BOTH",
        "timeInForce": algo.time_in_force,
        "quantity": fixed(algo.quantity, 3),
        "algoStatus": algo.status,
        "triggerPrice": "0.00" if is_trailing else fixed(algo.trigger, 2),
        "price": "0.00",
        "icebergQuantity": None,
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingType": algo.working_type,
        "priceMatch": "NONE",
        "closePosition": False,
        "priceProtect": False,
        "reduceOnly": algo.is_reduce_only,
        "activatePrice": fixed(algo.trigger, 2) if is_trailing and algo.trigger else "",
        "callbackRate": fixed(algo.callback_rate * 100, 2) if is_trailing else "",
        "createTime": algo.time_ms,
        "updateTime": algo.updated_ms,
        "triggerTime": algo.triggered_ms,
        "goodTillDate": 0,
    }


def algo_details(algo: AlgoRecord, actual: OrderRecord | None) -> dict[str, Any]:
    """Return a conditional order as the response to querying it; `actual` is the order that its trigger sent."""
    return {
        **algo_response(algo),
        "actualOrderId": str(algo.order_id) if actual is not None else "",
        "actualPrice": fixed(actual.average_price if actual is not None else 0, 5),
        "actualQty": fixed(actual.executed if actual is not None else 0, 3),
        "actualType": "MARKET" if actual is not None else "",
        "tpTriggerPrice": "0.00",
        "tpPrice": "0.00",
        "slTriggerPrice": "0.00",
        "slPrice": "0.00",
        "tpOrderType": "",
    }


def order_update(order: OrderRecord, execution: str, time_ms: int, fill: FillRecord | None = None) -> dict[str, Any]:
    """Write an ORDER_TRADE_UPDATE; `execution` is its x, and a `fill` belongs to TRADE and CALCULATED."""
    last = {
        "l": fixed(fill.quantity if fill else 0, 3),
        "L": fixed(fill.price if fill else 0, 2),
        "t": fill.trade_id if fill else 0,
        "m": fill.is_maker if fill else False,
        "rp": fixed(fill.realised if fill else 0, 8),
    }
    if fill:
        last |= {"N": ASSET, "n": fixed(fill.fee, 8)}
    return {
        "e": "ORDER_TRADE_UPDATE",
        "E": time_ms,
        "T": time_ms,
        "o": {
            "s": SYMBOL,
            "c": order.client_order_id,
            "S": order.side,
            "o": order.order_type,
            "f": order.time_in_force,
            "q": fixed(order.quantity, 3),
            "p": fixed(order.price, 2),
            "ap": fixed(order.average_price, 5),
            "sp": "0",
            "x": execution,
            "X": order.status,
            "i": order.order_id,
            "z": fixed(order.executed, 3),
            "T": time_ms,
            "b": "0",
            "a": "0",
            "R": order.is_reduce_only,
            "wt": "CONTRACT_PRICE",
            "ot": order.original_type or order.order_type,
            "ps": "BOTH",
            "cp": False,
            "pP": False,
            "si": 0,
            "ss": 0,
            "V": "EXPIRE_MAKER",
            "pm": "NONE",
            "gtd": 0,
            **last,
        },
        "st": 1,
    }


def trade_lite(order: OrderRecord, fill: FillRecord) -> dict[str, Any]:
    """Write the short form of a fill that goes out beside its ORDER_TRADE_UPDATE."""
    return {
        "e": "TRADE_LITE",
        "E": fill.time_ms,
        "T": fill.time_ms,
        "s": SYMBOL,
        "q": fixed(order.quantity, 3),
        "p": fixed(order.price, 2),
        "m": fill.is_maker,
        "c": order.client_order_id,
        "S": order.side,
        "L": fixed(fill.price, 2),
        "l": fixed(fill.quantity, 3),
        "t": fill.trade_id,
        "i": order.order_id,
    }


def account_update(
    reason: str, wallet: Decimal, change: Decimal, position: Position | None, break_even: Decimal, time_ms: int
) -> dict[str, Any]:
    """Write an ACCOUNT_UPDATE; `change` is what was paid in or out beside profit and fees.

    Without a position only the balance is sent, as for funding of a cross-margined position.
    """
    positions = []
    if position is not None:
        positions.append(
            {
                "s": SYMBOL,
                "pa": fixed(to_e8(position.quantity), 3),
                "ep": money(position.entry_price),
                "bep": money(break_even),
                "cr": money(position.realised_pnl),
                "up": money(position.unrealised_pnl),
                "mt": "cross",
                "iw": "0",
                "ps": "BOTH",
                "ma": ASSET,
            }
        )
    body: dict[str, Any] = {
        "m": reason,
        "B": [{"a": ASSET, "wb": money(wallet), "cw": money(wallet), "bc": money(change)}],
        "P": positions,
    }
    if reason == "FUNDING_FEE":
        body["S"] = SYMBOL
    return {"e": "ACCOUNT_UPDATE", "E": time_ms, "T": time_ms, "a": body, "st": 1}


def algo_update(algo: AlgoRecord, actual: OrderRecord | None, time_ms: int) -> dict[str, Any]:
    """Write an ALGO_UPDATE."""
    is_trailing = algo.order_type == "TRAILING_STOP_MARKET"
    body = {
        "caid": algo.client_algo_id,
        "aid": algo.algo_id,
        "at": "CONDITIONAL",
        "o": algo.order_type,
        "s": SYMBOL,
        "S": algo.side,
        "ps": "BOTH",
        "f": algo.time_in_force,
        "q": fixed(algo.quantity, 3),
        "X": algo.status,
        "ai": str(algo.order_id) if algo.order_id else "",
        "ap": fixed(actual.average_price if actual is not None else 0, 5),
        "aq": fixed(actual.executed if actual is not None else 0, 5),
        "act": "MARKET" if actual is not None else "0",
        "tp": "0" if is_trailing else fixed(algo.trigger, 2),
        "p": "0",
        "V": "EXPIRE_MAKER",
        "wt": algo.working_type,
        "pm": "NONE",
        "cp": False,
        "pP": False,
        "R": algo.is_reduce_only,
        "tt": algo.triggered_ms,
        "gtd": 0,
        "rm": algo.reason,
    }
    if is_trailing:
        body |= {"AP": fixed(algo.trigger, 2), "cr": fixed(algo.callback_rate * 100, 2)}
    return {"e": "ALGO_UPDATE", "E": time_ms, "T": time_ms, "o": body, "st": 1}
