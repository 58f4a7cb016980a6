"""The simulated exchange's HTTP and websocket API: Binance's public paths, and the whole market as numbered frames."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Literal

from fastapi import FastAPI, Query, Request, Response, WebSocket
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.types import ASGIApp, Lifespan

from libs.runtime.metrics import ServiceMetrics
from services.exchange import answers
from services.exchange.account_paths import add_account, add_test_paths
from services.exchange.clock import MarketClock
from services.exchange.core import START_MS
from services.exchange.core.account import Refused
from services.exchange.core.frames import SYMBOL
from services.exchange.faults import Faults, FaultyApp
from services.exchange.limits import LimitedApp
from services.exchange.market_tape import MarketTape, MarketTapeEnded
from services.exchange.request_auth import RequestAuth
from services.exchange.session import TradingSession
from services.exchange.streams import Subscription, serve_stream

ADVANCE_EVERY_S = 0.05


def build_app(tape: MarketTape, clock: MarketClock, session: TradingSession, auth: RequestAuth) -> ASGIApp:
    """Build the application over a market tape, its clock and the account; while it serves, the account advances."""
    app = FastAPI(
        title="perpflow simulated exchange",
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        lifespan=_advancing(session),
    )
    _add_errors(app)
    metrics = ServiceMetrics("exchange")
    faults = Faults()
    _add_metrics(app, metrics)
    _add_general(app, tape, clock, metrics)
    _add_market(app, tape, clock)
    add_account(app, session, auth)
    add_test_paths(app, session, faults)
    _add_streams(app, tape, clock)
    return FaultyApp(LimitedApp(app, clock), faults)


def _advancing(session: TradingSession) -> Lifespan[FastAPI]:
    async def advance() -> None:
        while True:
            try:
                await asyncio.to_thread(session.advance)
            except MarketTapeEnded:
                # The market has ended; every request is refused with that reason.
                return
            await asyncio.sleep(ADVANCE_EVERY_S)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncGenerator[None]:
        advancing = asyncio.create_task(advance())
        yield
        if not advancing.done():
            advancing.cancel()
        await asyncio.wait((advancing,))
        await asyncio.to_thread(session.close)
        if not advancing.cancelled():
            advancing.result()

    return lifespan


def _refuse(status: int, code: int, message: str) -> JSONResponse:
    return JSONResponse({"code": code, "msg": message}, status)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(Refused)
    async def refuse(_request: Request, error: Refused) -> JSONResponse:
        return _refuse(error.status, error.code, error.message)

    @app.exception_handler(MarketTapeEnded)
    async def refuse_beyond(_request: Request, error: MarketTapeEnded) -> JSONResponse:
        return _refuse(400, -1130, str(error))

    @app.exception_handler(RequestValidationError)
    async def refuse_parameter(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        name = first["loc"][-1]
        if first["type"] == "missing":
            message = f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed."
            return _refuse(400, -1102, message)
        return _refuse(400, -1130, f"Data sent for parameter '{name}' is not valid.")

    @app.exception_handler(405)
    @app.exception_handler(404)
    async def refuse_path(request: Request, _error: Exception) -> JSONResponse:
        return _refuse(404, -5000, f"Path {request.url.path}, Method {request.method} is invalid")


def _add_metrics(app: FastAPI, metrics: ServiceMetrics) -> None:
    @app.get("/metrics")
    async def metrics_text() -> Response:
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_general(app: FastAPI, tape: MarketTape, clock: MarketClock, metrics: ServiceMetrics) -> None:
    @app.get("/fapi/v1/ping")
    @app.get("/api/v3/ping")
    async def ping() -> dict[str, Any]:
        return {}

    @app.get("/fapi/v1/time")
    @app.get("/api/v3/time")
    async def server_time() -> dict[str, Any]:
        return {"serverTime": clock.now_ms()}

    @app.get("/live")
    @app.get("/ready")
    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"state": "running", "service": "exchange"}

    @app.get("/fapi/v1/exchangeInfo")
    def exchange_info() -> dict[str, Any]:
        return answers.exchange_info(clock.now_ms())

    @app.get("/sim/v1/market")
    async def market() -> dict[str, Any]:
        return {"seed": tape.seed, "symbol": SYMBOL, "start_ms": START_MS, "now_ms": clock.now_ms()}

    @app.get("/sim/v1/frames")
    def frames(after: int = Query(ge=0), limit: int = Query(default=2000, ge=1, le=20_000)) -> Response:
        lines = tape.frames(after, limit)
        metrics.records_out.labels("exchange", "frames").inc(len(lines))
        return PlainTextResponse("".join(f"{sequence} {line}\n" for sequence, line in lines))


def _add_market(app: FastAPI, tape: MarketTape, clock: MarketClock) -> None:
    @app.get("/fapi/v1/depth")
    def depth(symbol: str, limit: Literal["5", "10", "20", "50", "100", "500", "1000"] = "500") -> Any:
        answers.check_symbol(symbol)
        return answers.depth(tape, clock.now_ms(), int(limit))

    @app.get("/fapi/v1/klines")
    def klines(
        symbol: str,
        interval: str,
        start_ms: int | None = Query(default=None, alias="startTime", ge=0),
        end_ms: int | None = Query(default=None, alias="endTime", ge=0),
        limit: int = Query(default=500, ge=1, le=1500),
    ) -> Any:
        answers.check_symbol(symbol)
        return answers.klines(tape, clock.now_ms(), interval, start_ms, end_ms, limit)

    @app.get("/fapi/v1/aggTrades")
    def aggregate_trades(
        symbol: str,
        from_id: int | None = Query(default=None, alias="fromId", ge=0),
        start_ms: int | None = Query(default=None, alias="startTime", ge=0),
        end_ms: int | None = Query(default=None, alias="endTime", ge=0),
        limit: int = Query(default=500, ge=1, le=1000),
    ) -> Any:
        answers.check_symbol(symbol)
        return answers.aggregate_trades(tape, clock.now_ms(), from_id, start_ms, end_ms, limit)

    @app.get("/fapi/v1/fundingRate")
    def funding_rates(
        symbol: str,
        start_ms: int | None = Query(default=None, alias="startTime", ge=0),
        end_ms: int | None = Query(default=None, alias="endTime", ge=0),
        limit: int = Query(default=100, ge=1, le=1000),
    ) -> Any:
        answers.check_symbol(symbol)
        return answers.funding_rates(tape, clock.now_ms(), start_ms, end_ms, limit)

    @app.get("/fapi/v1/premiumIndex")
    def premium_index(symbol: str) -> Any:
        answers.check_symbol(symbol)
        return answers.premium_index(tape, clock.now_ms())

    @app.get("/fapi/v1/openInterest")
    def open_interest(symbol: str) -> Any:
        answers.check_symbol(symbol)
        return answers.open_interest(tape, clock.now_ms())

    @app.get("/fapi/v1/ticker/bookTicker")
    def book_ticker(symbol: str) -> Any:
        answers.check_symbol(symbol)
        return answers.book_ticker(tape, clock.now_ms())

    @app.get("/fapi/v1/ticker/price")
    @app.get("/fapi/v2/ticker/price")
    def ticker_price(symbol: str) -> Any:
        answers.check_symbol(symbol)
        return answers.ticker_price(tape, clock.now_ms())


def _add_streams(app: FastAPI, tape: MarketTape, clock: MarketClock) -> None:
    @app.websocket("/{category}/stream")
    async def combined(socket: WebSocket, category: Literal["public", "market"], streams: str = "") -> None:
        await serve_stream(socket, tape, clock, Subscription(category, streams.split("/"), is_combined=True))

    @app.websocket("/{category}/ws/{streams:path}")
    async def single(socket: WebSocket, category: Literal["public", "market"], streams: str) -> None:
        await serve_stream(socket, tape, clock, Subscription(category, streams.split("/"), is_combined=False))
