"""The simulated exchange answers as Binance does and gives any stretch of its market again."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from libs.runtime.errors import DependencyUnavailable
from libs.runtime.listening import listen_on
from services.exchange.clock import open_clock
from services.exchange.core import START_MS, SimulatedMarket
from services.exchange.core.frames import format_lines
from services.exchange.market_tape import MarketTape
from tests.unit.exchange.served import Served, Wall, an_exchange


@pytest.fixture(scope="module")
def exchange() -> Iterator[Served]:
    with an_exchange() as served:
        served.wall.seconds += 90.5
        yield served


@pytest.mark.slow
def test_frames_are_the_market_of_the_seed_in_any_order(exchange: Served) -> None:
    client = exchange.client
    market = SimulatedMarket(7)
    lines = [line for _ in range(70) for line in format_lines(market.next_minute())]
    for after in (0, 20_000, 17, 48_000, 0):
        body = client.get("/sim/v1/frames", params={"after": after, "limit": 700}).text.splitlines()
        expected = [f"{after + 1 + position} {line}" for position, line in enumerate(lines[after : after + 700])]
        assert body == expected


def test_times_and_facts(exchange: Served) -> None:
    client = exchange.client
    assert client.get("/fapi/v1/ping").json() == {}
    assert client.get("/api/v3/ping").json() == {}
    assert client.get("/fapi/v1/time").json() == {"serverTime": START_MS + 90_500}
    assert client.get("/sim/v1/market").json()["seed"] == 7
    symbol = client.get("/fapi/v1/exchangeInfo").json()["symbols"][0]
    assert symbol["symbol"] == "BTCUSDT"
    assert {item["filterType"] for item in symbol["filters"]} >= {"PRICE_FILTER", "LOT_SIZE", "MIN_NOTIONAL"}


def test_klines_join_history_and_stream_and_end_with_the_unfinished_one(exchange: Served) -> None:
    client = exchange.client
    rows = client.get("/fapi/v1/klines", params={"symbol": "BTCUSDT", "interval": "1m", "limit": 5}).json()
    assert [row[0] - START_MS for row in rows] == [-180_000, -120_000, -60_000, 0, 60_000]
    five = client.get("/fapi/v1/klines", params={"symbol": "BTCUSDT", "interval": "5m", "limit": 1}).json()[0]
    assert five[8] == rows[3][8] + rows[4][8]
    assert float(five[5]) == pytest.approx(float(rows[3][5]) + float(rows[4][5]))
    trades = client.get(
        "/fapi/v1/aggTrades", params={"symbol": "BTCUSDT", "startTime": START_MS + 60_000, "limit": 1000}
    )
    assert len(trades.json()) == rows[4][8]


def test_trades_are_found_by_id_and_time(exchange: Served) -> None:
    client = exchange.client
    newest = client.get("/fapi/v1/aggTrades", params={"symbol": "BTCUSDT", "limit": 3}).json()
    assert [trade["a"] for trade in newest] == list(range(newest[0]["a"], newest[0]["a"] + 3))
    same = client.get("/fapi/v1/aggTrades", params={"symbol": "BTCUSDT", "fromId": newest[1]["a"]}).json()
    assert same == newest[1:]


def test_book_is_what_the_stream_has_shown(exchange: Served) -> None:
    client = exchange.client
    book = client.get("/fapi/v1/depth", params={"symbol": "BTCUSDT", "limit": 20}).json()
    assert len(book["bids"]) == len(book["asks"]) == 20
    ticker = client.get("/fapi/v1/ticker/bookTicker", params={"symbol": "BTCUSDT"}).json()
    assert float(book["bids"][0][0]) < float(book["asks"][0][0])
    assert float(ticker["bidPrice"]) < float(ticker["askPrice"])
    assert book["lastUpdateId"] <= ticker["lastUpdateId"] + 5


@pytest.mark.parametrize("path", ["premiumIndex", "openInterest", "ticker/price", "fundingRate"])
def test_other_market_paths_answer(exchange: Served, path: str) -> None:
    assert exchange.client.get(f"/fapi/v1/{path}", params={"symbol": "BTCUSDT"}).status_code == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/fapi/v1/klines?symbol=DOGEUSDT&interval=1m", 400, -1121),
        ("/fapi/v1/klines?symbol=BTCUSDT", 400, -1102),
        ("/fapi/v1/klines?symbol=BTCUSDT&interval=7m", 400, -1120),
        ("/fapi/v1/depth?symbol=BTCUSDT&limit=7", 400, -1130),
        ("/sim/v1/frames?after=99999999999", 400, -1130),
        ("/fapi/v1/nothing", 404, -5000),
    ],
)
def test_refusals_have_binance_form(exchange: Served, path: str, status: int, code: int) -> None:
    answer = exchange.client.get(path)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert answer.json()["msg"]


def test_websocket_carries_what_was_subscribed_and_nothing_of_the_other_path(exchange: Served) -> None:
    streams = "btcusdt@aggTrade/btcusdt@bookTicker"
    with connect(f"{exchange.stream_url}/market/stream?streams={streams}", close_timeout=0.2) as connection:
        connection.send('{"method":"SUBSCRIBE","params":["btcusdt@markPrice@1s"],"id":4}')
        assert json.loads(connection.recv(5)) == {"result": None, "id": 4}
        exchange.wall.seconds += 5
        kinds = {json.loads(connection.recv(5))["stream"] for _ in range(8)}
    assert kinds == {"btcusdt@aggTrade", "btcusdt@markPrice@1s"}


def test_single_stream_sends_bare_frames(exchange: Served) -> None:
    with connect(f"{exchange.stream_url}/public/ws/btcusdt@bookTicker", close_timeout=0.2) as connection:
        connection.send("nonsense")
        assert json.loads(connection.recv(5))["error"]["code"] == 3
        exchange.wall.seconds += 2
        assert json.loads(connection.recv(5))["e"] == "bookTicker"


@pytest.mark.slow
def test_tape_makes_old_minutes_again() -> None:
    tape = MarketTape(7)
    first = tape.minute(3).rows.tolist()
    tape.minute(120)
    assert tape.minute(3).rows.tolist() == first


def test_clock_goes_on_across_a_restart(tmp_path: Path) -> None:
    wall = Wall()
    assert open_clock(tmp_path, 7, 10, wall).now_ms() == START_MS
    wall.seconds += 3
    assert open_clock(tmp_path, 7, 10, wall).now_ms() == START_MS + 30_000
    assert open_clock(tmp_path, 8, 10, wall).now_ms() == START_MS


def test_busy_port_is_named_with_its_fix() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(DependencyUnavailable, match=f"port {port}.*PERPFLOW_EXCHANGE_PORT"):
            listen_on("127.0.0.1", port, "PERPFLOW_EXCHANGE_PORT")
