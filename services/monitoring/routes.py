"""What the page's server answers: every path is closed to strangers unless it is listed as open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import orjson
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, generate_latest
from starlette.staticfiles import StaticFiles

from libs.access.users import Role
from libs.charts import LIGHTWEIGHT_CHARTS
from libs.clock import Clock
from libs.domain.control import AuditOutcome
from libs.runtime.health import ServiceHealth
from libs.runtime.metrics import ServiceMetrics
from services.monitoring.access import AccessControl, Identity, SignInRequest, SignOutRequest, cookie_name
from services.monitoring.control import ControlPublisher
from services.monitoring.dashboard import Cursor
from services.monitoring.requests import (
    ControlRequest,
    Refusal,
    check_host,
    check_is_own_page,
    read_body,
    read_control_request,
    read_limited,
)
from services.monitoring.settings import MonitoringSettings
from services.monitoring.streams import STREAM_LIMIT, EventStream, StreamSlots

STATIC_DIR = Path(__file__).parent / "static"
OPEN_PATHS = frozenset({"/login", "/live", "/ready", "/health", "/favicon.ico", "/api/sign-in"})
OPEN_PREFIX = "/static/"
_BEAT_EVERY_S = 4.0
_SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_TLS_HEADERS = {"Strict-Transport-Security": "max-age=31536000"}

AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class PageParts:
    """What the routes stand on. `changes` gives a reader what is new; `known_accounts` may be commanded."""

    settings: MonitoringSettings
    access: AccessControl
    publisher: ControlPublisher
    publisher_thread: ThreadPoolExecutor
    metrics: ServiceMetrics
    logger: structlog.stdlib.BoundLogger
    changes: Callable[[Cursor], bytes]
    known_accounts: Callable[[], frozenset[str]]
    health: ServiceHealth
    is_stopping: Callable[[], bool]
    clock: Clock


def build_asgi(parts: PageParts) -> FastAPI:
    """Build the application."""
    return _Routes(parts).build()


class _Routes:
    def __init__(self, parts: PageParts) -> None:
        self._parts = parts
        registry = parts.metrics.registry
        streams = Gauge("perpflow_page_streams", "Pages connected", registry=registry)
        self._slots = StreamSlots(STREAM_LIMIT, streams.set)
        self._commands = Counter("perpflow_page_commands", "Commands given on the page", ("action",), registry=registry)
        self._sign_ins = Counter("perpflow_page_sign_ins", "Attempts to sign in", ("outcome",), registry=registry)
        for outcome in AuditOutcome:
            self._sign_ins.labels(outcome.name.lower())
        self._hash_thread = ThreadPoolExecutor(1, thread_name_prefix="password")

    def build(self) -> FastAPI:
        """Return the application with all routes."""
        app = FastAPI(title="perpflow monitoring", docs_url=None, redoc_url=None, openapi_url=None)
        app.middleware("http")(self._guard)
        app.add_exception_handler(Refusal, _answer_refusal)
        for path, name in (("/", "index.html"), ("/login", "login.html")):
            app.add_api_route(path, _file(STATIC_DIR / name), methods=["GET"])
        app.add_api_route("/favicon.ico", _file(STATIC_DIR / "favicon.svg", "image/svg+xml"), methods=["GET"])
        app.add_api_route("/live", self._live, methods=["GET"])
        for path in ("/ready", "/health"):
            app.add_api_route(path, self._ready, methods=["GET"])
        app.add_api_route("/metrics", self._metrics, methods=["GET"])
        app.add_api_route("/api/me", self._me, methods=["GET"])
        app.add_api_route("/api/state", self._state, methods=["GET"])
        app.add_api_route("/api/stream", self._stream, methods=["GET"])
        app.add_api_route("/api/control", self._control, methods=["POST"])
        app.add_api_route("/api/sign-in", self._sign_in, methods=["POST"])
        app.add_api_route("/api/sign-out", self._sign_out, methods=["POST"])
        app.add_api_route(
            f"/static/vendor/{LIGHTWEIGHT_CHARTS.name}", _file(LIGHTWEIGHT_CHARTS, "text/javascript"), methods=["GET"]
        )
        app.mount("/static", StaticFiles(directory=STATIC_DIR))
        return app

    async def _guard(self, request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        settings = self._parts.settings
        try:
            check_host(request.headers.get("host"), settings)
            if request.method not in ("GET", "HEAD"):
                check_is_own_page(request.headers)
            path = request.url.path
            if path not in OPEN_PATHS and not path.startswith(OPEN_PREFIX):
                request.state.identity = self._identify(request)
            response = await call_next(request)
        except Refusal as refusal:
            if refusal.status == 401 and request.url.path == "/":
                response = RedirectResponse("/login", 303)
            else:
                response = _refuse(refusal)
        for name, value in _SECURITY_HEADERS.items():
            response.headers.setdefault(name, value)
        if settings.is_behind_tls:
            response.headers.update(_TLS_HEADERS)
        return response

    def _identify(self, request: Request) -> Identity:
        cookie = request.cookies.get(self._cookie_name(request))
        return self._parts.access.identify(cookie, request.headers.get("authorization"), _address(request))

    def _cookie_name(self, request: Request) -> str:
        server = request.scope.get("server")
        return cookie_name(server[1] if server else 0, is_behind_tls=self._parts.settings.is_behind_tls)

    async def _ready(self) -> Response:
        return self._say(*self._parts.health.readiness())

    async def _live(self) -> Response:
        return self._say(*self._parts.health.liveness())

    def _say(self, is_good: bool, facts: dict[str, Any]) -> Response:
        if self._parts.access.is_required:
            # Nobody signs in to ask; what is wrong in detail is on the page and on the port of the metrics.
            facts = {name: facts[name] for name in ("service", "state")}
        return _json(facts, 200 if is_good else 503)

    async def _metrics(self) -> Response:
        return Response(generate_latest(self._parts.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def _me(self, request: Request) -> Response:
        identity = _identity(request)
        return _json(
            {
                "user": identity.name,
                "role": identity.role.label,
                "may_command": identity.role >= Role.OPERATOR,
                "is_signed_in": identity.session is not None,
            }
        )

    async def _state(self) -> Response:
        return Response(self._parts.changes(Cursor()), media_type="application/json")

    async def _stream(self, request: Request) -> Response:
        identity = _identity(request)
        full = _refuse(Refusal(503, f"{self._slots.limit} pages are connected already; close one"))
        return EventStream(self._slots, lambda: self._events(identity), full)

    async def _events(self, identity: Identity) -> AsyncIterator[bytes]:
        """Yield the whole state, then what changes; a beat when nothing does; an end when the session ends."""
        parts = self._parts
        cursor = Cursor()
        is_whole = True
        beat_at = checked_at = parts.clock.monotonic_s()
        yield b"retry: 1000\n\n"
        while not parts.is_stopping():
            now = parts.clock.monotonic_s()
            if now - checked_at >= 1.0:
                checked_at = now
                if not parts.access.is_still_valid(identity):
                    yield b"event: signed_out\ndata: {}\n\n"
                    return
            changes = parts.changes(cursor)
            if changes:
                head = b'{"is_whole":true' if is_whole else b'{"is_whole":false'
                yield b"event: state\ndata: " + head + b',"sections":' + changes + b"}\n\n"
                is_whole = False
                beat_at = now
            elif now - beat_at >= _BEAT_EVERY_S:
                yield b"event: beat\ndata: {}\n\n"
                beat_at = now
            await asyncio.sleep(parts.settings.push_interval_ms / 1000)

    async def _control(self, request: Request) -> Response:
        identity = _identity(request)
        wanted = read_control_request(await read_limited(request))
        try:
            self._check_may_command(identity, wanted)
        except Refusal as refusal:
            await self._record(
                AuditOutcome.REFUSED, identity, wanted.action, target=wanted.account, detail=refusal.reason
            )
            raise
        sent = await self._publish(lambda: self._parts.publisher.send(wanted, identity))
        self._commands.labels(wanted.action).inc()
        return _json({"event_id": sent.event_id, "event_time": sent.event_time}, 202)

    def _check_may_command(self, identity: Identity, wanted: ControlRequest) -> None:
        if identity.role < Role.OPERATOR:
            raise Refusal(403, f"{identity.name} may read but not command; an operator may")
        known = self._parts.known_accounts()
        if wanted.account not in known:
            raise Refusal(404, f"account {wanted.account!r} is not known here; known: {', '.join(sorted(known))}")

    async def _sign_in(self, request: Request) -> Response:
        access = self._parts.access
        wanted = read_body(SignInRequest, await read_limited(request))
        if not access.is_required:
            raise Refusal(409, "nobody signs in here: the page is open to this machine alone, on paper")
        problem = access.check_users()
        if problem:
            raise Refusal(503, problem)
        address = _address(request)
        try:
            identity, token = await access.sign_in(wanted, address, self._run_hash)
        except Refusal as refusal:
            self._sign_ins.labels("refused").inc()
            reason = refusal.reason
            if refusal.status == 401:
                # Attempts over the limit are not recorded one by one: who makes them must not fill the log.
                await self._publish(
                    lambda: self._parts.publisher.record(
                        AuditOutcome.REFUSED, wanted.user, "", "sign_in", address, detail=reason
                    )
                )
            else:
                self._parts.logger.warning("sign-in refused", source_address=address, reason=reason)
            raise
        self._sign_ins.labels("done").inc()
        await self._record(AuditOutcome.DONE, identity, "sign_in")
        response = _json({"user": identity.name, "role": identity.role.label})
        settings = self._parts.settings
        response.set_cookie(
            self._cookie_name(request),
            token,
            max_age=int(settings.session_hours * 3600),
            path="/",
            secure=settings.is_behind_tls,
            httponly=True,
            samesite="strict",
        )
        return response

    async def _sign_out(self, request: Request) -> Response:
        identity = _identity(request)
        wanted = read_body(SignOutRequest, await read_limited(request))
        ended = self._parts.access.sign_out(identity, wanted.user)
        detail = f"sessions ended: {ended}"
        await self._record(AuditOutcome.DONE, identity, "sign_out", target=wanted.user, detail=detail)
        response = _json({"ended": ended})
        if not wanted.user or wanted.user == identity.name:
            response.delete_cookie(self._cookie_name(request), path="/")
        return response

    async def _record(
        self, outcome: AuditOutcome, identity: Identity, action: str, *, target: str = "", detail: str = ""
    ) -> None:
        await self._publish(
            lambda: self._parts.publisher.record(
                outcome,
                identity.name,
                identity.role.label,
                action,
                identity.source_address,
                target=target,
                detail=detail,
            )
        )

    async def _publish(self, work: Callable[[], AnswerT]) -> AnswerT:
        return await asyncio.get_running_loop().run_in_executor(self._parts.publisher_thread, work)

    async def _run_hash(self, work: Callable[[], bool]) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._hash_thread, work)


def _file(path: Path, media_type: str | None = None) -> Callable[[], Awaitable[Response]]:
    async def serve() -> Response:
        return FileResponse(path, media_type=media_type, headers={"Cache-Control": "no-cache"})

    return serve


def _identity(request: Request) -> Identity:
    identity: Identity = request.state.identity
    return identity


def _address(request: Request) -> str:
    return request.client.host if request.client is not None else "unknown"


async def _answer_refusal(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    return _refuse(error)


def _refuse(refusal: Refusal) -> Response:
    response = _json({"error": refusal.reason}, refusal.status)
    if refusal.retry_after_s is not None:
        response.headers["Retry-After"] = str(refusal.retry_after_s)
    if refusal.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")
