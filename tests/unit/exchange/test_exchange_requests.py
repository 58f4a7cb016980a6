"""Request authentication, rate limits, and injected faults."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from services.exchange.core import START_MS
from services.exchange.limits import ORDERS_PER_10_SECONDS, WEIGHT_PER_MINUTE, weight_of
from tests.kit.waiting import eventually
from tests.unit.exchange.served import API_KEY, API_SECRET, Served, an_exchange

KEY = {"X-MBX-APIKEY": API_KEY}
ORDER = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}


@pytest.fixture
def exchange() -> Iterator[Served]:
    with an_exchange() as served:
        served.wall.seconds += 90.5
        yield served


@pytest.fixture(scope="module")
def quiet() -> Iterator[Served]:
    with an_exchange() as served:
        served.wall.seconds += 90.5
        yield served


def now_ms(exchange: Served) -> int:
    return START_MS + round((exchange.wall.seconds - 1000) * 1000)


def sign(text: str, secret: str = API_SECRET) -> str:
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def send(exchange: Served, method: str, path: str, **sent: Any) -> httpx.Response:
    """Send a signed request, its parameters in the query or, where Binance takes a form, in the body."""
    text = urlencode({"timestamp": now_ms(exchange), **sent})
    text = f"{text}&signature={sign(text)}"
    if method == "GET":
        return exchange.client.get(f"{path}?{text}", headers=KEY)
    headers = {**KEY, "content-type": "application/x-www-form-urlencoded"}
    return exchange.client.request(method, path, content=text, headers=headers)


def orders(exchange: Served) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = exchange.client.get("/sim/v1/account").json()["orders"]
    return found


def code(answer: httpx.Response) -> tuple[int, int]:
    body = answer.json()
    assert body["msg"]
    return answer.status_code, body["code"]


def test_parameters_may_be_split_between_query_and_body(quiet: Served) -> None:
    query, body = "symbol=BTCUSDT&side=BUY&type=MARKET", f"quantity=0.01&timestamp={now_ms(quiet)}"
    headers = {**KEY, "content-type": "application/x-www-form-urlencoded"}
    signature = sign(query + body)
    answer = quiet.client.post(f"/fapi/v1/order?{query}", content=f"{body}&signature={signature}", headers=headers)
    assert answer.json()["status"] == "NEW"


@pytest.mark.parametrize(
    ("key", "expected"),
    [(None, (401, -2014)), ("", (401, -2014)), ("two\twords", (401, -2014)), ("stranger", (401, -2015))],
)
def test_wrong_keys_are_refused(quiet: Served, key: str | None, expected: tuple[int, int]) -> None:
    headers = {} if key is None else {"X-MBX-APIKEY": key}
    assert code(quiet.client.get("/fapi/v3/account", headers=headers)) == expected
    assert code(quiet.client.post("/fapi/v1/listenKey", headers=headers)) == expected


def test_wrong_signatures_are_refused(quiet: Served) -> None:
    good = f"symbol=BTCUSDT&timestamp={now_ms(quiet)}"
    for signature in (sign(good, "another"), sign(f"{good}0"), "nonsense", "ä"):
        answer = quiet.client.get(f"/fapi/v1/openOrders?{good}&signature={signature}", headers=KEY)
        assert code(answer) == (400, -1022)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", (400, -1102)),
        ("timestamp=", (400, -1102)),
        ("timestamp=yesterday", (400, -1100)),
        ("timestamp=1", (400, -1102)),
        ("timestamp=1&timestamp=2", (400, -1101)),
        ("timestamp=1&recvWindow=60001", (400, -1131)),
    ],
)
def test_envelope_must_be_whole(quiet: Served, query: str, expected: tuple[int, int]) -> None:
    assert code(quiet.client.get(f"/fapi/v3/account?{query}", headers=KEY)) == expected


@pytest.mark.parametrize(
    ("offset_ms", "window", "status"),
    [
        (0, {}, 200),
        (-5000, {}, 200),
        (-5001, {}, 400),
        (999, {}, 200),
        (1000, {}, 400),
        (-59_000, {"recvWindow": 60_000}, 200),
        (-20, {"recvWindow": 10}, 400),
    ],
)
def test_request_must_be_of_the_exchange_present(
    quiet: Served, offset_ms: int, window: dict[str, int], status: int
) -> None:
    answer = send(quiet, "GET", "/fapi/v3/account", timestamp=now_ms(quiet) + offset_ms, **window)
    assert answer.status_code == status
    assert status == 200 or answer.json()["code"] == -1021


def test_window_stretches_with_the_speed() -> None:
    with an_exchange(speed=60) as exchange:
        exchange.wall.seconds += 10
        now = START_MS + 600_000
        for offset_ms, status in ((-300_000, 200), (-300_001, 400), (59_999, 200), (60_000, 400)):
            answer = send(exchange, "GET", "/fapi/v3/account", timestamp=now + offset_ms)
            assert answer.status_code == status


@pytest.mark.parametrize(
    ("method", "path"), [("PUT", "/fapi/v1/order"), ("POST", "/fapi/v1/batchOrders"), ("GET", "/fapi/v9/account")]
)
def test_unknown_paths_are_refused(quiet: Served, method: str, path: str) -> None:
    assert code(send(quiet, method, path)) == (404, -5000)


@pytest.mark.slow
def test_weight_is_counted_reported_and_limited(exchange: Served) -> None:
    path = "/fapi/v1/premiumIndex?symbol=BTCUSDT"
    first = exchange.client.get(path)
    assert first.headers["X-MBX-USED-WEIGHT-1M"] == "1"
    for _ in range(WEIGHT_PER_MINUTE // 20):
        last = exchange.client.get("/fapi/v1/depth?symbol=BTCUSDT&limit=1000")
    assert code(last) == (429, -1003)
    # Half of the minute is left.
    assert last.headers["Retry-After"] == "30"
    assert int(last.headers["X-MBX-USED-WEIGHT-1M"]) == WEIGHT_PER_MINUTE + 1
    exchange.wall.seconds += 30
    assert exchange.client.get(path).headers["X-MBX-USED-WEIGHT-1M"] == "1"


@pytest.mark.slow
def test_orders_are_counted_reported_and_limited(exchange: Served) -> None:
    first = send(exchange, "POST", "/fapi/v1/order", **ORDER)
    assert (first.headers["X-MBX-ORDER-COUNT-10S"], first.headers["X-MBX-ORDER-COUNT-1M"]) == ("1", "1")
    for _ in range(ORDERS_PER_10_SECONDS):
        last = exchange.client.post("/fapi/v1/order")
    assert code(last) == (429, -1015)
    assert last.headers["Retry-After"] == "10"
    exchange.wall.seconds += 10
    assert send(exchange, "POST", "/fapi/v1/order", **ORDER).status_code == 200
    assert len(orders(exchange)) == 2


@pytest.mark.parametrize(
    ("method", "path", "query", "weight"),
    [
        ("GET", "/fapi/v1/depth", "symbol=BTCUSDT", 10),
        ("GET", "/fapi/v1/depth", "limit=5", 2),
        ("GET", "/fapi/v1/klines", "limit=1500", 10),
        ("GET", "/fapi/v1/klines", "limit=many", 5),
        ("GET", "/fapi/v1/openOrders", "", 40),
        ("GET", "/fapi/v1/openOrders", "symbol=BTCUSDT", 1),
        ("POST", "/fapi/v1/order", "", 0),
        ("DELETE", "/fapi/v1/order", "", 1),
    ],
)
def test_weights_are_those_of_binance(method: str, path: str, query: str, weight: int) -> None:
    assert weight_of(method, path, query) == weight


def add_fault(exchange: Served, kind: str, **fields: Any) -> None:
    fault = {"method": "POST", "path": "/fapi/v1/order", "kind": kind, **fields}
    assert exchange.client.post("/sim/v1/faults", json=fault).status_code == 200


@pytest.mark.parametrize(("kind", "takes_effect"), [("lost_request", False), ("lost_answer", True)])
def test_connection_is_closed_without_an_answer(exchange: Served, kind: str, takes_effect: bool) -> None:
    add_fault(exchange, kind)
    with pytest.raises(httpx.RemoteProtocolError):
        send(exchange, "POST", "/fapi/v1/order", **ORDER)
    assert len(orders(exchange)) == takes_effect
    assert send(exchange, "POST", "/fapi/v1/order", **ORDER).status_code == 200


@pytest.mark.parametrize(
    ("kind", "number", "takes_effect"), [("status_503", -1008, False), ("status_503_after", -1007, True)]
)
def test_answer_is_a_503_whatever_happened(exchange: Served, kind: str, number: int, takes_effect: bool) -> None:
    add_fault(exchange, kind, count=2)
    for _ in range(2):
        assert code(send(exchange, "POST", "/fapi/v1/order", **ORDER)) == (503, number)
    assert len(orders(exchange)) == 2 * takes_effect
    assert send(exchange, "POST", "/fapi/v1/order", **ORDER).status_code == 200


def test_request_takes_effect_after_the_client_has_gone(exchange: Served) -> None:
    add_fault(exchange, "timeout", delay_ms=300)
    with pytest.raises(httpx.ReadTimeout), httpx.Client(base_url=exchange.url, timeout=0.05) as hasty:
        hasty.post("/fapi/v1/order", content=_signed(exchange), headers=KEY)
    eventually(lambda: len(orders(exchange)) == 1)


def _signed(exchange: Served) -> str:
    text = urlencode({"timestamp": now_ms(exchange), **ORDER})
    return f"{text}&signature={sign(text)}"


def test_faults_can_be_taken_back(exchange: Served) -> None:
    add_fault(exchange, "status_503", count=1000)
    assert exchange.client.delete("/sim/v1/faults").status_code == 200
    assert send(exchange, "POST", "/fapi/v1/order", **ORDER).status_code == 200


@pytest.mark.parametrize(
    "change", [{"kind": "gremlin"}, {"count": 0}, {"delay_ms": -1}, {"path": "order"}, {"method": "HEAD"}, {"more": 1}]
)
def test_bad_faults_are_refused(quiet: Served, change: dict[str, Any]) -> None:
    fault = {"method": "POST", "path": "/fapi/v1/order", "kind": "status_503", **change}
    assert code(quiet.client.post("/sim/v1/faults", json=fault)) == (400, -1130)


def test_full_account_state_is_served_unsigned(quiet: Served) -> None:
    known = quiet.client.get("/sim/v1/account").json()
    assert set(known) >= {"account", "orders", "algo_orders", "fills", "positions", "countdown_ends_ms"}
