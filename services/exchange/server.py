"""Serves the simulated exchange on a port until asked to stop."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Generator
from pathlib import Path

import structlog
import uvicorn

from libs.runtime.errors import EXIT_OK, DependencyUnavailable
from libs.runtime.metrics import announce
from libs.runtime.stop import StopSignal
from services.exchange.app import build_app
from services.exchange.clock import open_clock
from services.exchange.settings import ExchangeSettings
from services.exchange.tape import Tape

SERVICE = "exchange"


class _Server(uvicorn.Server):
    """Heeds the process's stop signal: uvicorn's own handlers would miss one that comes before it listens."""

    def __init__(self, config: uvicorn.Config, stop: StopSignal) -> None:
        super().__init__(config)
        self._stop = stop

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or bool(self._stop)


def bind(host: str, port: int) -> socket.socket:
    """Bind the port. Raises `DependencyUnavailable` naming the fault and the mend."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise DependencyUnavailable(
            f"port {port} on {host} cannot be bound ({error.strerror}); "
            "free it or set PERPFLOW_EXCHANGE_PORT to another (0 takes a free one)"
        ) from error
    return bound


def serve(settings: ExchangeSettings, run_dir: Path, logger: structlog.stdlib.BoundLogger, stop: StopSignal) -> int:
    """Answer requests until SIGTERM or SIGINT, also one that `stop` has caught already; return the exit code."""
    bound = bind(settings.host, settings.port)
    port = int(bound.getsockname()[1])
    url = f"http://{settings.host}:{port}"
    announce(run_dir, SERVICE, metrics_port=port, port=port, state="starting", url=url)
    tape = Tape(settings.seed)
    tape.frames(0, 1)
    app = build_app(tape, open_clock(run_dir, settings.seed, settings.speed))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=2)
    announce(run_dir, SERVICE, metrics_port=port, port=port, state="running", url=url)
    logger.info("ready", url=url, seed=settings.seed, speed=settings.speed)
    with bound:
        _Server(config, stop).run(sockets=[bound])
    announce(run_dir, SERVICE, metrics_port=port, port=port, state="stopped", url=url)
    logger.info("stopped")
    return EXIT_OK
