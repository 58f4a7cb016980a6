"""Serves the simulated exchange on a port until asked to stop."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path

import structlog
import uvicorn

from libs.runtime.errors import EXIT_OK
from libs.runtime.health import Heartbeat, heartbeat_path
from libs.runtime.listening import listen_on
from libs.runtime.metrics import announce
from libs.runtime.stop import StopSignal
from services.exchange.app import build_app
from services.exchange.clock import open_clock
from services.exchange.core.account import AccountTerms
from services.exchange.market_tape import MarketTape
from services.exchange.request_auth import RequestAuth
from services.exchange.session import BrokenSession, TradingSession
from services.exchange.settings import ExchangeSettings

SERVICE = "exchange"


class _Server(uvicorn.Server):
    """Stops on the process's stop signal: uvicorn's own handlers would miss one that arrives before it listens."""

    def __init__(
        self, config: uvicorn.Config, stop: StopSignal, session: TradingSession, beat: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._beat = beat
        self._stop = stop
        self._session = session

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        self._beat()
        if self._session.is_broken:
            raise BrokenSession("the account stopped in the middle of something; a restart rebuilds it")
        return await super().on_tick(counter) or bool(self._stop)


def serve(
    settings: ExchangeSettings,
    run_dir: Path,
    logger: structlog.stdlib.BoundLogger,
    stop: StopSignal,
    name: str = SERVICE,
) -> int:
    """Answer requests until SIGTERM or SIGINT, also one that `stop` has caught already; return the exit code.

    Exchanges of one run folder differ in their `name`; all but the first keep what they keep in a folder of their own.
    """
    kept_in = run_dir if name == SERVICE else run_dir / name
    kept_in.mkdir(parents=True, exist_ok=True)
    bound = listen_on(settings.host, settings.port, "PERPFLOW_EXCHANGE_PORT")
    port = int(bound.getsockname()[1])
    url = f"http://{settings.host}:{port}"
    announce(run_dir, name, metrics_port=port, port=port, state="starting", url=url)
    heartbeat = Heartbeat(heartbeat_path(run_dir, name))
    tape = MarketTape(settings.seed)
    tape.frames(0, 1)
    clock = open_clock(kept_in, settings.seed, settings.speed)
    terms = AccountTerms(settings.starting_balance_usdt, settings.leverage, settings.seed)
    session = TradingSession(tape, clock, terms, kept_in)
    app = build_app(
        tape,
        clock,
        session,
        RequestAuth(settings.api_key.get_secret_value(), settings.api_secret.get_secret_value(), clock),
    )
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=2)
    # Clients may connect once it is announced; the kernel queues them until the server accepts.
    bound.listen()
    announce(run_dir, name, metrics_port=port, port=port, state="running", url=url)
    logger.info("ready", url=url, seed=settings.seed, speed=settings.speed)
    with bound:
        _Server(config, stop, session, heartbeat.beat).run(sockets=[bound])
    announce(run_dir, name, metrics_port=port, port=port, state="stopped", url=url)
    logger.info("stopped")
    return EXIT_OK
