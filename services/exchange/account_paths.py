"""The signed paths: each reads its parameters, passes the door, and is carried out or answered by the session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from services.exchange.faults import Fault, Faults
from services.exchange.limits import ORDER_LIMITS
from services.exchange.private_stream import serve_private
from services.exchange.session import TradingSession
from services.exchange.signed import Door, read_parameters

_UNSIGNED = "/fapi/v1/listenKey"


def add_account(app: FastAPI, session: TradingSession, door: Door) -> None:
    """Add every path that trades or asks about the account."""
    for request in session.changing_requests:
        _add(app, request, _endpoint(request, session.change, door))
    for request in session.asking_requests:
        _add(app, request, _endpoint(request, session.ask, door))
    _add(app, "GET /fapi/v1/rateLimit/order", _endpoint("", lambda _request, _sent: ORDER_LIMITS, door))

    @app.websocket("/private/ws")
    async def single(socket: WebSocket) -> None:
        await serve_private(socket, session, is_combined=False)

    @app.websocket("/private/stream")
    async def combined(socket: WebSocket) -> None:
        await serve_private(socket, session, is_combined=True)


def add_test_doors(app: FastAPI, session: TradingSession, faults: Faults) -> None:
    """Add what only tests and the page use: everything known of the account, unsigned, and faults."""

    @app.get("/sim/v1/account")
    def everything() -> dict[str, Any]:
        return session.everything()

    @app.post("/sim/v1/faults")
    async def add_fault(fault: Fault) -> dict[str, Any]:
        faults.add(fault)
        return fault.model_dump()

    @app.delete("/sim/v1/faults")
    async def clear_faults() -> dict[str, Any]:
        faults.clear()
        return {}


def _add(app: FastAPI, request: str, endpoint: Callable[[Request], Awaitable[Response]]) -> None:
    method, _, path = request.partition(" ")
    app.add_api_route(path, endpoint, methods=[method], response_model=None)


def _endpoint(
    request: str, serve: Callable[[str, dict[str, str]], Any], door: Door
) -> Callable[[Request], Awaitable[Response]]:
    is_signed = not request.endswith(_UNSIGNED)

    async def endpoint(http: Request) -> Response:
        query, body = http.url.query, (await http.body()).decode("utf-8", "replace")
        key = http.headers.get("x-mbx-apikey")
        if is_signed:
            sent = door.open(key, query, body)
        else:
            door.check_key(key)
            sent = read_parameters(query, body)
        return JSONResponse(await run_in_threadpool(serve, request, sent))

    return endpoint
