"""Orders as a client asks for them, read from a request's parameters. Refuses what Binance refuses before it looks."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from services.exchange.core.account.parameters import Parameters
from services.exchange.core.account.refusals import Refused, invalid

CONDITIONAL_TYPES = ("STOP_MARKET", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET")
_MOVED_TYPES = ("STOP", "TAKE_PROFIT", *CONDITIONAL_TYPES)
_TIMES_IN_FORCE = ("GTC", "IOC", "FOK", "GTX")
_BAD_SIDE = Refused(-1117, "Invalid side.")
_BAD_TYPE = Refused(-1116, "Invalid orderType.")
_BAD_TIME_IN_FORCE = Refused(-1115, "Invalid timeInForce.")


@dataclass(frozen=True, slots=True)
class WantedOrder:
    """A regular order. `price` is None for market orders; an empty `client_order_id` asks the exchange for one."""

    side: str
    order_type: str
    time_in_force: str
    quantity: Decimal
    price: Decimal | None
    is_reduce_only: bool
    client_order_id: str
    wants_result: bool


@dataclass(frozen=True, slots=True)
class WantedAlgo:
    """A conditional order. `trigger` of a trailing stop is its activation price; `callback_rate` 0.01 means 1 %."""

    side: str
    order_type: str
    time_in_force: str
    quantity: Decimal
    trigger: Decimal | None
    callback_rate: Decimal | None
    is_reduce_only: bool
    client_algo_id: str
    working_type: str


def read_order(sent: Parameters) -> WantedOrder:
    """Read the parameters of POST /fapi/v1/order."""
    sent.check_symbol()
    side = sent.word("side", ("BUY", "SELL"), _BAD_SIDE)
    order_type = sent.word("type", ("LIMIT", "MARKET", *_MOVED_TYPES), _BAD_TYPE)
    if order_type in _MOVED_TYPES:
        raise Refused(
            -4120, "Order type not supported for this endpoint. Please use the Algo Order API endpoints instead."
        )
    _check_common(sent)
    is_limit = order_type == "LIMIT"
    if not is_limit:
        for name in ("timeInForce", "price"):
            if name in sent.sent:
                raise Refused(-1106, f"Parameter '{name}' sent when not required.")
    return WantedOrder(
        side=side,
        order_type=order_type,
        time_in_force=sent.word("timeInForce", _TIMES_IN_FORCE, _BAD_TIME_IN_FORCE) if is_limit else "GTC",
        quantity=sent.decimal("quantity"),
        price=sent.decimal("price") if is_limit else None,
        is_reduce_only=sent.flag("reduceOnly"),
        client_order_id=sent.new_client_id("newClientOrderId"),
        wants_result=sent.word("newOrderRespType", ("ACK", "RESULT"), invalid("newOrderRespType"), "ACK") == "RESULT",
    )


def read_algo(sent: Parameters) -> WantedAlgo:
    """Read the parameters of POST /fapi/v1/algoOrder."""
    sent.check_symbol()
    sent.word("algoType", ("CONDITIONAL",), invalid("algoType", "this exchange knows CONDITIONAL"))
    side = sent.word("side", ("BUY", "SELL"), _BAD_SIDE)
    order_type = sent.word("type", CONDITIONAL_TYPES, _BAD_TYPE)
    _check_common(sent)
    if sent.flag("priceProtect"):
        raise invalid("priceProtect", "this exchange protects no trigger price")
    is_trailing = order_type == "TRAILING_STOP_MARKET"
    if is_trailing:
        trigger = sent.optional_decimal("activatePrice", "activationPrice")
        # The venue takes percent here: 1 means 1 %.
        callback_rate = sent.decimal("callbackRate").scaleb(-2)
    else:
        trigger = sent.decimal("triggerPrice")
        callback_rate = None
    return WantedAlgo(
        side=side,
        order_type=order_type,
        time_in_force=sent.word("timeInForce", _TIMES_IN_FORCE, _BAD_TIME_IN_FORCE, "GTC"),
        quantity=sent.decimal("quantity"),
        trigger=trigger,
        callback_rate=callback_rate,
        is_reduce_only=sent.flag("reduceOnly"),
        client_algo_id=sent.new_client_id("clientAlgoId"),
        working_type=sent.word(
            "workingType", ("MARK_PRICE", "CONTRACT_PRICE"), invalid("workingType"), "CONTRACT_PRICE"
        ),
    )


def _check_common(sent: Parameters) -> None:
    if sent.sent.get("positionSide", "BOTH").upper() != "BOTH":
        raise Refused(-4061, "Order's position side does not match user's setting.")
    sent.only("selfTradePreventionMode", "NONE", "EXPIRE_MAKER")
    sent.only("priceMatch", "NONE")
    if sent.flag("closePosition"):
        raise invalid("closePosition", "this exchange closes by quantity; send quantity and reduceOnly")
