"""Binance and Bybit as servers of played markets: websockets and REST, each in its venue's own words."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from tests.kit.played_market import MINUTE_MS, MinuteOfTrades, Played, PlayedMarket

_POLL_S = 0.05
_RECENT = 1000
Outbox = queue.SimpleQueue[bytes]


class FakeVenues:
    """The servers' state. `publish` lets time pass: whoever is connected is sent what happened until then."""

    def __init__(self, markets: Sequence[PlayedMarket]) -> None:
        self.markets = {(market.venue, market.symbol): market for market in markets}
        self.rest_url = ""
        self.stream_url = ""
        self.sent = 0
        self._outboxes: dict[tuple[str, str, str], list[Outbox]] = {}
        self._lock = threading.Lock()
        self._is_open = True

    @property
    def now_ms(self) -> int:
        """The time of the markets."""
        return min(market.now_ms for market in self.markets.values())

    @property
    def connections(self) -> int:
        """How many connections have subscribed to something."""
        with self._lock:
            return sum(map(len, self._outboxes.values()))

    @property
    def has_sent_all(self) -> bool:
        """Whether everything that happened has been sent."""
        with self._lock:
            return all(outbox.empty() for outboxes in self._outboxes.values() for outbox in outboxes)

    def publish(self, until_ms: int) -> None:
        """Let what happens before a time happen."""
        for market in self.markets.values():
            encode = _ENCODERS[market.venue]
            with self._lock:
                for played in market.play(until_ms):
                    category, payload = encode(market, played)
                    for outbox in self._outboxes.get((market.venue, market.symbol, category), ()):
                        outbox.put(payload)
                        self.sent += 1

    # Websockets.

    def serve_stream(self, connection: ServerConnection) -> None:
        """Serve a connection: Binance's say in their address what they want, Bybit's are told."""
        outbox: Outbox = queue.SimpleQueue()
        address = urlsplit(connection.request.path if connection.request else "")
        keys: list[tuple[str, str, str]] = []
        try:
            if "streams=" in address.query:
                symbol = address.query.partition("streams=")[2].partition("@")[0].upper()
                keys.append(("BINANCE", symbol, address.path.split("/")[1]))
                with self._lock:
                    self._outboxes.setdefault(keys[0], []).append(outbox)
            else:
                self._subscribe_bybit(connection, outbox, keys)
            self._send(connection, outbox, is_asked=not address.query)
        except ConnectionClosed:
            return
        finally:
            with self._lock:
                for key in keys:
                    self._outboxes[key].remove(outbox)

    def _subscribe_bybit(self, connection: ServerConnection, outbox: Outbox, keys: list[tuple[str, str, str]]) -> None:
        operation = orjson.loads(connection.recv())
        connection.send(orjson.dumps({"success": True, "ret_msg": "", "op": operation["op"]}), text=True)
        symbol = operation["args"][0].rpartition(".")[2]
        market = self.markets["BYBIT", symbol]
        keys.append(("BYBIT", symbol, "market"))
        with self._lock:
            self._outboxes.setdefault(keys[0], []).append(outbox)
            outbox.put(_bybit_book(market))

    def _send(self, connection: ServerConnection, outbox: Outbox, *, is_asked: bool) -> None:
        while self._is_open:
            try:
                connection.send(outbox.get(timeout=_POLL_S), text=True)
            except queue.Empty:
                if is_asked:
                    self._answer(connection)

    def _answer(self, connection: ServerConnection) -> None:
        try:
            operation = orjson.loads(connection.recv(timeout=0))
        except TimeoutError:
            return
        connection.send(orjson.dumps({"success": True, "ret_msg": "", "op": operation["op"]}), text=True)

    def stop(self) -> None:
        """Let the connections end."""
        self._is_open = False

    # REST.

    def respond(self, path: str, parameters: Mapping[str, str]) -> Any:
        """Answer a question."""
        word = path.rpartition("/")[2]
        if path.startswith("/v5/"):
            with self._lock:
                return {"retCode": 0, "retMsg": "OK", "result": self._answer_bybit(word, parameters)}
        with self._lock:
            return self._answer_binance(word, parameters)

    def _answer_binance(self, word: str, parameters: Mapping[str, str]) -> Any:
        if word == "time":
            return {"serverTime": self.now_ms}
        if word == "exchangeInfo":
            return {"symbols": [_binance_rules(market.symbol) for _, market in self._of("BINANCE")]}
        market = self.markets["BINANCE", parameters["symbol"]]
        match word:
            case "depth":
                at = market.now_ms
                sides = {"bids": [*market.book.bids.items()], "asks": [*market.book.asks.items()]}
                return {"lastUpdateId": market.numbers["depth"], "E": at, "T": at, **sides}
            case "openInterest":
                return {"symbol": market.symbol, "openInterest": "1000.000", "time": market.now_ms}
            case "aggTrades":
                first, limit = int(parameters["fromId"]), int(parameters["limit"])
                rows = (trade for trade in market.trades if trade.number >= first)
                return [
                    {"a": each.number, "p": each.price, "q": each.quantity, "T": each.at_ms, "m": each.is_buyer_maker}
                    for each, _ in zip(rows, range(limit), strict=False)
                ]
            case "klines":
                first_ms = int(parameters.get("startTime", 0))
                return [_binance_kline(at, of) for at, of in market.minutes.items() if at >= first_ms]
        raise AssertionError(f"nobody should ask Binance for {word}")

    def _answer_bybit(self, word: str, parameters: Mapping[str, str]) -> Any:
        if word == "time":
            return {"timeNano": str(self.now_ms * 1_000_000)}
        market = self.markets["BYBIT", parameters["symbol"]]
        match word:
            case "instruments-info":
                return {"category": "linear", "list": [_bybit_rules(market.symbol)]}
            case "kline":
                first, last = int(parameters["start"]), int(parameters["end"])
                rows = [
                    [str(at), *map(str, of.prices), str(of.volume), str(of.quote_volume)]
                    for at, of in market.minutes.items()
                    if first <= at <= last
                ]
                return {"list": rows[::-1]}
            case "recent-trade":
                newest = [*market.trades][-_RECENT:]
                return {"list": [_bybit_trade(market, each, "execId time price size side") for each in newest[::-1]]}
        raise AssertionError(f"nobody should ask Bybit for {word}")

    def _of(self, venue: str) -> Iterator[tuple[str, PlayedMarket]]:
        return ((symbol, market) for (name, symbol), market in self.markets.items() if name == venue)


