"""Orders in Binance USD-M's words: a command to parameters, an answer to an order's state. Pure.

Conditional orders live in Binance's algo service since December 2025: they have an id of their own there, and a second,
ordinary order once triggered. `binance_trading` asks for both; here they become one state.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from libs.domain.accounts import VenuePosition
from libs.domain.instruments import instrument_id, split_instrument_id
from libs.domain.numbers import format_decimal, quantize_e8
from libs.domain.orders import Liquidity, OrderStatus, OrderType, PlaceOrder
from libs.domain.venues import VenueAccountSnapshot, VenueFill, VenueOrderState
from libs.venues.errors import VenueUnavailable

MS = 1_000_000
VENUE = "BINANCE"
ASSET = "USDT"
_STATUSES = {
    "NEW": OrderStatus.ACCEPTED,
    "PARTIALLY_FILLED": OrderStatus.PARTIALLY_FILLED,
    "FILLED": OrderStatus.FILLED,
    "CANCELED": OrderStatus.CANCELLED,
    "REJECTED": OrderStatus.REJECTED,
    "EXPIRED": OrderStatus.EXPIRED,
    "EXPIRED_IN_MATCH": OrderStatus.EXPIRED,
    # A liquidation or deleveraging of ours, as it still appears on the wire.
    "NEW_INSURANCE": OrderStatus.ACCEPTED,
    "NEW_ADL": OrderStatus.ACCEPTED,
}
_ALGO_STATUSES = {
    "NEW": OrderStatus.ACCEPTED,
    "TRIGGERING": OrderStatus.ACCEPTED,
    "TRIGGERED": OrderStatus.ACCEPTED,
    "FINISHED": OrderStatus.EXPIRED,
    "CANCELED": OrderStatus.CANCELLED,
    "REJECTED": OrderStatus.REJECTED,
    "EXPIRED": OrderStatus.EXPIRED,
}
_TRIGGERED = frozenset({"TRIGGERING", "TRIGGERED", "FINISHED"})


class UnreadableAnswer(VenueUnavailable):
    """An answer that is not what Binance documents: what it means for the order nobody knows."""


def order_parameters(order: PlaceOrder) -> dict[str, str]:
    """Return the parameters of POST /fapi/v1/order or, for a conditional order, of POST /fapi/v1/algoOrder."""
    symbol, _ = split_instrument_id(order.instrument)
    parameters = {
        "symbol": symbol,
        "side": order.side.name,
        "type": order.order_type.name,
        "quantity": format_decimal(order.quantity),
    }
    if order.reduce_only:
        parameters["reduceOnly"] = "true"
    if order.order_type.is_conditional:
        return parameters | _condition(order)
    parameters |= {"newClientOrderId": order.client_order_id, "newOrderRespType": "RESULT"}
    if order.order_type is OrderType.LIMIT and order.limit_price is not None:
        parameters |= {"price": format_decimal(order.limit_price), "timeInForce": order.time_in_force.name}
    return parameters


def _condition(order: PlaceOrder) -> dict[str, str]:
    parameters = {"clientAlgoId": order.client_order_id, "workingType": "MARK_PRICE"}
    if order.order_type is OrderType.TRAILING_STOP_MARKET:
        # Binance counts the callback rate in percent, 0.1 to 10.
        parameters["callbackRate"] = format_decimal((order.callback_rate or Decimal(0)) * 100)
        if order.trigger_price is not None:
            parameters["activatePrice"] = format_decimal(order.trigger_price)
    elif order.trigger_price is not None:
        parameters["triggerPrice"] = format_decimal(order.trigger_price)
    return parameters


def read_order(answer: Any, instrument: str, fills: tuple[VenueFill, ...] = ()) -> VenueOrderState:
    """Return the state that an answer on an ordinary order gives. Raises `UnreadableAnswer`."""
    return VenueOrderState(
        client_order_id=str(_field(answer, "clientOrderId")),
        venue_order_id=str(_field(answer, "orderId")),
        instrument=instrument,
        status=_status(_STATUSES, _field(answer, "status")),
        filled_quantity=_amount(answer, "executedQty"),
        event_time=_time(answer, "updateTime"),
        fills=fills,
        raw=_text(answer),
    )


def read_conditional(answer: Any, actual: VenueOrderState | None, instrument: str) -> VenueOrderState:
    """Return the state of a conditional order; `actual` is the ordinary order it became, None before it has.

    Raises `UnreadableAnswer`.
    """
    word = _field(answer, "algoStatus")
    status = _status(_ALGO_STATUSES, word)
    reason = ""
    if actual is not None:
        status = actual.status
    elif word == "FINISHED" and actual_order_id(answer):
        # The order that it became is not to be found yet, and its fills with it.
        status = OrderStatus.ACCEPTED
    elif word == "FINISHED":
        reason = "triggered without becoming an order"
    return VenueOrderState(
        client_order_id=str(_field(answer, "clientAlgoId")),
        venue_order_id=str(_field(answer, "algoId")),
        instrument=instrument,
        status=status,
        filled_quantity=actual.filled_quantity if actual else Decimal(0),
        event_time=max(_time(answer, "updateTime"), actual.event_time if actual else 0),
        fills=actual.fills if actual else (),
        is_triggered=word in _TRIGGERED,
        reason=reason,
        raw=_text(answer) if actual is None else actual.raw,
    )


def actual_order_id(answer: Any) -> str:
    """Return the id of the ordinary order that a conditional one became, empty before it has."""
    found = str(_field(answer, "actualOrderId") or "")
    return "" if found == "0" else found


def read_fills(answer: Any) -> tuple[VenueFill, ...]:
    """Return the executions of GET /fapi/v1/userTrades. Raises `UnreadableAnswer`."""
    return tuple(
        VenueFill(
            venue_trade_id=str(_field(row, "id")),
            event_time=_time(row, "time"),
            quantity=_amount(row, "qty"),
            price=_amount(row, "price"),
            # A fee in another asset (BNB) is not taken from the quote wallet, so it is not charged.
            fee=_amount(row, "commission") if _field(row, "commissionAsset") == ASSET else Decimal(0),
            liquidity=Liquidity.MAKER if _field(row, "maker") else Liquidity.TAKER,
        )
        for row in _rows(answer)
    )


def read_account(answer: Any) -> VenueAccountSnapshot:
    """Return wallet and open positions of GET /fapi/v2/account. Raises `UnreadableAnswer`."""
    wallets = [row for row in _rows(_field(answer, "assets")) if _field(row, "asset") == ASSET]
    if len(wallets) != 1:
        raise UnreadableAnswer(f"the account's answer has {len(wallets)} assets of the name {ASSET}, one was expected")
    positions = []
    for row in _rows(_field(answer, "positions")):
        quantity = _amount(row, "positionAmt")
        if not quantity:
            continue
        if _field(row, "positionSide") != "BOTH":
            raise UnreadableAnswer("the account has a hedged position; change it to one-way mode")
        name = instrument_id(str(_field(row, "symbol")), VENUE)
        positions.append(VenuePosition(name, quantity, quantize_e8(_amount(row, "entryPrice"))))
    return VenueAccountSnapshot(
        _amount(wallets[0], "walletBalance"), tuple(sorted(positions, key=lambda held: held.instrument))
    )


def read_open_ids(answer: Any, field: str) -> Sequence[str]:
    """Return the ids in an answer that lists open orders. Raises `UnreadableAnswer`."""
    return [str(_field(row, field)) for row in _rows(answer)]


def _rows(answer: Any) -> Iterable[Mapping[str, Any]]:
    if not isinstance(answer, list):
        raise UnreadableAnswer(f"Binance answered {_text(answer)[:80]!r} where a list was asked for")
    return answer


def _field(answer: Any, name: str) -> Any:
    try:
        return answer[name]
    except (KeyError, TypeError, IndexError):
        raise UnreadableAnswer(f"Binance's answer {_text(answer)[:120]!r} lacks {name}") from None


def _amount(answer: Any, name: str) -> Decimal:
    try:
        value = Decimal(str(_field(answer, name)))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise UnreadableAnswer(f"{name} in Binance's answer is {answer[name]!r}, not a number")
    return value


def _time(answer: Any, name: str) -> int:
    value = _field(answer, name)
    if not isinstance(value, int) or value <= 0:
        raise UnreadableAnswer(f"{name} in Binance's answer is {value!r}, not a time in ms")
    return value * MS


def _status(known: Mapping[str, OrderStatus], word: Any) -> OrderStatus:
    try:
        return known[word]
    except (KeyError, TypeError):
        raise UnreadableAnswer(f"Binance's answer has the unknown order status {word!r}") from None


def _text(answer: Any) -> str:
    return orjson.dumps(answer).decode()
