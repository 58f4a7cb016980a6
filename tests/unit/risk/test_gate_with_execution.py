"""The gate beside the execution core and its paper venue: approvals become fills, stops trigger, flatten closes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from libs.domain.accounts import AccountState
from libs.domain.control import ControlAction, ControlCommand, ControlState, TradingState
from libs.domain.events import Event
from libs.domain.instruments import INSTRUMENTS
from libs.domain.market import Side
from libs.domain.orders import (
    CancelOrder,
    OrderApproved,
    OrderEvent,
    OrderIntent,
    OrderRefused,
    OrderStatus,
    OrderType,
    PlaceOrder,
    VenueReport,
)
from services.execution.building import build_paper_venue
from services.execution.core import ExecutionCore
from services.execution.settings import ExecutionSettings
from services.risk.core import RiskCore
from tests.kit.builders import BTC, a_control, a_mark, a_quote, a_tick, an_intent
from tests.unit.risk.builders import D, limits

TO_RISK = (OrderIntent, OrderEvent, AccountState, ControlCommand)
TO_EXECUTION = (OrderApproved, PlaceOrder, CancelOrder, VenueReport, ControlCommand, ControlState)


class Pair:
    """Both cores together: every output goes to the readers of its topic, in order."""

    def __init__(self, **changes: Any) -> None:
        self.risk = RiskCore(limits(**changes), INSTRUMENTS, "paper")
        settings = ExecutionSettings()
        self.execution = ExecutionCore("paper", D(10_000), venue=build_paper_venue(settings))
        self.seen: list[Event] = []

    def feed(self, *events: Event) -> None:
        road = deque(events)
        while road:
            event = road.popleft()
            self.seen.append(event)
            is_market = not isinstance(event, (*TO_RISK, *TO_EXECUTION))
            outputs: list[Event] = []
            if is_market or isinstance(event, TO_RISK):
                outputs += self.risk.handle(event)
            if is_market or isinstance(event, TO_EXECUTION):
                outputs += self.execution.handle(event)
            road.extend(output for output in outputs)

    def market(self, seconds: int, price: str) -> None:
        """A quote, a mark and a tick; orders sent before reach the venue with them."""
        bid = D(price) - D("0.1")
        self.feed(
            a_quote(seconds, bid=str(bid), ask=price, seconds=seconds),
            a_mark(seconds, price, seconds=seconds),
            a_tick(seconds),
        )

    def of_kind(self, kind: type[Any]) -> list[Any]:
        return [event for event in self.seen if isinstance(event, kind)]

    @property
    def held(self) -> Decimal:
        return Decimal(self.of_kind(AccountState)[-1].position(BTC).quantity)

    def statuses(self, prefix: str) -> list[OrderStatus]:
        return [event.status for event in self.of_kind(OrderEvent) if event.intent_id.startswith(prefix)]


def prices(pair: Pair, start: int, path: Sequence[str]) -> None:
    for number, price in enumerate(path):
        pair.market(start + number, price)


@pytest.mark.slow
def test_an_approved_order_is_filled_and_both_agree_on_the_position() -> None:
    pair = Pair()
    pair.market(1, "60000")
    pair.feed(an_intent(1, "0.02"))
    pair.market(2, "60000")
    assert pair.held == D("0.02")
    assert not pair.of_kind(OrderRefused)
    pair.feed(an_intent(3, "0.02", Side.SELL))
    pair.market(4, "60000")
    assert pair.held == 0
    assert len(pair.of_kind(PlaceOrder)) == len(pair.of_kind(OrderApproved)) == 2


def test_a_stop_loss_rests_at_the_venue_and_closes_the_position() -> None:
    pair = Pair(stop_loss_fraction="0.01")
    pair.market(1, "60000")
    pair.feed(an_intent(1, "0.02"))
    prices(pair, 2, ["60000", "60000"])
    (stop,) = [order for order in pair.of_kind(PlaceOrder) if order.order_type is OrderType.STOP_MARKET]
    assert (stop.side, stop.quantity, stop.reduce_only) == (Side.SELL, D("0.02"), True)
    assert OrderStatus.ACCEPTED in pair.statuses("risk/loss")
    prices(pair, 4, ["59700", "59390", "59390", "59390", "59390"])
    assert pair.held == 0
    assert not [status for status in pair.statuses("risk/") if status is OrderStatus.REJECTED]


def test_take_profit_and_trailing_stop_are_taken_by_the_venue_and_cancelled_when_flat() -> None:
    pair = Pair(take_profit_fraction="0.02", trailing_stop_fraction="0.01", stop_loss_fraction="0.03")
    pair.market(1, "60000")
    pair.feed(an_intent(1, "0.02"))
    prices(pair, 2, ["60000", "60100", "60200"])
    assert {order.order_type for order in pair.of_kind(PlaceOrder) if order.reduce_only} == {
        OrderType.STOP_MARKET,
        OrderType.TAKE_PROFIT_MARKET,
        OrderType.TRAILING_STOP_MARKET,
    }
    pair.feed(an_intent(5, "0.02", Side.SELL, reduce_only=True))
    prices(pair, 6, ["60200", "60200", "60200"])
    assert pair.held == 0
    assert pair.of_kind(AccountState)[-1].open_order_count == 0


def test_flatten_cancels_closes_and_lets_nothing_else_out() -> None:
    pair = Pair(stop_loss_fraction="0.02")
    pair.market(1, "60000")
    pair.feed(an_intent(1, "0.02"))
    pair.market(2, "60000")
    pair.feed(an_intent(2, "0.01", order_type=OrderType.LIMIT, limit_price=D(59500)))
    pair.market(3, "60000")
    pair.feed(a_control(ControlAction.FLATTEN))
    placed = len(pair.of_kind(PlaceOrder))
    prices(pair, 4, ["60000", "60000", "60000"])
    assert pair.held == 0
    assert pair.of_kind(AccountState)[-1].open_order_count == 0
    pair.feed(an_intent(8, "0.01"))
    prices(pair, 9, ["60000", "60000"])
    assert len(pair.of_kind(PlaceOrder)) == placed
    assert pair.risk.trading_state is pair.execution.trading_state is TradingState.HALTED


def test_a_crash_of_the_price_flattens_without_any_command() -> None:
    pair = Pair(hard_drawdown_fraction="0.01", soft_drawdown_fraction="0.005", max_order_notional_usdt=20000)
    pair.market(1, "60000")
    pair.feed(an_intent(1, "0.2"))
    prices(pair, 2, ["60000", "59600", "59400", "59400", "59400"])
    assert pair.held == 0
    assert pair.risk.trading_state is TradingState.HALTED
