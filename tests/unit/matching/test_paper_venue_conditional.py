"""Stops, take-profits and trailing stops, and the bars' path."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from libs.domain.market import Side
from libs.domain.orders import OrderType, PlaceOrder, ReportKind
from libs.matching import BarFill, PaperVenue
from libs.matching.bar_path import path_of
from tests.kit.builders import BTC, a_mark, a_quote, a_tick, a_trade
from tests.unit.matching.builders import a_place, a_venue, an_exchange_bar, feed, fills, kinds

ACCEPTED, TRIGGERED, FILL, EXPIRED = (
    ReportKind.ACCEPTED,
    ReportKind.TRIGGERED,
    ReportKind.FILL,
    ReportKind.EXPIRED,
)


def a_stop(
    trigger: str | None,
    side: Side = Side.SELL,
    order_type: OrderType = OrderType.STOP_MARKET,
    number: int = 1,
    **changes: Any,
) -> PlaceOrder:
    """A conditional order of 0.5."""
    price = Decimal(trigger) if trigger else None
    return a_place(number, side, "0.5", order_type=order_type, trigger_price=price, **changes)


def a_market(*events: object) -> PaperVenue:
    """A venue that saw a quote and a mark of 60000, and then `events`."""
    venue = a_venue()
    feed(venue, a_quote(1), a_mark(1, "60000"), *events)  # type: ignore[arg-type]
    return venue


@pytest.mark.parametrize(
    ("side", "order_type", "trigger", "short_of_it", "at_it"),
    [
        (Side.SELL, OrderType.STOP_MARKET, "59000", "59000.1", "59000"),
        (Side.BUY, OrderType.STOP_MARKET, "61000", "60999.9", "61000"),
        (Side.SELL, OrderType.TAKE_PROFIT_MARKET, "61000", "60999.9", "61000"),
        (Side.BUY, OrderType.TAKE_PROFIT_MARKET, "59000", "59000.1", "59000"),
    ],
)
def test_conditional_order_triggers_on_the_mark_and_takes_the_book(
    side: Side, order_type: OrderType, trigger: str, short_of_it: str, at_it: str
) -> None:
    venue = a_market()
    assert kinds(feed(venue, a_stop(trigger, side, order_type))) == [ACCEPTED]
    assert feed(venue, a_mark(2, short_of_it, seconds=1)) == []
    reports = feed(venue, a_mark(3, at_it, seconds=2))
    assert kinds(reports) == [TRIGGERED, FILL]
    assert fills(reports) == [("60000" if side is Side.BUY else "59999.9", "0.5")]


def test_trades_do_not_trigger_once_a_mark_was_seen() -> None:
    venue = a_market()
    feed(venue, a_stop("59000"))
    assert feed(venue, a_trade(1, "58000", seconds=1)) == []


def test_trades_trigger_where_no_mark_was_ever_seen() -> None:
    venue = a_venue()
    feed(venue, a_quote(1), a_trade(1, "60000"), a_stop("59000"))
    assert kinds(feed(venue, a_trade(2, "59000", seconds=1))) == [TRIGGERED, FILL]


def test_trailing_stop_follows_the_best_price() -> None:
    venue = a_market(a_stop(None, order_type=OrderType.TRAILING_STOP_MARKET, callback_rate=Decimal("0.01")))
    assert feed(venue, a_mark(2, "62000", seconds=1), a_mark(3, "61380.1", seconds=2)) == []
    assert kinds(feed(venue, a_mark(4, "61380", seconds=3))) == [TRIGGERED, FILL]


def test_trailing_buy_follows_downwards() -> None:
    venue = a_market(a_stop(None, Side.BUY, OrderType.TRAILING_STOP_MARKET, callback_rate=Decimal("0.01")))
    assert feed(venue, a_mark(2, "58000", seconds=1), a_mark(3, "58579.9", seconds=2)) == []
    assert kinds(feed(venue, a_mark(4, "58580", seconds=3))) == [TRIGGERED, FILL]


def test_trailing_stop_waits_for_its_activation_price() -> None:
    venue = a_market(a_stop("61000", order_type=OrderType.TRAILING_STOP_MARKET, callback_rate=Decimal("0.01")))
    assert feed(venue, a_mark(2, "59000", seconds=1), a_mark(3, "61000", seconds=2)) == []
    assert kinds(feed(venue, a_mark(4, "60390", seconds=3))) == [TRIGGERED, FILL]


def test_triggered_reduction_without_a_position_expires() -> None:
    venue = a_market(a_stop("59000", reduce_only=True))
    assert kinds(feed(venue, a_mark(2, "58000", seconds=1))) == [TRIGGERED, EXPIRED]


def test_order_sent_at_a_bars_close_fills_at_the_next_open() -> None:
    venue = a_venue(latency_ms=50, slippage_bps="0")
    feed(venue, an_exchange_bar(0, ("60000", "60100", "59900", "60050")), a_place(quantity="0.5", seconds=60))
    reports = feed(venue, an_exchange_bar(1, ("60060", "60200", "60000", "60100")))
    assert fills(reports) == [("60060", "0.5")]


def test_ticks_between_bars_do_not_let_an_order_in_early() -> None:
    venue = a_venue(latency_ms=50, slippage_bps="0")
    feed(venue, an_exchange_bar(0, ("60000", "60100", "59900", "60050")), a_place(quantity="0.5", seconds=60))
    assert feed(venue, a_tick(61), a_tick(120)) == []
    assert fills(feed(venue, an_exchange_bar(1, ("60060", "60200", "60000", "60100")))) == [("60060", "0.5")]


def test_order_that_arrives_inside_a_bar_gets_its_close() -> None:
    venue = a_venue(latency_ms=50, slippage_bps="0")
    feed(venue, an_exchange_bar(0, ("60000", "60100", "59900", "60050")), a_place(quantity="0.5", seconds=90))
    reports = feed(venue, an_exchange_bar(1, ("60060", "60200", "60000", "60100")))
    assert fills(reports) == [("60100", "0.5")]


def test_limit_in_a_bar_needs_the_price_to_go_through() -> None:
    venue = a_venue()
    feed(venue, an_exchange_bar(0, ("60000", "60000", "60000", "60000")), a_place(limit="59900", seconds=60))
    touched = feed(venue, an_exchange_bar(1, ("60000", "60100", "59900", "60050")))
    assert kinds(touched) == [ACCEPTED]
    through = feed(venue, an_exchange_bar(2, ("60000", "60100", "59899.9", "60050")))
    assert fills(through) == [("59900", "1")]


def test_limit_in_a_bar_fills_at_most_the_bars_volume() -> None:
    venue = a_venue()
    feed(venue, an_exchange_bar(0, ("60000", "60000", "60000", "60000")), a_place(limit="59900", seconds=60))
    assert fills(feed(venue, an_exchange_bar(1, ("60000", "60100", "59800", "60050"), "0.3"))) == [("59900", "0.3")]


def test_stop_is_met_before_the_target_within_one_bar() -> None:
    venue = a_venue(slippage_bps="0")
    feed(venue, an_exchange_bar(0, ("60000", "60000", "60000", "60000")), a_place(1, quantity="0.5", seconds=60))
    feed(venue, an_exchange_bar(1, ("60000", "60000", "60000", "60000")))
    stop = a_stop("59500", number=2, reduce_only=True, event_time=0)
    target = a_stop("60500", Side.SELL, OrderType.TAKE_PROFIT_MARKET, 3, reduce_only=True, event_time=0)
    reports = feed(venue, stop, target, an_exchange_bar(2, ("60000", "60600", "59400", "60550")))
    assert fills(reports) == [("59500", "0.5")]
    assert [(r.client_order_id, r.kind) for r in reports][-1] == ("client-3", EXPIRED)
    assert venue.position_of(BTC) == 0


def test_stop_that_a_bar_opens_beyond_fills_at_the_open() -> None:
    venue = a_venue(slippage_bps="0")
    feed(venue, an_exchange_bar(0, ("60000", "60000", "60000", "60000")), a_stop("59500", event_time=0))
    feed(venue, an_exchange_bar(1, ("60000", "60000", "60000", "60000")))
    reports = feed(venue, an_exchange_bar(2, ("59000", "59600", "58900", "59500")))
    assert fills(reports) == [("59000", "0.5")]


def test_history_bars_are_not_a_market() -> None:
    venue = a_venue()
    bar = an_exchange_bar(1, ("60000", "60100", "59900", "60050"), is_history=True)
    assert feed(venue, a_place(quantity="0.5"), bar) == []


def test_bars_are_ignored_where_ticks_are_the_market() -> None:
    venue = a_venue()
    feed(venue, a_quote(1), a_place(limit="59000"))
    assert feed(venue, an_exchange_bar(1, ("60000", "60100", "58000", "60050"))) == []


def test_path_meets_the_extreme_that_hurts_first() -> None:
    bar = an_exchange_bar(0, ("2", "4", "1", "3"))
    low, high = bar.low_e8, bar.high_e8
    assert path_of(bar, position=1)[1:3] == (low, high)
    assert path_of(bar, position=-1)[1:3] == (high, low)
    assert path_of(bar, position=0)[1:3] == (low, high)


def test_order_fills_at_the_close_it_was_decided_on_where_that_is_asked_for() -> None:
    venue = a_venue(latency_ms=50, slippage_bps="0", bar_fill=BarFill.CLOSE)
    feed(venue, an_exchange_bar(0, ("60000", "60100", "59900", "60050")))
    assert fills(feed(venue, a_place(quantity="0.5", seconds=60))) == [("60050", "0.5")]


def test_taker_fills_at_the_worst_price_of_the_next_bar_where_that_is_asked_for() -> None:
    venue = a_venue(slippage_bps="0", bar_fill=BarFill.WORST)
    feed(venue, an_exchange_bar(0, ("60000", "60100", "59900", "60050")), a_place(quantity="0.5", seconds=60))
    assert fills(feed(venue, an_exchange_bar(1, ("60060", "60200", "60000", "60100")))) == [("60200", "0.5")]
    feed(venue, a_place(2, side=Side.SELL, quantity="0.5", seconds=150))
    assert fills(feed(venue, an_exchange_bar(2, ("60060", "60200", "59800", "60100")))) == [("59800", "0.5")]