def _encode_binance(market: PlayedMarket, played: Played) -> tuple[str, bytes]:
    data, at, number = played.data, played.at_ms, played.number
    name = market.symbol.lower()
    common: dict[str, Any] = {"E": at, "T": at, "s": market.symbol}
    match played.kind:
        case "depth":
            chain = {"U": number, "u": number, "pu": number - 1, "b": data["b"], "a": data["a"]}
            category, stream, fields = "public", "depth@100ms", {"e": "depthUpdate", **common, **chain}
        case "quote":
            levels = {key: data[key] for key in "bBaA"}
            category, stream, fields = "public", "bookTicker", {"e": "bookTicker", **common, "u": number, **levels}
        case "trade":
            trade = {"a": number, "f": number, "l": number, "p": data["p"], "q": data["q"], "m": data["m"]}
            category, stream, fields = "market", "aggTrade", {"e": "aggTrade", **common, **trade}
        case _:
            category, stream = "market", "markPrice@1s"
            fields = {**data, "s": market.symbol, "E": at, "T": at - at % 28_800_000 + 28_800_000}
    return category, orjson.dumps({"stream": f"{name}@{stream}", "data": fields})


def _encode_bybit(market: PlayedMarket, played: Played) -> tuple[str, bytes]:
    data, at, number = played.data, played.at_ms, played.number
    match played.kind:
        case "depth":
            book = {"s": market.symbol, "b": data["b"], "a": data["a"], "u": number, "seq": number}
            topic, kind, content = "orderbook.200", "delta", book
        case "quote":
            levels = {"b": [[data["b"], data["B"]]], "a": [[data["a"], data["A"]]]}
            topic, kind, content = "orderbook.1", "snapshot", {"s": market.symbol, **levels, "u": number, "seq": number}
        case "trade":
            row = _bybit_trade(market, market.trades[-1], "i T p v S")
            return "market", _bybit_frame(market, "publicTrade", "snapshot", at, [{**row, "T": at, "BT": False}])
        case _:
            ticker = {"symbol": market.symbol, "markPrice": data["p"], "indexPrice": data["i"]}
            return "market", _bybit_frame(market, "tickers", "snapshot", at, ticker, cs=number)
    return "market", _bybit_frame(market, topic, kind, at, content, cts=at)


