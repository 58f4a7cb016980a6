"""Signed trading through python-binance against the simulated exchange, whose answers can be lost on request."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from libs.clock import SimulatedClock
from libs.domain.instruments import find_instrument
from libs.domain.market import Side
from libs.domain.orders import OrderStatus, OrderType, PlaceOrder
from libs.domain.venues import VenueOrderState
from libs.venues.binance_client import BinanceClient
from libs.venues.binance_trading import BinanceTrading
from libs.venues.binance_user_data import BinanceUserDataStream
from libs.venues.errors import VenueRefused, VenueUnavailable
from tests.kit.builders import BTC
from tests.kit.waiting import eventually
from tests.unit.exchange.served import API_KEY, API_SECRET, Served, an_exchange
from tests.unit.venues.test_binance_orders import an_order

NONE = Decimal(0)


@pytest.fixture
def exchange() -> Iterator[Served]:
    with an_exchange(is_running=True) as served:
        yield served


@pytest.fixture
def trading(exchange: Served) -> Iterator[BinanceTrading]:
    client = BinanceClient(exchange.url, API_KEY, API_SECRET)
    trading = BinanceTrading(client, BinanceUserDataStream(exchange.stream_url))
    trading.prepare([BTC], 3)
    yield trading
    trading.close()


def a_buy(name: str, order_type: OrderType = OrderType.MARKET, **changes: Any) -> PlaceOrder:
    return replace(an_order(order_type), client_order_id=name, side=Side.BUY, **changes)


def price_below(exchange: Served, share: str) -> Decimal:
    last = Decimal(exchange.client.get("/fapi/v1/ticker/price?symbol=BTCUSDT").json()["price"])
    return (last * (1 - Decimal(share))).quantize(Decimal("0.1"))


def break_next(exchange: Served, kind: str, path: str = "/fapi/v1/order", method: str = "POST") -> None:
    fault = {"method": method, "path": path, "kind": kind, "count": 1}
    exchange.client.post("/sim/v1/faults", json=fault).raise_for_status()


@pytest.mark.slow
def test_market_order_fills_and_the_account_follows(trading: BinanceTrading) -> None:
    state = trading.place(a_buy("pf-a"))
    (fill,) = state.fills
    assert (state.status, state.filled_quantity, fill.quantity) == (
        OrderStatus.FILLED,
        Decimal("0.01"),
        Decimal("0.01"),
    )
    account = trading.account()
    assert account.wallet_balance == 10_000 - fill.fee
    (held,) = account.positions
    assert (held.instrument, held.quantity, held.entry_price) == (BTC, Decimal("0.01"), fill.price)
    found = trading.query(a_buy("pf-a"), NONE)
    assert found is not None and found.fills == state.fills
    assert trading.query(a_buy("pf-a"), Decimal("0.01")).fills == ()


def test_instrument_whose_trading_rules_are_not_those_declared_is_refused(
    trading: BinanceTrading, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = replace(find_instrument(BTC), min_notional=Decimal(5))
    monkeypatch.setattr("libs.venues.rules.find_instrument", lambda _name: declared)
    with pytest.raises(VenueRefused, match="minimum notional is 100 at the venue, declared is 5"):
        trading.prepare([BTC], 3)


def test_prepared_account_has_the_leverage_asked_for(exchange: Served, trading: BinanceTrading) -> None:
    trading.prepare([BTC], 7)
    client = BinanceClient(exchange.url, API_KEY, API_SECRET)
    client.synchronise()
    assert [held["leverage"] for held in client.ask("futures_account")["positions"]] == ["7"]
    client.close()


def test_limit_order_rests_and_is_cancelled(exchange: Served, trading: BinanceTrading) -> None:
    order = a_buy("pf-b", OrderType.LIMIT, limit_price=price_below(exchange, "0.02"))
    assert trading.place(order).status is OrderStatus.ACCEPTED
    assert list(trading.open_order_ids()) == ["pf-b"]
    trading.cancel(order)
    assert list(trading.open_order_ids()) == []
    assert trading.query(order, NONE).status is OrderStatus.CANCELLED
    with pytest.raises(VenueRefused, match="-2011"):
        trading.cancel(order)


def test_protective_stop_rests_at_the_venue_and_is_cancelled(exchange: Served, trading: BinanceTrading) -> None:
    stop = replace(
        an_order(OrderType.STOP_MARKET),
        client_order_id="pf-c",
        trigger_price=price_below(exchange, "0.03"),
        reduce_only=True,
    )
    trading.place(a_buy("pf-a"))
    state = trading.place(stop)
    assert (state.status, state.is_triggered) == (OrderStatus.ACCEPTED, False)
    assert list(trading.open_order_ids()) == ["pf-c"]
    trading.cancel(stop)
    assert trading.query(stop, NONE).status is OrderStatus.CANCELLED


def test_triggered_stop_closes_the_position_and_shows_its_fills() -> None:
    with an_exchange(speed=200.0, is_running=True) as fast:
        trading = BinanceTrading(BinanceClient(fast.url, API_KEY, API_SECRET, speed=200.0))
        trading.prepare([BTC], 3)
        trading.place(a_buy("pf-a"))
        stop = replace(an_order(OrderType.STOP_MARKET), client_order_id="pf-s", reduce_only=True)
        profit = replace(an_order(OrderType.TAKE_PROFIT_MARKET), client_order_id="pf-p", reduce_only=True)
        stop = replace(stop, trigger_price=price_below(fast, "0.0006"))
        profit = replace(profit, trigger_price=price_below(fast, "-0.0006"))
        for order in (stop, profit):
            assert trading.place(order).status is OrderStatus.ACCEPTED

        def find_triggered() -> list[VenueOrderState]:
            states = [trading.query(order, NONE) for order in (stop, profit)]
            return [state for state in states if state is not None and state.is_triggered]

        eventually(find_triggered)
        (state, *_) = find_triggered()
        assert state.status is OrderStatus.FILLED
        assert sum(fill.quantity for fill in state.fills) == Decimal("0.01")
        assert trading.account().positions == ()
        trading.close()


def test_refusal_carries_binances_code(trading: BinanceTrading) -> None:
    with pytest.raises(VenueRefused, match=r"^-4164"):
        trading.place(a_buy("pf-d", OrderType.LIMIT, quantity=Decimal("0.001"), limit_price=Decimal("50.0")))


@pytest.mark.parametrize(
    ("kind", "is_taken"),
    [("lost_answer", True), ("status_503_after", True), ("lost_request", False), ("status_503", False)],
)
def test_lost_answer_is_no_answer_and_the_order_is_found_by_its_id_or_not(
    exchange: Served, trading: BinanceTrading, kind: str, is_taken: bool
) -> None:
    order = a_buy("pf-e")
    break_next(exchange, kind)
    with pytest.raises(VenueUnavailable):
        trading.place(order)
    found = trading.query(order, NONE)
    assert (found is not None and found.status is OrderStatus.FILLED) is is_taken


def test_id_that_is_taken_is_a_matter_of_asking_not_a_refusal(exchange: Served, trading: BinanceTrading) -> None:
    order = a_buy("pf-f", OrderType.LIMIT, limit_price=price_below(exchange, "0.02"))
    trading.place(order)
    with pytest.raises(VenueUnavailable, match="-4116"):
        trading.place(order)


def test_question_that_is_refused_is_unanswered(exchange: Served) -> None:
    stranger = BinanceTrading(BinanceClient(exchange.url, API_KEY, "wrong"))
    with pytest.raises(VenueUnavailable, match="-1022"):
        stranger.account()
    with pytest.raises(VenueRefused, match="-1022"):
        stranger.place(a_buy("pf-g"))
    stranger.close()


def test_clock_that_differs_is_named(exchange: Served) -> None:
    early = BinanceClient(exchange.url, API_KEY, API_SECRET)
    with pytest.raises(VenueRefused, match=r"-1021.*clocks differ"):
        early.ask("futures_account")
    early.synchronise()
    assert early.ask("futures_account")["assets"]
    early.close()


def test_countdown_cancels_what_rests_in_the_book_and_leaves_protective_stops(exchange: Served) -> None:
    with an_exchange(speed=20.0, is_running=True) as fast:
        client = BinanceClient(fast.url, API_KEY, API_SECRET, speed=20.0)
        trading = BinanceTrading(client)
        trading.prepare([BTC], 3)
        trading.place(a_buy("pf-a"))
        resting = a_buy("pf-b", OrderType.LIMIT, limit_price=price_below(fast, "0.05"))
        stop = replace(an_order(OrderType.STOP_MARKET), client_order_id="pf-c", reduce_only=True)
        trading.place(resting)
        trading.place(replace(stop, trigger_price=price_below(fast, "0.05")))
        trading.set_cancel_countdown(BTC, 60_000)
        trading.set_cancel_countdown(BTC, 4_000)
        assert sorted(trading.open_order_ids()) == ["pf-b", "pf-c"]
        eventually(lambda: list(trading.open_order_ids()) == ["pf-c"])
        assert trading.query(resting, NONE).status is OrderStatus.CANCELLED
        trading.close()


def test_fill_is_an_account_update(exchange: Served, trading: BinanceTrading) -> None:
    eventually(trading.has_account_update)
    eventually(lambda: not trading.has_account_update())
    trading.place(a_buy("pf-a"))
    eventually(trading.has_account_update)


def test_lost_connection_is_an_account_update_and_it_reconnects(exchange: Served, trading: BinanceTrading) -> None:
    eventually(trading.has_account_update)
    exchange.client.delete("/fapi/v1/listenKey", headers={"X-MBX-APIKEY": API_KEY})
    eventually(trading.has_account_update)


class _Limiting(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self) -> None:
        """Refuse for the rate, with a Retry-After."""
        type(self).asked += 1
        body = b'{"code": -1003, "msg": "Too many requests."}'
        self.send_response(429)
        self.send_header("Retry-After", "7")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_arguments: object) -> None:
        """Say nothing."""


def test_rate_limit_keeps_it_quiet_for_as_long_as_the_venue_wishes() -> None:
    clock = SimulatedClock(0)
    with HTTPServer(("127.0.0.1", 0), _Limiting) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client = BinanceClient(f"http://127.0.0.1:{server.server_port}", "k", "s", clock=clock)
        for passed_s, fault, asked in ((0.0, "Too many", 1), (6.9, "not sent", 1), (0.2, "Too many", 2)):
            clock.advance(passed_s)
            with pytest.raises(VenueRefused, match=f"-1003 {fault}"):
                client.ask("futures_time")
            assert _Limiting.asked == asked
        client.close()
        server.shutdown()
        thread.join()


def test_unreachable_venue_is_unavailable() -> None:
    client = BinanceClient("http://127.0.0.1:9", "k", "s")
    with pytest.raises(VenueUnavailable, match="does not answer"):
        client.synchronise()
    client.close()


def test_a_client_leaves_no_event_loop_open() -> None:
    client = BinanceClient("http://127.0.0.1:9", "key", "secret")
    assert client._client.loop.is_closed()
    client.close()
