"""An exchange that replays recorded frames over websockets and REST, and misbehaves as it is told.

It speaks Binance's protocol for one symbol. Frames are published by the test, in their order; what a connection does
with them, and how a question is answered, a `Mishap` may change. The clock is the market's own.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import orjson
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from libs.clock import SYSTEM_CLOCK
from tests.kit.captures import simulated_capture
from tests.kit.streams import a_stream_server

MS = 1_000_000
SEED = 7
LENGTH_MS = 75_000
RULES = {
    "symbols": [
        {
            "symbol": "BTCUSDT",
            "contractType": "PERPETUAL",
            "quoteAsset": "USDT",
            "filters": [
                {"filterType": "PRICE_FILTER", "tickSize": "0.10"},
                {"filterType": "LOT_SIZE", "minQty": "0.001", "stepSize": "0.001"},
                {"filterType": "MIN_NOTIONAL", "notional": "100"},
            ],
        }
    ]
}


@dataclass(frozen=True, slots=True)
class MarketFrame:
    """A recorded frame: the stream that carries it, its kind, its data, when the venue sent it (ms)."""

    category: str
    kind: str
    stream: str
    data: Mapping[str, Any]
    at_ms: int

    @property
    def payload(self) -> bytes:
        """The frame as it is sent."""
        return encode_frame(self.stream, self.data)

    def changed(self, **fields: Any) -> bytes:
        """Return the frame with other fields."""
        return encode_frame(self.stream, {**self.data, **fields})


def encode_frame(stream: str, data: Mapping[str, Any]) -> bytes:
    """Return a combined-stream frame."""
    return orjson.dumps({"stream": stream, "data": data})


@cache
def recorded_frames() -> tuple[Mapping[str, Any], tuple[MarketFrame, ...]]:
    """Return the book's first snapshot and the frames of a recording of the simulated market: one minute and a bit."""
    snapshot: Mapping[str, Any] = {}
    frames: list[MarketFrame] = []
    for line in simulated_capture(SEED, 2):
        document = orjson.loads(line.split(" ", 1)[1])
        if "stream" not in document:
            snapshot = snapshot or document
            continue
        data = document["data"]
        if frames and data["E"] > frames[0].at_ms + LENGTH_MS:
            break
        category = "public" if data["e"] in ("depthUpdate", "bookTicker") else "market"
        frames.append(MarketFrame(category, data["e"], document["stream"], data, data["E"]))
    return snapshot, tuple(frames)


class Close(Exception):
    """Ends a connection: with a code, or abruptly where that is 0."""

    def __init__(self, code: int = 0) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True, slots=True)
class Sending:
    """A frame about to go out on a connection; those of a stream are numbered from 0."""

    exchange: FakeExchange
    connection: int
    frame: MarketFrame


@dataclass(frozen=True, slots=True)
class Asking:
    """A question and the answer that it usually gets."""

    exchange: FakeExchange
    request: httpx.Request
    usual: httpx.Response

    @property
    def path(self) -> str:
        """The last word of what is asked for."""
        return self.request.url.path.rpartition("/")[2]


class Mishap:
    """Nothing goes wrong; a mishap changes one of these."""

    def send(self, sending: Sending) -> Iterable[bytes]:
        """Return what goes out for a frame; raise `Close` to end the connection instead."""
        return (sending.frame.payload,)

    def answer(self, asking: Asking) -> httpx.Response:
        """Return the answer to a question; the transport's errors may be raised."""
        return asking.usual


