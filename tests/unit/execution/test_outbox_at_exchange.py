"""The outbox at the simulated exchange, over the wire: lost answers, and a countdown that nobody re-arms."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from libs.bus.memory import MemoryBus
from libs.domain.accounts import VenueAccount
from libs.domain.control import Alert
from libs.domain.events import Event
from libs.domain.market import Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.orders import OrderType, PlaceOrder, VenueReport
from libs.venues.binance_client import BinanceClient
from libs.venues.binance_trading import BinanceTrading
from libs.venues.binance_user_data import BinanceUserDataStream
from libs.wire.topics import ALERTS, COMMANDS, REPORTS
from services.execution.core import ExecutionCore
from services.execution.core.reconciliation import OutboxTerms
from tests.kit.waiting import eventually
from tests.unit.exchange.served import API_KEY, API_SECRET, Served, an_exchange
from tests.unit.execution.builders import an_approval, order_id
from tests.unit.execution.outboxes import an_outbox
from tests.unit.execution.test_execution_service import a_bus, publish, read

SPEED = 30.0


class Trading:
    """A core, an outbox and an exchange whose clock runs at thirty times ours."""

    def __init__(self, exchange: Served) -> None:
        self.exchange = exchange
        self.bus: MemoryBus = a_bus()
        self.core = ExecutionCore("paper", Decimal(1))
        self.health_errors: list[str] = []
        self.venue = BinanceTrading(
            BinanceClient(exchange.url, API_KEY, API_SECRET, speed=SPEED),
            BinanceUserDataStream(exchange.stream_url, speed=SPEED),
        )
        terms = OutboxTerms(countdown_ns=30 * NANOSECONDS, max_command_age_ns=3600 * NANOSECONDS)
        self.outbox = an_outbox(self.venue, self.bus, terms, lambda: self.health_errors)
        self.outbox.open()
        while self.outbox.step(0):
            pass
        self._seen = 0
        self.hear()

    def close(self) -> None:
        self.outbox.close()
        self.venue.close()

    def hear(self) -> None:
        """Let the core book what was reported."""
        reports = read(self.bus, REPORTS)
        for event in reports[self._seen :]:
            self.core.handle(event)
        self._seen = len(reports)

    def command(self, number: int, order_type: OrderType, share: str | None, **changes: Any) -> None:
        """Approve an order, its price that share of the last one below it."""
        last = Decimal(self.exchange.client.get("/fapi/v1/ticker/price?symbol=BTCUSDT").json()["price"])
        price = None if share is None else (last * (1 - Decimal(share))).quantize(Decimal("0.1"))
        name = "limit_price" if order_type is OrderType.LIMIT else "trigger_price"
        verdict = an_approval(number, order_type=order_type, **changes | {name: price})
        for event in self.core.handle(verdict):
            if isinstance(event, PlaceOrder):
                self.core.handle(event)
                publish(self.bus, event)

    def kinds(self, number: int) -> list[str]:
        """Step once, and return what was reported of an order."""
        self.outbox.step(0)
        self.hear()
        reports = [event for event in read(self.bus, REPORTS) if isinstance(event, VenueReport)]
        return [report.kind.name for report in reports if report.client_order_id == order_id(number)]

    def open_at_the_exchange(self) -> set[str]:
        known = self.exchange.client.get("/sim/v1/account").json()
        ordinary = {
            order["clientOrderId"] for order in known["orders"] if order["status"] in ("NEW", "PARTIALLY_FILLED")
        }
        return ordinary | {order["clientAlgoId"] for order in known["algo_orders"] if order["algoStatus"] == "NEW"}

    def book_count(self) -> int:
        """How often the venue's books were recorded."""
        return sum(isinstance(event, VenueAccount) for event in read(self.bus, REPORTS))

    def alerts(self) -> list[Event]:
        return [event for event in read(self.bus, ALERTS) if isinstance(event, Alert)]


@pytest.fixture
def trading() -> Iterator[Trading]:
    with an_exchange(speed=SPEED, is_running=True) as exchange:
        made = Trading(exchange)
        yield made
        made.close()


def test_orders_fills_stops_and_books_come_back_as_reports(trading: Trading) -> None:
    trading.command(1, OrderType.MARKET, None)
    trading.command(2, OrderType.LIMIT, "0.05")
    trading.command(3, OrderType.STOP_MARKET, "0.04", side=Side.SELL, reduce_only=True)
    eventually(lambda: trading.kinds(1) == ["ACCEPTED", "FILL"])
    eventually(lambda: (trading.kinds(2), trading.kinds(3)) == (["ACCEPTED"], ["ACCEPTED"]))
    assert trading.open_at_the_exchange() == {order_id(2), order_id(3)}
    eventually(lambda: trading.outbox.step(0) or trading.book_count() == 2)
    assert not trading.outbox.is_halted and trading.alerts() == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "end"), [("lost_answer", ["UNKNOWN", "ACCEPTED", "FILL"]), ("lost_request", ["UNKNOWN", "REJECTED"])]
)
def test_lost_answer_ends_in_the_truth_and_one_order_at_most(trading: Trading, kind: str, end: list[str]) -> None:
    fault = {"method": "POST", "path": "/fapi/v1/order", "kind": kind, "count": 1}
    trading.exchange.client.post("/sim/v1/faults", json=fault).raise_for_status()
    trading.command(1, OrderType.MARKET, None)
    eventually(lambda: trading.kinds(1) == end, within_s=20)
    held = trading.venue.account().positions
    assert [position.quantity for position in held] == ([Decimal("0.01")] if kind == "lost_answer" else [])
    assert len(read(trading.bus, COMMANDS)) == 1


@pytest.mark.slow
def test_hung_process_has_its_orders_cancelled_by_the_exchange_and_keeps_its_stop(trading: Trading) -> None:
    trading.command(1, OrderType.MARKET, None)
    trading.command(2, OrderType.LIMIT, "0.05")
    trading.command(3, OrderType.STOP_MARKET, "0.06", side=Side.SELL, reduce_only=True)
    eventually(lambda: trading.kinds(3) == ["ACCEPTED"])
    for _ in range(20):
        trading.outbox.step(50)
    assert trading.open_at_the_exchange() == {order_id(2), order_id(3)}
    # From here on nobody steps.
    eventually(lambda: trading.open_at_the_exchange() == {order_id(3)})
    eventually(lambda: trading.kinds(2) == ["ACCEPTED", "CANCELLED"])


@pytest.mark.slow
def test_service_that_stands_still_lets_the_countdown_run_out(trading: Trading) -> None:
    trading.command(2, OrderType.LIMIT, "0.05")
    eventually(lambda: trading.kinds(2) == ["ACCEPTED"])
    trading.health_errors = ["risk has stalled or lags by more than 5 s"]
    eventually(lambda: trading.kinds(2) == ["ACCEPTED", "CANCELLED"])
    eventually(lambda: trading.outbox.step(0) or trading.alerts())
    assert "risk has stalled" in trading.alerts()[0].message
