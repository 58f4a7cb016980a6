"""What holds for every market and every sequence of orders, and that a saved venue goes on as if never saved."""

from __future__ import annotations

import dataclasses
from decimal import Decimal

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from libs.domain.events import Event
from libs.domain.instruments import find_instrument
from libs.domain.market import Side, Trade
from libs.domain.numbers import from_e8
from libs.domain.orders import Liquidity, OrderType, PlaceOrder, ReportKind, TimeInForce, VenueReport
from libs.domain.state import StateFormat
from libs.matching import LatencyModel, PaperVenue
from libs.matching.paper_venue import PaperVenueState
from tests.kit.builders import BTC, a_mark, a_quote, a_tick, a_trade
from tests.unit.matching.builders import a_cancel, a_delta, a_depth, a_place, a_venue

FORMAT = StateFormat("paper-venue", 1, PaperVenueState)
PRICES = st.integers(-30, 30).map(lambda steps: str(Decimal(60_000) + Decimal(steps)))
QUANTITIES = st.sampled_from(["0.01", "0.1", "0.5", "1", "3"])
SIDES = st.sampled_from([Side.BUY, Side.SELL])


@st.composite
def market_and_orders(draw: st.DrawFn) -> list[Event]:
    """Quotes, trades, depth, marks, orders of every type and cancels, in ascending time."""
    events: list[Event] = [a_mark(0, "60000"), a_quote(0, "59999", "60000")]
    for i in range(1, draw(st.integers(1, 60))):
        seconds = i / 4
        what = draw(
            st.sampled_from(["quote", "trade", "depth", "snapshot", "mark", "place", "place", "cancel", "tick"])
        )
        if what == "quote":
            bid = draw(st.integers(-30, 29))
            events.append(a_quote(i, str(60_000 + bid), str(60_000 + bid + draw(st.integers(1, 5))), seconds))
        elif what == "trade":
            events.append(a_trade(i, draw(PRICES), draw(QUANTITIES), seconds, is_buyer_maker=draw(st.booleans())))
        elif what in ("depth", "snapshot"):
            middle = draw(st.integers(-20, 20))
            bids = [(str(60_000 + middle - k), draw(QUANTITIES)) for k in range(1, 4)]
            asks = [(str(60_000 + middle + k), draw(QUANTITIES)) for k in range(1, 4)]
            make = a_delta if what == "depth" else a_depth
            events.append(make(bids, asks, seconds=seconds, number=i))
        elif what == "mark":
            events.append(a_mark(i, draw(PRICES), seconds))
        elif what == "tick":
            events.append(dataclasses.replace(a_tick(0), event_time=a_quote(1, seconds=seconds).event_time))
        elif what == "cancel":
            events.append(a_cancel(draw(st.integers(0, i)), seconds))
        else:
            events.append(draw(an_order(i, seconds)))
    return events


@st.composite
def an_order(draw: st.DrawFn, number: int, seconds: float) -> PlaceOrder:
    """An order of any type; its id may repeat an earlier one's."""
    order_type = draw(st.sampled_from(list(OrderType)))
    is_limit = order_type is OrderType.LIMIT
    command = a_place(
        draw(st.integers(max(0, number - 3), number)),
        draw(SIDES),
        draw(QUANTITIES),
        draw(PRICES) if is_limit else None,
        seconds,
        order_type=order_type,
        reduce_only=draw(st.booleans()),
        time_in_force=draw(st.sampled_from(list(TimeInForce))) if is_limit else TimeInForce.GTC,
    )
    if order_type is OrderType.TRAILING_STOP_MARKET:
        return dataclasses.replace(command, callback_rate=Decimal("0.001"))
    if order_type.is_conditional:
        return dataclasses.replace(command, trigger_price=Decimal(draw(PRICES)))
    return command