class FakeExchange:
    """The exchange: `published` frames have happened; `asked` counts questions by path."""

    def __init__(self, mishap: Mishap) -> None:
        self.snapshot, self.frames = recorded_frames()
        self.mishap = mishap
        self.published = 0
        self.connections = {"public": 0, "market": 0}
        self._sent: dict[str, dict[int, int]] = {"public": {}, "market": {}}
        self.asked: dict[str, int] = {}
        self.memory: dict[str, int] = {}
        self.url = ""
        self._changed = threading.Condition()
        self._is_open = True

    def publish(self, count: int) -> None:
        """Let the next frames happen."""
        with self._changed:
            self.published = min(len(self.frames), self.published + count)
            self._changed.notify_all()

    @property
    def has_sent_all(self) -> bool:
        """Whether every open connection has had what has happened."""
        return all(position == self.published for sent in self._sent.values() for position in [*sent.values()])

    @property
    def next_ms(self) -> int:
        """The time of the next frame; that of the last at the end."""
        return self.frames[min(self.published, len(self.frames) - 1)].at_ms

    @property
    def now_ms(self) -> int:
        """The market's time."""
        return self.frames[max(0, self.published - 1)].at_ms

    def once(self, name: str) -> bool:
        """Tell whether a thing is asked for the first time."""
        self.memory[name] = self.memory.get(name, 0) + 1
        return self.memory[name] == 1

    @property
    def trades(self) -> list[Mapping[str, Any]]:
        """The trades that have happened."""
        return [frame.data for frame in self.frames[: self.published] if frame.kind == "aggTrade"]

    def book(self, published: int | None = None) -> Mapping[str, Any]:
        """Return the book as REST answers it."""
        sides: dict[str, dict[str, str]] = {"b": dict(self.snapshot["bids"]), "a": dict(self.snapshot["asks"])}
        last, at = self.snapshot["lastUpdateId"], self.snapshot["T"]
        for frame in self.frames[: self.published if published is None else published]:
            if frame.kind != "depthUpdate":
                continue
            last, at = frame.data["u"], frame.data["T"]
            for side, levels in sides.items():
                for price, quantity in frame.data[side]:
                    levels[price] = quantity
                    if not float(quantity):
                        del levels[price]
        bids = sorted(sides["b"].items(), key=lambda level: -float(level[0]))
        asks = sorted(sides["a"].items(), key=lambda level: float(level[0]))
        return {"lastUpdateId": last, "E": at, "T": at, "bids": bids, "asks": asks}

    # REST.

    def respond(self, request: httpx.Request) -> httpx.Response:
        """Answer a question."""
        path = request.url.path.rpartition("/")[2]
        self.asked[path] = self.asked.get(path, 0) + 1
        usual = httpx.Response(200, content=orjson.dumps(self._usual(path, request.url.params)))
        return self.mishap.answer(Asking(self, request, usual))

    def _usual(self, path: str, parameters: Mapping[str, str]) -> Any:
        match path:
            case "exchangeInfo":
                return RULES
            case "time":
                return {"serverTime": self.now_ms}
            case "depth":
                return self.book()
            case "openInterest":
                return {"symbol": "BTCUSDT", "openInterest": "1000.000", "time": self.now_ms}
            case "aggTrades":
                first = int(parameters["fromId"])
                return [trade for trade in self.trades if trade["a"] >= first][: int(parameters["limit"])]
            case "klines":
                return []
        raise AssertionError(f"nobody should ask for {path}")

    # Websockets.

    def serve_stream(self, connection: ServerConnection) -> None:
        """Send a stream's frames from now on."""
        category = "public" if connection.request and "/public/" in connection.request.path else "market"
        with self._changed:
            number, position = self.connections[category], self.published
            self._sent[category][number] = position
            self.connections[category] += 1
        try:
            while self._is_open:
                with self._changed:
                    if self.published == position:
                        self._changed.wait(0.05)
                    end = self.published
                for frame in self.frames[position:end]:
                    if frame.category == category:
                        for payload in self.mishap.send(Sending(self, number, frame)):
                            connection.send(payload, text=True)
                if end == position:
                    # Finds out that the other side has gone.
                    connection.ping()
                position = end
                self._sent[category][number] = position
        except Close as close:
            if close.code:
                connection.close(close.code)
            else:
                connection.socket.close()
        except ConnectionClosed:
            return
        finally:
            del self._sent[category][number]

    def stop(self) -> None:
        """Let the connections end."""
        with self._changed:
            self._is_open = False
            self._changed.notify_all()


class ExchangeClock:
    """Wall time is the market's; the rest is the machine's."""

    def __init__(self, exchange: FakeExchange) -> None:
        self._exchange = exchange

    def now_ns(self) -> int:
        """Return the market's time and 5 ms."""
        return (self._exchange.now_ms + 5) * MS

    def monotonic_s(self) -> float:
        """Return the machine's."""
        return SYSTEM_CLOCK.monotonic_s()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        SYSTEM_CLOCK.sleep(seconds)


@contextmanager
def a_fake_exchange(mishap: Mishap) -> Iterator[FakeExchange]:
    """Serve an exchange on a port of its own."""
    exchange = FakeExchange(mishap)
    with a_stream_server(exchange.serve_stream, exchange.stop) as exchange.url:
        yield exchange


def pause(seconds: float) -> None:
    """Answer late."""
    SYSTEM_CLOCK.sleep(seconds)
