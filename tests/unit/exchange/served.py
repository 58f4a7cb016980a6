"""The simulated exchange on a port of this process, and a way to it that can be cut."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import uvicorn
from binance.client import Client

from libs.runtime.listening import listen_on
from libs.venues.binance_client import make_client
from services.exchange.app import build_app
from services.exchange.clock import MarketClock
from services.exchange.core.account import AccountTerms
from services.exchange.market_tape import MarketTape
from services.exchange.request_auth import RequestAuth
from services.exchange.session import TradingSession
from tests.kit.waiting import eventually

API_KEY = "perpflow"
API_SECRET = "perpflow-secret"


class Wall:
    """A wall clock that moves only when set."""

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


@cache
def a_tape(seed: int) -> MarketTape:
    """Return the tape of a seed, the same for all: it is a pure function of the seed, and takes long to begin."""
    return MarketTape(seed)


@contextmanager
def an_exchange(seed: int = 7, speed: float = 1.0, *, is_running: bool = False, port: int = 0) -> Iterator[Served]:
    """Serve an exchange whose market time moves with the wall clock given, or by itself if it is running."""
    wall = Wall()
    clock = MarketClock(speed, time.time() - 30 / speed) if is_running else MarketClock(speed, wall.seconds, wall)
    tape = a_tape(seed)
    with TemporaryDirectory() as run_dir, listen_on("127.0.0.1", port, "PORT") as bound:
        session = TradingSession(tape, clock, AccountTerms(seed=seed), Path(run_dir))
        app = build_app(tape, clock, session, RequestAuth(API_KEY, API_SECRET, clock))
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="on", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]}, daemon=True)
        thread.start()
        eventually(lambda: server.started)
        with httpx.Client(base_url=f"http://{address}") as client:
            yield Served(address, client, wall)
        server.should_exit = True
        thread.join()


@contextmanager
def a_client(url: str) -> Iterator[Client]:
    """Yield a python-binance client of an exchange, its time set by the exchange's."""
    client = make_client(API_KEY, API_SECRET)
    client.FUTURES_URL, client.API_URL = f"{url}/fapi", f"{url}/api"
    try:
        client.timestamp_offset = client.futures_time()["serverTime"] - int(time.time() * 1000)
        yield client
    finally:
        client.close_connection()


class Through(httpx.BaseTransport):
    """Carries requests onwards; `failures` counts down requests that find nobody listening."""

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