def new_venue(latency_ms: int) -> PaperVenue:
    latency = LatencyModel(latency_ms * 1_000_000, latency_ms * 1_000_000, jitter_ns=100_000_000 if latency_ms else 0)
    return PaperVenue("paper", [find_instrument(BTC)], latency=latency)


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(market_and_orders(), st.sampled_from([0, 300]))
def test_no_order_fills_beyond_itself_or_worse_than_its_limit(events: list[Event], latency_ms: int) -> None:
    venue = new_venue(latency_ms)
    commands: dict[str, PlaceOrder] = {}
    filled: dict[str, Decimal] = {}
    closed: set[str] = set()
    position = Decimal(0)
    ids: list[str] = []
    for event in events:
        if isinstance(event, PlaceOrder):
            commands.setdefault(event.client_order_id, event)
        made_now = Decimal(0)
        for report in venue.handle(event):
            ids.append(report.event_id)
            name = report.client_order_id
            if report.kind is ReportKind.FILL:
                command = commands[name]
                assert name not in closed
                assert report.last_quantity and report.last_price and report.last_quantity > 0
                filled[name] = filled.get(name, Decimal(0)) + report.last_quantity
                assert filled[name] <= command.quantity
                if command.limit_price is not None:
                    assert (command.limit_price - report.last_price) * command.side.sign >= 0
                before = position
                position += report.last_quantity * command.side.sign
                if command.reduce_only:
                    assert abs(position) < abs(before)
                if report.liquidity is Liquidity.MAKER:
                    assert report.last_price == command.limit_price
                    made_now += report.last_quantity
            elif report.kind in (ReportKind.CANCELLED, ReportKind.EXPIRED):
                assert name not in closed
                closed.add(name)
        if isinstance(event, Trade):
            assert made_now <= from_e8(event.quantity_e8)
    assert venue.position_of(BTC) == position
    assert len(set(ids)) == len(ids)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(market_and_orders(), st.data())
def test_restored_venue_goes_on_as_if_never_saved(events: list[Event], data: st.DataObject) -> None:
    straight, first, second = new_venue(300), new_venue(300), new_venue(300)
    cut = data.draw(st.integers(0, len(events)))
    expected: list[VenueReport] = []
    for event in events:
        expected += straight.handle(event)
    actual: list[VenueReport] = []
    for event in events[:cut]:
        actual += first.handle(event)
    second.restore(FORMAT.decode(FORMAT.encode(first)))
    assert FORMAT.encode(second) == FORMAT.encode(first)
    for event in events[cut:]:
        actual += second.handle(event)
    assert actual == expected
    assert FORMAT.encode(second) == FORMAT.encode(straight)


@pytest.mark.slow
@given(st.lists(st.tuples(SIDES, QUANTITIES), min_size=1, max_size=20))
def test_takers_get_the_book_and_cash_is_conserved(orders: list[tuple[Side, str]]) -> None:
    bids = [(str(60_000 - k), "2") for k in range(1, 41)]
    asks = [(str(60_000 + k), "2") for k in range(1, 41)]
    venue = a_venue()
    venue.handle(a_depth(bids, asks))
    cash = Decimal(0)
    taken: dict[Decimal, Decimal] = {}
    for number, (side, quantity) in enumerate(orders):
        last: Decimal | None = None
        for report in venue.handle(a_place(number, side, quantity)):
            if report.last_price is None or report.last_quantity is None or report.fee is None:
                continue
            assert last is None or (report.last_price - last) * side.sign > 0
            last = report.last_price
            taken[last] = taken.get(last, Decimal(0)) + report.last_quantity
            cash -= last * report.last_quantity * side.sign
            assert report.fee == last * report.last_quantity * Decimal("0.0005")
    assert all(quantity <= 2 for quantity in taken.values())
    assert cash == -sum(price * quantity * (1 if price > 60_000 else -1) for price, quantity in taken.items())
    assert venue.position_of(BTC) == sum(Decimal(quantity) * side.sign for side, quantity in orders)


def test_state_of_another_account_is_refused() -> None:
    other = PaperVenue("other", [find_instrument(BTC)])
    with pytest.raises(ValueError, match="account 'paper'"):
        other.restore(a_venue())


def test_state_with_a_position_in_an_unlisted_instrument_is_refused() -> None:
    venue = a_venue()
    for event in (a_quote(1), a_place(quantity="0.1")):
        venue.handle(event)
    elsewhere = PaperVenue("paper", [find_instrument("ETHUSDT.BINANCE")])
    with pytest.raises(ValueError, match="add it again"):
        elsewhere.restore(venue)


def test_negative_latency_is_refused() -> None:
    with pytest.raises(ValueError, match="order_ns must be 0 or more"):
        LatencyModel(order_ns=-1)


def test_jitter_is_the_same_in_every_run_and_within_its_width() -> None:
    model = LatencyModel(order_ns=10, jitter_ns=5)
    arrivals = [model.arrival_time(f"c{i}", 100, 0, is_cancel=False) for i in range(50)]
    assert arrivals == [model.arrival_time(f"c{i}", 100, 0, is_cancel=False) for i in range(50)]
    assert min(arrivals) >= 110 and max(arrivals) <= 115 and len(set(arrivals)) > 1
