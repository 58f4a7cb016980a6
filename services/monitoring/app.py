"""The page's server: one feed thread, one probe thread, FastAPI in front. It decides nothing and stores nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import orjson
import structlog
import uvicorn

from libs.bus.api import Bus, BusError, BusLost, TopicPartition
from libs.clock import SYSTEM_CLOCK, SYSTEM_ENTROPY, Clock, Entropy
from libs.domain.control import ALL_ACCOUNTS
from libs.runtime.errors import EXIT_CHECK_FAILED, EXIT_OK
from libs.runtime.health import HealthServer, ServiceHealth
from libs.runtime.listening import listen_on
from libs.runtime.metrics import ServiceMetrics, announce
from services.monitoring.access import AccessControl
from services.monitoring.control import ControlPublisher
from services.monitoring.core import SERVICE, AlertLimits, AlertRules
from services.monitoring.dashboard import Cursor, Dashboard
from services.monitoring.feed import BusFeed, log_alerts
from services.monitoring.model_drift import DriftRow, ModelDriftCollector
from services.monitoring.probes import ServiceProbe
from services.monitoring.routes import PageParts, build_asgi
from services.monitoring.settings import MonitoringSettings

_RETRY_AFTER_S = 1.0
_PING_EVERY_S = 0.5
_NOT_OPENED = "the bus was not opened yet"


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
        metrics_host: str = "127.0.0.1",
        metrics_port: int = 0,
        logger: structlog.stdlib.BoundLogger | None = None,
        should_stop: Callable[[], bool] = lambda: False,
        clock: Clock = SYSTEM_CLOCK,
        entropy: Entropy = SYSTEM_ENTROPY,
    ) -> None:
        self._clock = clock
        self._should_stop = should_stop
        self._open_bus = open_bus
        self._settings = settings
        self._run_dir = run_dir
        self._metrics_host = metrics_host
        self._metrics_port = metrics_port
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
            started_ns=clock.now_ns(),
        )
        self._metrics = ServiceMetrics(SERVICE, [ModelDriftCollector(self._model_drift)])
        self._health = ServiceHealth(SERVICE, run_dir, self._metrics, clock)
        # The store is not asked: the page without it still halts.
        self._health.watch("bus", self._check_bus)
        self._bus_error: BusError | None = BusError(_NOT_OPENED)
        self._lost_bus: BusLost | None = None
        # What the feed reads, for as long as it does; asked from another thread, for a read may wait half a minute.
        self._read_bus: Bus | None = None
        self._read_bus_lock = threading.Lock()
        self._positions: dict[TopicPartition, int] = {}
        self._publisher = ControlPublisher(self._open, self._logger, clock=clock, entropy=entropy)
        self._publisher_thread = ThreadPoolExecutor(1, thread_name_prefix="control")
        self._access = AccessControl(settings, self._logger, clock_s=clock.monotonic_s, entropy=entropy)
        self._has_failed = False
        self.url: str | None = None
        self.asgi = build_asgi(
            PageParts(
                settings=settings,
                access=self._access,
                publisher=self._publisher,
                publisher_thread=self._publisher_thread,
                metrics=self._metrics,
                logger=self._logger,
                changes=self._changes,
                known_accounts=self._known_accounts,
                health=self._health,
                is_stopping=self._is_closing,
                clock=clock,
            )
        )

    def _session(self) -> dict[str, Any]:
        settings = self._settings
        return {
            "market": settings.session_market,
            "is_sample": settings.session_is_sample,
            "mode": settings.session_mode,
            "seed": settings.session_seed,
            "speed": settings.session_speed,
            "instrument": settings.default_instrument,
            "account": settings.default_account,
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
            self.asgi,
            log_config=None,
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=3,
            # Unless a proxy is named, nobody tells us where a request came from.
            proxy_headers=bool(self._settings.trusted_proxies),
            forwarded_allow_ips=list(self._settings.trusted_proxies),
        )
        self._server = _Server(config, self._health.beat)
        # Metrics and health have a port of their own, as in every service: who scrapes them signs in nowhere.
        health = HealthServer(self._health, self._metrics_host, self._metrics_port)
        for thread in threads:
            thread.start()
        if self._run_dir is not None:
            announce(self._run_dir, SERVICE, metrics_port=health.port, state="running", url=self.url)
        self._health.state = "running"
        self._logger.info("page", url=self.url)
        problem = self._access.check_users()
        if problem:
            self._logger.warning("nobody can sign in", reason=problem)
        try:
            if not self._stopping.is_set():
                self._server.run(sockets=[bound])
        finally:
            self._stopping.set()
            bound.close()
            health.close()
            for thread in threads:
                thread.join()
            self._publisher_thread.submit(self._publisher.flush).result()
            self._publisher_thread.submit(self._publisher.close).result()
            self._publisher_thread.shutdown()
            if self._run_dir is not None:
                announce(self._run_dir, SERVICE, metrics_port=health.port, state="stopped", url=self.url)
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

    def _is_closing(self) -> bool:
        return self._stopping.is_set() or (self._server is not None and self._server.should_exit)

    def _known_accounts(self) -> frozenset[str]:
        with self._lock:
            return self._dashboard.known_accounts | {self._settings.default_account, ALL_ACCOUNTS}

    def _model_drift(self) -> list[DriftRow]:
        with self._lock:
            return self._dashboard.model_drift()

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
        with self._read_bus_lock:
            if self._read_bus is not None:
                self._read_bus.ping()

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
        feed = BusFeed(
            bus,
            self._dashboard,
            self._alerts,
            self._lock,
            self._settings,
            self._metrics,
            self._logger,
            clock=self._clock,
            positions=self._positions,
        )
        self._share(bus)
        try:
            asked_at = float("-inf")
            while not self._is_stopping():
                # A reader that waits for records does not notice that nobody would bring any.
                if self._clock.monotonic_s() - asked_at >= _PING_EVERY_S:
                    bus.ping()
                    asked_at = self._clock.monotonic_s()
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
            self._share(None)
            feed.close()

    def _share(self, bus: Bus | None) -> None:
        with self._read_bus_lock:
            self._read_bus = bus

    def _set_feed(self, *, is_connected: bool, message: str) -> None:
        with self._lock:
            self._dashboard.set_feed(is_connected=is_connected and not message, message=message)

    def _run_probe(self) -> None:
        probe = ServiceProbe(self._run_dir, self._settings.service_urls, self._clock)
        try:
            while not self._stopping.wait(self._settings.probe_interval_ms / 1000) and not self._is_stopping():
                rows, conditions = probe.look()
                now_ns, bus_problem = self._clock.now_ns(), self._health.reason_of("bus")
                with self._lock:
                    self._dashboard.set_services(rows)
                    self._dashboard.set_market_feeds(probe.feeds())
                    self._alerts.saw_services(conditions, now_ns)
                    self._alerts.saw_bus("" if bus_problem == _NOT_OPENED else bus_problem, now_ns)
                    changes = self._alerts.evaluate_bus(now_ns)
                    for change in changes:
                        # Shown at once: the topic that the others come by is what is missing.
                        self._dashboard.handle(change)
                log_alerts(self._logger, changes)
                self._publisher_thread.submit(self._publisher.flush)
        finally:
            probe.close()

    def _changes(self, cursor: Cursor) -> bytes:
        with self._lock:
            changes = self._dashboard.changes(cursor)
            return orjson.dumps(changes, option=orjson.OPT_SERIALIZE_NUMPY) if changes else b""


class _Server(uvicorn.Server):
    """Beats as long as the event loop turns."""

    def __init__(self, config: uvicorn.Config, beat: Callable[[], None]) -> None:
        super().__init__(config)
        self._beat = beat

    async def on_tick(self, counter: int) -> bool:
        self._beat()
        return await super().on_tick(counter)
