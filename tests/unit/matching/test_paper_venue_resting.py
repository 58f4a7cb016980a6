"""Orders that rest: their place in the queue, what fills them, and cancels."""

from __future__ import annotations

from libs.domain.market import Side
from libs.domain.orders import Liquidity, ReportKind
from libs.matching import PaperVenue
from tests.kit.builders import BTC, a_quote, a_tick, a_trade
from tests.unit.matching.builders import a_cancel, a_delta, a_depth, a_place, a_venue, feed, fills, kinds

BOOK = a_depth([("100000", "4"), ("99999", "2")], [("100001", "3")])


def a_resting_buy(limit: str = "100000", quantity: str = "1") -> PaperVenue:
    """A venue where a buy rests behind what BOOK shows at its price."""
    venue = a_venue()
    assert kinds(feed(venue, BOOK, a_place(limit=limit, quantity=quantity))) == [ReportKind.ACCEPTED]
    return venue


def sold(price: str, quantity: str, seconds: float = 1, number: int = 1):  # type: ignore[no-untyped-def]
    return a_trade(number, price, quantity, seconds, is_buyer_maker=True)


def test_trade_fills_only_what_goes_past_the_queue_ahead() -> None:
    venue = a_resting_buy()
    assert feed(venue, sold("100000", "3")) == []
    reports = feed(venue, sold("100000", "1.4", 2))
    assert fills(reports) == [("100000", "0.4")]
    assert reports[0].liquidity is Liquidity.MAKER
    assert fills(feed(venue, sold("100000", "9", 3))) == [("100000", "0.6")]
    assert venue.open_order_ids() == []


def test_takers_buying_at_our_bid_do_not_fill_it() -> None:
    venue = a_resting_buy()
    assert feed(venue, a_trade(1, "100000", "50", 1)) == []


def test_trade_through_the_price_fills_at_our_price_at_most_what_was_traded() -> None:
    venue = a_resting_buy()
    assert fills(feed(venue, sold("99999.5", "0.3"))) == [("100000", "0.3")]
    assert fills(feed(venue, sold("99999", "5", 2))) == [("100000", "0.7")]


def test_opposite_quote_through_the_price_fills() -> None:
    venue = a_resting_buy(quantity="2")
    reports = feed(venue, a_quote(9, "99998", "99999", seconds=1))
    assert fills(reports) == [("100000", "1")]


def test_cancelled_quantity_moves_us_up_in_proportion() -> None:
    venue = a_resting_buy()
    # Two join behind us, then three of six cancel: two of our four ahead are thought to be among them.
    feed(venue, a_delta([("100000", "6")], seconds=1, number=2), a_delta([("100000", "3")], seconds=2, number=3))
    assert feed(venue, sold("100000", "2", 3)) == []
    assert fills(feed(venue, sold("100000", "0.5", 4))) == [("100000", "0.5")]


def test_decrease_explained_by_trades_is_not_counted_again() -> None:
    venue = a_resting_buy()
    feed(venue, a_delta([("100000", "8")], seconds=1, number=2))
    feed(venue, sold("100000", "2", 2), a_delta([("100000", "6")], seconds=3, number=3))
    assert feed(venue, sold("100000", "2", 4)) == []
    assert fills(feed(venue, sold("100000", "0.1", 5))) == [("100000", "0.1")]


def test_queue_never_exceeds_what_is_displayed() -> None:
    venue = a_resting_buy()
    feed(venue, a_quote(9, "100000", "100001", seconds=1))
    assert fills(feed(venue, sold("100000", "1.5", 2))) == [("100000", "0.5")]


def test_order_inside_the_spread_is_first_in_its_queue() -> None:
    venue = a_resting_buy(limit="100000.5")
    assert fills(feed(venue, sold("100000.5", "0.2"))) == [("100000.5", "0.2")]


def test_order_at_an_unknown_level_fills_only_when_the_price_goes_through() -> None:
    venue = a_venue()
    feed(venue, a_trade(1, "100000"), a_place(limit="99000"))
    assert feed(venue, sold("99000", "50")) == []
    assert fills(feed(venue, sold("98999.9", "50", 2))) == [("99000", "1")]


def test_better_price_fills_first_then_earlier_time() -> None:
    venue = a_venue()
    feed(venue, BOOK)
    for number, limit in enumerate(("99990", "99995", "99990"), start=1):
        feed(venue, a_place(number, limit=limit))
    reports = feed(venue, sold("99980", "2.5"))
    assert [(r.client_order_id, str(r.last_quantity)) for r in reports] == [
        ("client-2", "1.00000000"),
        ("client-1", "1.00000000"),
        ("client-3", "0.50000000"),
    ]


def test_partial_fill_then_cancel_leaves_what_was_filled() -> None:
    venue = a_resting_buy()
    feed(venue, sold("100000", "4.25"))
    reports = feed(venue, a_cancel(seconds=1))
    assert kinds(reports) == [ReportKind.CANCELLED]
    assert str(venue.position_of(BTC)) == "0.25000000"
    assert feed(venue, sold("99990", "9", 3)) == []


def test_cancel_takes_its_latency_and_may_lose_the_race() -> None:
    venue = a_venue(latency_ms=100)
    feed(venue, BOOK, a_place(limit="100000"), a_tick(1))
    reports = feed(venue, a_cancel(seconds=1), sold("99990", "9", 1.05), a_tick(2))
    assert kinds(reports) == [ReportKind.FILL, ReportKind.CANCEL_REJECTED]
    assert reports[1].reason.startswith("-2011")


def test_cancel_of_an_unknown_order_is_rejected() -> None:
    assert kinds(feed(a_venue(), BOOK, a_cancel(7))) == [ReportKind.CANCEL_REJECTED]


def test_resting_reduction_expires_when_the_position_is_gone() -> None:
    venue = a_venue()
    feed(venue, BOOK, a_place(1, quantity="1"))
    feed(venue, a_place(2, side=Side.SELL, limit="100100", reduce_only=True))
    reports = feed(venue, a_place(3, side=Side.SELL, quantity="1"))
    assert ("client-2", ReportKind.EXPIRED) in [(r.client_order_id, r.kind) for r in reports]
    assert venue.open_order_ids() == []