def _binance_kline(at_ms: int, of: MinuteOfTrades) -> list[Any]:
    sums = [str(of.volume), at_ms + MINUTE_MS - 1, str(of.quote_volume), of.count, str(of.taker_buy_volume), "0", "0"]
    return [at_ms, *map(str, of.prices), *sums]


def _bybit_frame(market: PlayedMarket, topic: str, kind: str, at_ms: int, data: Any, **more: int) -> bytes:
    return orjson.dumps({"topic": f"{topic}.{market.symbol}", "type": kind, "ts": at_ms, "data": data, **more})


def _bybit_book(market: PlayedMarket) -> bytes:
    number, levels = market.numbers["depth"], market.book
    sides = {"b": [*levels.bids.items()], "a": [*levels.asks.items()]}
    book = {"s": market.symbol, **sides, "u": number, "seq": number}
    return _bybit_frame(market, "orderbook.200", "snapshot", market.now_ms, book, cts=market.now_ms)


def _bybit_trade(market: PlayedMarket, trade: Any, names: str) -> dict[str, Any]:
    side = "Sell" if trade.is_buyer_maker else "Buy"
    values = (f"{market.symbol}-{trade.number}", str(trade.at_ms), trade.price, trade.quantity, side)
    return {**dict(zip(names.split(), values, strict=True)), "isBlockTrade": False}


_ENCODERS: dict[str, Callable[[PlayedMarket, Played], tuple[str, bytes]]] = {
    "BINANCE": _encode_binance,
    "BYBIT": _encode_bybit,
}
_DECLARED = {"BINANCE": {"BTCUSDT": ("0.1", "0.001", "0.001", "100"), "ETHUSDT": ("0.01", "0.001", "0.001", "20")}}
_DECLARED["BYBIT"] = {
    "BTCUSDT": ("0.1", "0.001", "0.001", "5"),
    "ETHUSDT": ("0.01", "0.01", "0.01", "5"),
    "XRPUSDT": ("0.0001", "0.1", "0.1", "5"),
}
_OTHERS = ("0.1", "0.001", "0.001", "5")


def _binance_rules(symbol: str) -> Mapping[str, Any]:
    tick, step, least, notional = _DECLARED["BINANCE"].get(symbol, _OTHERS)
    filters = [
        {"filterType": "PRICE_FILTER", "tickSize": tick},
        {"filterType": "LOT_SIZE", "minQty": least, "stepSize": step},
        {"filterType": "MIN_NOTIONAL", "notional": notional},
    ]
    return {"symbol": symbol, "contractType": "PERPETUAL", "quoteAsset": "USDT", "filters": filters}


def _bybit_rules(symbol: str) -> Mapping[str, Any]:
    tick, step, least, notional = _DECLARED["BYBIT"].get(symbol, _OTHERS)
    lots = {"qtyStep": step, "minOrderQty": least, "minNotionalValue": notional}
    return {
        "symbol": symbol,
        "contractType": "LinearPerpetual",
        "quoteCoin": "USDT",
        "priceFilter": {"tickSize": tick},
        "lotSizeFilter": lots,
    }


@contextmanager
def serve_venues(markets: Sequence[PlayedMarket]) -> Iterator[FakeVenues]:
    """Serve both venues on ports of their own."""
    venues = FakeVenues(markets)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            address = urlsplit(self.path)
            body = orjson.dumps(venues.respond(address.path, dict(parse_qsl(address.query))))
            try:
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except ConnectionError:
                # Who asked did not wait so long.
                self.close_connection = True

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 (the standard library's name)
            """Nobody reads it."""

    rest = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    rest.daemon_threads = True
    with rest, serve(venues.serve_stream, "127.0.0.1", 0, compression=None, close_timeout=0.2) as streams:
        threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in (rest, streams)]
        for thread in threads:
            thread.start()
        venues.rest_url = f"http://127.0.0.1:{rest.server_address[1]}"
        venues.stream_url = "ws://{}:{}".format(*streams.socket.getsockname()[:2])
        try:
            yield venues
        finally:
            venues.stop()
            rest.shutdown()
            streams.shutdown()
            for thread in threads:
                thread.join()
