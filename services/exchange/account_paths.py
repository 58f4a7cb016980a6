"""The signed paths: each reads its parameters, is authenticated, and is executed or answered by the session."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from services.exchange.faults import Fault, Faults
from services.exchange.limits import ORDER_LIMITS
from services.exchange.private_stream import serve_private
from services.exchange.request_auth import RequestAuth, read_parameters
from services.exchange.session import TradingSession

_UNSIGNED = "/fapi/v1/listenKey"


def add_account(app: FastAPI, session: TradingSession, auth: RequestAuth) -> None:
    """Add every path that trades or queries the account."""
    for request in session.changing_requests:
        _add(app, request, _endpoint(request, session.change, auth))
    for request in session.query_requests:
        _add(app, request, _endpoint(request, session.ask, auth))
    _add(app, "GET /fapi/v1/rateLimit/order", _endpoint("", lambda _request, _sent: ORDER_LIMITS, auth))

    @app.websocket("/private/ws")
    async def single(socket: WebSocket) -> None:
        await serve_private(socket, session, is_combined=False)

    @app.websocket("/private/stream")
    async def combined(socket: WebSocket) -> None:
        await serve_private(socket, session, is_combined=True)


def add_test_paths(app: FastAPI, session: TradingSession, faults: Faults) -> None:
    """Add paths only for tests and the page: the account's full state, unsigned, and fault injection."""

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
    request: str, serve: Callable[[str, dict[str, str]], Any], auth: RequestAuth
) -> Callable[[Request], Awaitable[Response]]:
    is_signed = not request.endswith(_UNSIGNED)

    async def endpoint(http: Request) -> Response:
        query, body = http.url.query, (await http.body()).decode("utf-8", "replace")
        key = http.headers.get("x-mbx-apikey")
        if is_signed:
            sent = auth.authenticate(key, query, body)
        else:
            auth.check_key(key)
            sent = read_parameters(query, body)
        return JSONResponse(await run_in_threadpool(serve, request, sent))

    return endpoint
