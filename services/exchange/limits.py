"""Request weight and order counts per window of exchange time, as Binance counts them; over a limit is 429."""

from __future__ import annotations

import math
from typing import Any
from urllib.parse import parse_qs

import orjson
from starlette.datastructures import MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.exchange.clock import MarketClock

WEIGHT_PER_MINUTE = 2400
ORDERS_PER_MINUTE = 1200
ORDERS_PER_10_SECONDS = 300
_MINUTE_MS = 60_000
_TEN_SECONDS_MS = 10_000
ORDER_LIMITS: list[dict[str, Any]] = [
    {"rateLimitType": "ORDERS", "interval": "MINUTE", "intervalNum": 1, "limit": ORDERS_PER_MINUTE},
    {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": ORDERS_PER_10_SECONDS},
]
RATE_LIMITS: list[dict[str, Any]] = [
    {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": WEIGHT_PER_MINUTE},
    *ORDER_LIMITS,
]
_ORDERS = ("/fapi/v1/order", "/fapi/v1/algoOrder")
_WEIGHTS = {
    "/fapi/v1/aggTrades": 20,
    "/fapi/v1/ticker/bookTicker": 2,
    "/fapi/v1/userTrades": 5,
    "/fapi/v1/allOrders": 5,
    "/fapi/v1/allAlgoOrders": 5,
    "/fapi/v2/account": 5,
    "/fapi/v3/account": 5,
    "/fapi/v2/balance": 5,
    "/fapi/v3/balance": 5,
    "/fapi/v2/positionRisk": 5,
    "/fapi/v3/positionRisk": 5,
    "/fapi/v1/income": 30,
    "/fapi/v1/commissionRate": 20,
    "/fapi/v1/accountConfig": 5,
    "/fapi/v1/symbolConfig": 5,
    "/fapi/v1/positionSide/dual": 30,
    "/fapi/v1/multiAssetsMargin": 30,
    "/fapi/v1/countdownCancelAll": 10,
}
_WEIGHT_BY_LIMIT = {
    "/fapi/v1/depth": (500, ((50, 2), (100, 5), (500, 10), (1000, 20))),
    "/fapi/v1/klines": (500, ((99, 1), (499, 2), (1000, 5), (1500, 10))),
}


class _Window:
    """A count that starts anew with every window of exchange time."""

    def __init__(self, length_ms: int, most: int) -> None:
        self.length_ms = length_ms
        self.most = most
        self.used = 0
        self._index = -1

    def add(self, now_ms: int, amount: int) -> bool:
        """Count; whether the limit still holds."""
        index = now_ms // self.length_ms
        if index != self._index:
            self._index, self.used = index, 0
        self.used += amount
        return self.used <= self.most


def weight_of(method: str, path: str, query: str) -> int:
    """Return the weight of a request; placing an order weighs nothing, it counts as an order."""
    if method == "POST" and path in _ORDERS:
        return 0
    if path in _WEIGHT_BY_LIMIT:
        default, steps = _WEIGHT_BY_LIMIT[path]
        text = parse_qs(query).get("limit", [str(default)])[0]
        limit = int(text) if text.isascii() and text.isdigit() else default
        return next((weight for most, weight in steps if limit <= most), steps[-1][1])
    if path in ("/fapi/v1/openOrders", "/fapi/v1/openAlgoOrders"):
        return 1 if "symbol=" in query else 40
    return _WEIGHTS.get(path, 1)


class LimitedApp:
    """An ASGI application behind the limits, with their headers on every answer under /fapi."""

    def __init__(self, app: ASGIApp, clock: MarketClock) -> None:
        self._app = app
        self._clock = clock
        self._weight = _Window(_MINUTE_MS, WEIGHT_PER_MINUTE)
        self._minute_orders = _Window(_MINUTE_MS, ORDERS_PER_MINUTE)
        self._ten_second_orders = _Window(_TEN_SECONDS_MS, ORDERS_PER_10_SECONDS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request and let it through, or answer 429."""
        if scope["type"] != "http" or not scope["path"].startswith("/fapi/"):
            await self._app(scope, receive, send)
            return
        now_ms = self._clock.now_ms()
        path, method = scope["path"], scope["method"]
        is_order = method == "POST" and path in _ORDERS
        is_light = self._weight.add(now_ms, weight_of(method, path, scope["query_string"].decode("latin-1")))
        is_seldom = True
        if is_order:
            is_seldom = self._minute_orders.add(now_ms, 1)
            is_seldom = self._ten_second_orders.add(now_ms, 1) and is_seldom
        headers = {"x-mbx-used-weight-1m": str(self._weight.used)}
        if is_order:
            headers["x-mbx-order-count-10s"] = str(self._ten_second_orders.used)
            headers["x-mbx-order-count-1m"] = str(self._minute_orders.used)

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(headers)
            await send(message)

        if is_light and is_seldom:
            await self._app(scope, receive, send_with_headers)
            return
        await self._refuse(now_ms, is_light=is_light)(scope, receive, send_with_headers)

    def _refuse(self, now_ms: int, *, is_light: bool) -> Response:
        if not is_light:
            window = self._weight
            code, text = -1003, f"Too many requests; current limit is {WEIGHT_PER_MINUTE} request weight per 1 MINUTE."
        else:
            window = self._minute_orders
            if self._ten_second_orders.used > ORDERS_PER_10_SECONDS:
                window = self._ten_second_orders
            per = "1 MINUTE" if window is self._minute_orders else "10 SECOND"
            code, text = -1015, f"Too many new orders; current limit is {window.most} orders per {per}."
        wait_s = math.ceil((window.length_ms - now_ms % window.length_ms) / 1000 / self._clock.speed)
        body = orjson.dumps({"code": code, "msg": text})
        return Response(body, 429, {"Retry-After": str(wait_s)}, "application/json")
