"""Bybit is followed over its websocket: subscribed to, pinged, its book asked for anew, missed trades taken by id."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection

from libs.clock import SYSTEM_CLOCK
from libs.domain.events import DeadInput
from libs.domain.market import DepthSnapshot, Gap, GapKind, GapState, MarketEvent, Trade
from libs.venues.bybit import BybitMarketData
from libs.venues.bybit_frames import BybitDecoder
from libs.venues.rest import RestClient
from services.ingestion.live import LiveSource
from tests.kit.streams import a_stream_server
from tests.kit.waiting import eventually

pytestmark = pytest.mark.slow
BTC = "BTCUSDT.BYBIT"
RULES = {
    "symbol": "BTCUSDT",
    "contractType": "LinearPerpetual",
    "quoteCoin": "USDT",
    "priceFilter": {"tickSize": "0.10"},
    "lotSizeFilter": {"qtyStep": "0.001", "minOrderQty": "0.001", "minNotionalValue": "5"},
}


class Bybit:
    """The exchange: what it was told over its connections, and the trades that it answers with."""

    def __init__(self) -> None:
        self.operations: list[dict[str, Any]] = []
        self.outgoing: queue.Queue[bytes | None] = queue.Queue()
        self.trades: list[str] = []
        self.url = ""
        self.start_ms = SYSTEM_CLOCK.now_ns() // 1_000_000
        self._is_open = True

    def time_of(self, trade: str) -> int:
        return self.start_ms + 10 * int(trade[1:])

    def subscribed(self, word: str) -> list[Any]:
        return [operation["args"] for operation in self.operations if operation["op"] == word]

    def send_book(self, kind: str, update: int, sequence: int) -> None:
        book = {"s": "BTCUSDT", "b": [["60000.0", "1"]], "a": [["60000.1", "2"]], "u": update, "seq": sequence}
        self.send("orderbook.200.BTCUSDT", kind, book)

    def send_trade(self, trade: str) -> None:
        self.trades.append(trade)
        row = {"T": self.time_of(trade), "s": "BTCUSDT", "S": "Buy", "v": "1", "p": "60000.1", "i": trade, "BT": False}
        self.send("publicTrade.BTCUSDT", "snapshot", [row])

    def send(self, topic: str, kind: str, data: Any) -> None:
        self.outgoing.put(orjson.dumps({"topic": topic, "type": kind, "ts": self.start_ms, "data": data}))

    def serve_stream(self, connection: ServerConnection) -> None:
        try:
            while self._is_open:
                self._hear(connection)
                try:
                    payload = self.outgoing.get_nowait()
                except queue.Empty:
                    continue
                if payload is None:
                    return
                connection.send(payload, text=True)
        except ConnectionClosed:
            return

    def _hear(self, connection: ServerConnection) -> None:
        try:
            operation = orjson.loads(connection.recv(timeout=0.01))
        except TimeoutError:
            return
        self.operations.append(operation)
        connection.send(orjson.dumps({"success": True, "ret_msg": "", "op": operation["op"]}), text=True)

    def stop(self) -> None:
        self._is_open = False

    def respond(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path.rpartition("/")[2]
        terms = {"price": "60000.1", "size": "1", "side": "Buy", "isBlockTrade": False}
        answers: dict[str, Any] = {
            "time": {"timeNano": str(SYSTEM_CLOCK.now_ns())},
            "instruments-info": {"list": [RULES]},
            "kline": {"list": []},
            "recent-trade": {
                "list": [{"execId": each, "time": str(self.time_of(each)), **terms} for each in reversed(self.trades)]
            },
        }
        return httpx.Response(200, content=orjson.dumps({"retCode": 0, "retMsg": "OK", "result": answers[path]}))


@contextmanager
def a_bybit() -> Iterator[Bybit]:
    exchange = Bybit()
    with a_stream_server(exchange.serve_stream, exchange.stop) as exchange.url:
        yield exchange


def test_a_market_is_followed_through_a_broken_book_and_a_lost_connection() -> None:
    with a_bybit() as exchange:
        rest = RestClient("http://bybit.test", transport=httpx.MockTransport(exchange.respond))
        market = BybitMarketData(rest, BTC, exchange.url)
        market.streams = (replace(market.streams[0], ping_every_s=0.1),)
        source = LiveSource(market, BybitDecoder(), instrument=BTC, history_bars=10)
        out: list[MarketEvent | DeadInput] = []

        def until(is_enough: Any) -> None:
            eventually(is_enough, step=lambda: out.extend(source.read(1000, 20)), within_s=60)

        def trades() -> list[str]:
            return [event.event_id.rpartition("/")[2] for event in out if isinstance(event, Trade)]

        def gaps(kind: GapKind) -> list[GapState]:
            return [event.state for event in out if isinstance(event, Gap) and event.kind is kind]

        try:
            source.open(None)
            exchange.send_book("snapshot", 100, 9000)
            exchange.send_trade("t1")
            exchange.send_book("delta", 101, 9003)
            until(lambda: trades() == ["t1"])
            (topics,) = exchange.subscribed("subscribe")
            assert sorted(topic.partition(".")[0] for topic in topics) == [
                "allLiquidation",
                "orderbook",
                "orderbook",
                "publicTrade",
                "tickers",
            ]
            until(lambda: [operation for operation in exchange.operations if operation["op"] == "ping"])

            exchange.send_book("delta", 103, 9007)
            until(lambda: exchange.subscribed("unsubscribe") and len(exchange.subscribed("subscribe")) == 2)
            assert exchange.subscribed("unsubscribe") == [["orderbook.200.BTCUSDT"]]
            assert gaps(GapKind.BOOK) == [GapState.OPEN]
            exchange.send_book("snapshot", 1, 9010)
            until(lambda: gaps(GapKind.BOOK) == [GapState.OPEN, GapState.FILLED])
            assert len([event for event in out if isinstance(event, DepthSnapshot)]) == 2

            exchange.outgoing.put(None)
            exchange.trades += ["t2", "t3"]
            until(lambda: len(exchange.subscribed("subscribe")) == 3)
            exchange.send_trade("t4")
            until(lambda: trades() == ["t1", "t2", "t3", "t4"])
            assert gaps(GapKind.TRADES) == [GapState.FILLED]
            assert not [event for event in out if isinstance(event, DeadInput)]
        finally:
            source.close()
