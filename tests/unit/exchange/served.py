"""The simulated exchange on a port of this process, and a way to it that can be cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx
import uvicorn

from services.exchange.app import build_app
from services.exchange.clock import MarketClock
from services.exchange.server import bind
from services.exchange.tape import Tape
from tests.kit.waiting import eventually


class Wall:
    """A wall clock that stands still until told."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Served:
    """Where the exchange answers, a client of it, and the wall clock that paces it."""

    address: str
    client: httpx.Client
    wall: Wall

    @property
    def url(self) -> str:
        """Where REST answers."""
        return f"http://{self.address}"

    @property
    def stream_url(self) -> str:
        """Where websockets answer."""
        return f"ws://{self.address}"


@contextmanager
def an_exchange(seed: int = 7, speed: float = 1.0, *, is_running: bool = False, port: int = 0) -> Iterator[Served]:
    """Serve an exchange whose market time moves with the wall clock given, or by itself if it is running."""
    wall = Wall()
    clock = MarketClock(speed, time.time() - 30 / speed) if is_running else MarketClock(speed, wall.seconds, wall)
    app = build_app(Tape(seed), clock)
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    with bind("127.0.0.1", port) as bound:
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        eventually(lambda: server.started)
        with httpx.Client(base_url=f"http://{address}") as client:
            yield Served(address, client, wall)
        server.should_exit = True
        thread.join()


class Through(httpx.BaseTransport):
    """Carries requests onwards; `failures` counts down requests that find nobody there."""

    def __init__(self) -> None:
        self._onwards = httpx.HTTPTransport()
        self.failures = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        if self.failures:
            self.failures -= 1
            raise httpx.ConnectError("connection refused", request=request)
        return self._onwards.handle_request(request)

    def close(self) -> None:
        """Close the connections."""
        self._onwards.close()
