"""The page's server: one feed thread, one probe thread, FastAPI in front. It decides nothing and stores nothing."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import structlog
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, Counter, Gauge, generate_latest
from starlette.staticfiles import StaticFiles

from libs.bus.api import Bus, BusError, BusLost
from libs.runtime.errors import EXIT_CHECK_FAILED, EXIT_OK
from libs.runtime.health import ServiceHealth
from libs.runtime.listening import listen_on
from libs.runtime.metrics import ServiceMetrics, announce
from services.monitoring import control
from services.monitoring.core import SERVICE, AlertLimits, AlertRules
from services.monitoring.dashboard import Cursor, Dashboard
from services.monitoring.feed import BusFeed
from services.monitoring.probes import ServiceProbe
from services.monitoring.settings import MonitoringSettings

STATIC_DIR = Path(__file__).parent / "static"
STREAM_LIMIT = 32
_BEAT_EVERY_S = 4.0
_RETRY_AFTER_S = 1.0
_PING_EVERY_S = 0.5
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


class MonitoringApp:
    """The dashboard of one session. `serve` blocks; `stop` may be called from any thread.

    `open_bus` is called once in each thread that needs the bus. `should_stop` is asked all the while: a signal that
    came before the server listened must end the process too. `url` is None until the port is bound.
    """

    def __init__(
        self,
        open_bus: Callable[[], Bus],
        settings: MonitoringSettings,
        *,
        run_dir: Path | None = None,
        logger: structlog.stdlib.BoundLogger | None = None,
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:
        self._should_stop = should_stop
        self._open_bus = open_bus
        self._settings = settings
        self._run_dir = run_dir
        self._logger: structlog.stdlib.BoundLogger = logger or structlog.get_logger().bind(service=SERVICE)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._server: uvicorn.Server | None = None
        self._dashboard = Dashboard(self._session())
        self._alerts = AlertRules(
            AlertLimits(
                settings.stale_market_after_ms,
                settings.dead_letters_clear_after_ms,
                settings.lag_limit_records,
                settings.lag_for_ms,
                settings.down_for_ms,
            ),
            started_ns=time.time_ns(),
        )
        self._metrics = ServiceMetrics(SERVICE)
        self._health = ServiceHealth(SERVICE, run_dir, self._metrics)
        self._health.watch("bus", self._check_bus)
        self._streams = Gauge("perpflow_page_streams", "Pages connected", registry=self._metrics.registry)
        self._commands = Counter(
            "perpflow_page_commands", "Commands given on the page", ("action",), registry=self._metrics.registry
        )
        self._desk = control.ControlDesk(self._open)
        self._desk_thread = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._bus_error: BusError | None = BusError("the bus was not opened yet")
        self._lost_bus: BusLost | None = None
        self._has_failed = False
        self._stream_count = 0
        self.url: str | None = None
        self.asgi = self._routes()

    def _session(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "market": settings.session_market,
            "mode": settings.session_mode,
            "seed": settings.session_seed,
            "speed": settings.session_speed,
            "instrument": settings.default_instrument,
            "account": settings.default_account,
            "needs_token": bool(settings.token.get_secret_value()),
        }

    def serve(self) -> int:
        """Bind the port, read the bus, answer until asked to stop; return the exit code.

        Raises `DependencyUnavailable` on a busy port.
        """
        bound = listen_on(self._settings.host, self._settings.port, "PERPFLOW_MONITORING_PORT")
        port = int(bound.getsockname()[1])
        host = f"[{self._settings.host}]" if ":" in self._settings.host else self._settings.host
        self.url = f"http://{host}:{port}"
        threads = [
            threading.Thread(target=self._guard, args=(body,), name=name, daemon=True)
            for name, body in (("feed", self._run_feed), ("probe", self._run_probe))
        ]
        config = uvicorn.Config(
            self.asgi, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=3
        )
        self._server = _Server(config, self._health.beat)
        for thread in threads:
            thread.start()
        if self._run_dir is not None:
            announce(self._run_dir, SERVICE, metrics_port=port, state="running", url=self.url)
        self._health.state = "running"
        self._logger.info("page", url=self.url)
        try:
            if not self._stopping.is_set():
                self._server.run(sockets=[bound])
        finally:
            self._stopping.set()
            bound.close()
            for thread in threads:
                thread.join()
            self._desk_thread.submit(self._desk.close).result()
            self._desk_thread.shutdown()
            if self._run_dir is not None:
                announce(self._run_dir, SERVICE, metrics_port=port, state="stopped", url=self.url)
        return EXIT_CHECK_FAILED if self._has_failed else EXIT_OK

    @property
    def is_serving(self) -> bool:
        """Whether requests are answered."""
        return self._server is not None and self._server.started

    def stop(self) -> None:
        """Ask `serve` to return."""
        self._stopping.set()
        if self._server is not None:
            self._server.should_exit = True

    def _is_stopping(self) -> bool:
        if self._should_stop():
            self.stop()
        return self._stopping.is_set()

    def _guard(self, body: Callable[[], None]) -> None:
        """Run a thread's body; whatever it did not expect ends the process, so that a dead page never looks alive."""
        try:
            body()
        except Exception:
            self._logger.exception("unexpected error; the page stops")
            self._has_failed = True
            self.stop()

    def _open(self) -> Bus:
        """Open the bus, unless the one that was open is lost: in its place there would be an empty one."""
        if self._lost_bus is not None:
            raise self._lost_bus
        return self._open_bus()

    def _check_bus(self) -> None:
        if self._bus_error is not None:
            raise self._bus_error

    def _run_feed(self) -> None:
        reason: str | None = None
        while not self._is_stopping():
            try:
                with self._open() as bus:
                    reason = None
                    self._read(bus)
            except BusError as error:
                if isinstance(error, BusLost):
                    self._lost_bus = error
                if str(error) != reason:
                    reason = str(error)
                    self._logger.error("bus unavailable, trying again", reason=reason)
                self._bus_error = error
                self._set_feed(is_connected=False, message=f"The bus cannot be read: {error}")
                self._stopping.wait(_RETRY_AFTER_S)

    def _read(self, bus: Bus) -> None:
        feed = BusFeed(bus, self._dashboard, self._alerts, self._lock, self._settings, self._metrics, self._logger)
        try:
            asked_at = float("-inf")
            while not self._is_stopping():
                # A reader that waits for records does not notice that nobody would bring any.
                if time.monotonic() - asked_at >= _PING_EVERY_S:
                    bus.ping()
                    asked_at = time.monotonic()
                feed.step(self._settings.push_interval_ms)
                self._bus_error = None
                if feed.has_topics:
                    self._set_feed(is_connected=True, message="")
                else:
                    self._set_feed(
                        is_connected=True, message="The bus has no topics yet; waiting for the first service"
                    )
                    self._stopping.wait(0.2)
        finally:
            feed.close()

    def _set_feed(self, *, is_connected: bool, message: str) -> None:
        with self._lock:
            self._dashboard.set_feed(is_connected=is_connected and not message, message=message)

    def _run_probe(self) -> None:
        probe = ServiceProbe(self._run_dir, self._settings.service_urls)
        try:
            while not self._stopping.wait(self._settings.probe_interval_ms / 1000) and not self._is_stopping():
                rows, conditions = probe.look()
                with self._lock:
                    self._dashboard.set_services(rows)
                    self._alerts.saw_services(conditions, time.time_ns())
        finally:
            probe.close()

    def _routes(self) -> FastAPI:
        app = FastAPI(title="perpflow monitoring", docs_url=None, redoc_url=None, openapi_url=None)

        @app.middleware("http")
        async def guard(request: Request, call_next: Callable[[Request], Any]) -> Response:
            try:
                control.check_host(request.headers.get("host"), self._settings)
                response: Response = await call_next(request)
            except control.Refusal as refusal:
                response = _refuse(refusal)
            for name, value in _SECURITY_HEADERS.items():
                response.headers.setdefault(name, value)
            return response

        @app.exception_handler(control.Refusal)
        async def refuse(_request: Request, refusal: control.Refusal) -> Response:
            return _refuse(refusal)

        @app.get("/")
        async def page() -> Response:
            return FileResponse(STATIC_DIR / "index.html", headers={"Cache-Control": "no-cache"})

        @app.get("/favicon.ico")
        async def favicon() -> Response:
            return FileResponse(STATIC_DIR / "favicon.svg", media_type="image/svg+xml")

        @app.get("/live")
        async def live() -> Response:
            is_live, facts = self._health.liveness()
            return _json(facts, 200 if is_live else 503)

        @app.get("/ready")
        @app.get("/health")
        async def ready() -> Response:
            # The store is not asked: the page without it still halts.
            self._health.ask()
            is_ready, facts = self._health.readiness()
            return _json(facts, 200 if is_ready else 503)

        @app.get("/metrics")
        async def metrics() -> Response:
            return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

        @app.get("/api/state")
        async def state() -> Response:
            return Response(self._changes(Cursor()), media_type="application/json")

        @app.get("/api/stream")
        async def stream() -> Response:
            if self._stream_count >= STREAM_LIMIT:
                raise control.Refusal(503, f"{STREAM_LIMIT} pages are connected already; close one")
            return StreamingResponse(self._events(), media_type="text/event-stream")

        @app.post("/api/control")
        async def command(request: Request) -> Response:
            control.check_may_command(request.headers, self._settings)
            body = bytearray()
            async for part in request.stream():
                body += part
                if len(body) > control.BODY_LIMIT_BYTES:
                    raise control.Refusal(413, f"a command has at most {control.BODY_LIMIT_BYTES} bytes")
            wanted = control.read_control_request(bytes(body))
            loop = asyncio.get_running_loop()
            sent = await loop.run_in_executor(self._desk_thread, self._desk.send, wanted)
            self._commands.labels(wanted.action).inc()
            self._logger.warning("command", action=wanted.action, account=wanted.account, event_id=sent.event_id)
            return _json({"event_id": sent.event_id, "event_time": sent.event_time}, 202)

        app.mount("/static", StaticFiles(directory=STATIC_DIR))
        return app

    def _changes(self, cursor: Cursor) -> bytes:
        with self._lock:
            changes = self._dashboard.changes(cursor)
            return orjson.dumps(changes, option=orjson.OPT_SERIALIZE_NUMPY) if changes else b""

    async def _events(self) -> AsyncIterator[bytes]:
        """Yield the whole state, then what changes, as server-sent events; a beat when nothing does."""
        self._stream_count += 1
        self._streams.set(self._stream_count)
        try:
            cursor = Cursor()
            is_whole = True
            spoke_at = time.monotonic()
            yield b"retry: 1000\n\n"
            while not self._stopping.is_set() and not (self._server and self._server.should_exit):
                changes = self._changes(cursor)
                if changes:
                    head = b'{"is_whole":true' if is_whole else b'{"is_whole":false'
                    yield b"event: state\ndata: " + head + b',"sections":' + changes + b"}\n\n"
                    is_whole = False
                    spoke_at = time.monotonic()
                elif time.monotonic() - spoke_at >= _BEAT_EVERY_S:
                    yield b"event: beat\ndata: {}\n\n"
                    spoke_at = time.monotonic()
                await asyncio.sleep(self._settings.push_interval_ms / 1000)
        finally:
            self._stream_count -= 1
            self._streams.set(self._stream_count)


class _Server(uvicorn.Server):
    """Beats as long as the event loop turns."""

    def __init__(self, config: uvicorn.Config, beat: Callable[[], None]) -> None:
        super().__init__(config)
        self._beat = beat

    async def on_tick(self, counter: int) -> bool:
        self._beat()
        return await super().on_tick(counter)


def _refuse(refusal: control.Refusal) -> Response:
    return _json({"fault": refusal.fault}, refusal.status)


def _json(value: dict[str, Any], status: int = 200) -> Response:
    return Response(orjson.dumps(value), status_code=status, media_type="application/json")
