"""Orders that take: what they get, when they arrive, and what the filters refuse."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from libs.domain.market import Side
from libs.domain.orders import Liquidity, OrderType, PlaceOrder, ReportKind, TimeInForce
from libs.matching import BarFill
from tests.kit.builders import BTC, START, a_mark, a_quote, a_tick, a_trade
from tests.unit.matching.builders import a_delta, a_depth, a_place, a_venue, an_exchange_bar, feed, fills, kinds

ACCEPTED, REJECTED, FILL, EXPIRED = ReportKind.ACCEPTED, ReportKind.REJECTED, ReportKind.FILL, ReportKind.EXPIRED
BOOK = a_depth([("59999", "1"), ("59998", "2")], [("60000", "1"), ("60001", "2"), ("60005", "3")])


def test_market_order_walks_the_known_levels() -> None:
    reports = feed(a_venue(), BOOK, a_place(quantity="2.5"))
    assert kinds(reports) == [ACCEPTED, FILL, FILL]
    assert fills(reports) == [("60000", "1"), ("60001", "1.5")]
    assert {report.liquidity for report in reports[1:]} == {Liquidity.TAKER}


def test_sell_walks_the_bids() -> None:
    assert fills(feed(a_venue(), BOOK, a_place(side=Side.SELL, quantity="2"))) == [("59999", "1"), ("59998", "1")]


def test_remainder_beyond_the_known_levels_pays_the_documented_slippage() -> None:
    reports = feed(a_venue(slippage_bps="10"), a_quote(bid="59999.9", ask="60000"), a_place(quantity="2"))
    # One known, one more: 60000 x (1 + 10 bps x (1 + 1/1)).
    assert fills(reports) == [("60000", "1"), ("60120", "1")]


def test_market_order_does_not_fill_outside_the_price_band() -> None:
    reports = feed(a_venue(slippage_bps="100"), a_quote(bid="59999.9", ask="60000"), a_place(quantity="9"))
    assert fills(reports) == [("60000", "1")]
    assert reports[-1].kind is EXPIRED and "band" in reports[-1].reason


def test_order_fills_against_the_book_at_its_arrival_not_at_its_sending() -> None:
    venue = a_venue(latency_ms=100)
    reports = feed(
        venue,
        a_quote(1, "59999.9", "60000", seconds=0),
        a_place(quantity="0.5"),
        a_quote(2, "60009.9", "60010", seconds=0.09),
        a_quote(3, "60019.9", "60020", seconds=0.11),
    )
    assert fills(reports) == [("60010", "0.5")]
    assert reports[0].event_time == START + 100_000_000


def test_latency_counts_from_the_command_when_it_is_ahead_of_the_market() -> None:
    venue = a_venue(latency_ms=100)
    early = feed(venue, a_quote(1), a_place(quantity="0.5", seconds=5), a_quote(2, seconds=5.05))
    assert early == []
    assert kinds(feed(venue, a_quote(3, seconds=5.1))) == [ACCEPTED, FILL]


def test_command_with_a_foreign_clock_goes_by_the_market() -> None:
    venue = a_venue(latency_ms=100)
    reports = feed(venue, a_quote(1), a_place(quantity="0.5", seconds=10_000_000), a_quote(2, seconds=0.2))
    assert kinds(reports) == [ACCEPTED, FILL]


def test_order_before_any_market_waits_for_it() -> None:
    venue = a_venue(latency_ms=100)
    assert feed(venue, a_place(quantity="0.5", seconds=1)) == []
    assert fills(feed(venue, a_quote(1, seconds=0.5), a_quote(2, "60009.9", "60010", seconds=2))) == [("60000", "0.5")]


def test_market_order_without_liquidity_waits_and_then_expires() -> None:
    venue = a_venue()
    reports = feed(venue, a_tick(0), a_place(quantity="0.5"), a_tick(9), a_tick(10))
    assert kinds(reports) == [ACCEPTED, EXPIRED]
    assert reports[-1].reason == "no liquidity within 10 s"


def test_market_order_without_liquidity_fills_when_it_comes() -> None:
    reports = feed(a_venue(), a_tick(0), a_place(quantity="0.5"), a_tick(5), a_quote(1, seconds=6), a_tick(20))
    assert kinds(reports) == [ACCEPTED, FILL]


def test_trades_alone_are_a_market_with_slippage() -> None:
    reports = feed(a_venue(slippage_bps="2"), a_trade(1, "60000"), a_place(quantity="0.5"))
    assert fills(reports) == [("60012", "0.5")]


def test_same_liquidity_is_not_taken_twice() -> None:
    venue = a_venue()
    feed(venue, BOOK, a_place(1, quantity="1"))
    assert fills(feed(venue, a_place(2, quantity="1"))) == [("60001", "1")]
    feed(venue, a_delta(asks=[("60000", "1")], seconds=1))
    assert fills(feed(venue, a_place(3, quantity="1"))) == [("60000", "1")]


def test_crossing_limit_takes_up_to_its_price_and_rests_with_the_remainder() -> None:
    venue = a_venue()
    reports = feed(venue, BOOK, a_place(quantity="5", limit="60001"))
    assert fills(reports) == [("60000", "1"), ("60001", "2")]
    assert venue.open_order_ids() == ["client-1"]


def test_immediate_or_cancel_expires_with_its_remainder() -> None:
    reports = feed(a_venue(), BOOK, a_place(quantity="2", limit="60000", time_in_force=TimeInForce.IOC))
    assert kinds(reports) == [ACCEPTED, FILL, EXPIRED]


def test_fill_or_kill_is_all_or_nothing() -> None:
    venue = a_venue()
    refused = feed(venue, BOOK, a_place(1, quantity="3.5", limit="60001", time_in_force=TimeInForce.FOK))
    assert kinds(refused) == [REJECTED] and refused[0].reason.startswith("-5021")
    filled = feed(venue, a_place(2, quantity="3", limit="60001", time_in_force=TimeInForce.FOK))
    assert fills(filled) == [("60000", "1"), ("60001", "2")]


def test_post_only_is_rejected_when_it_would_take_and_rests_otherwise() -> None:
    venue = a_venue()
    refused = feed(venue, BOOK, a_place(1, limit="60000", time_in_force=TimeInForce.GTX))
    assert kinds(refused) == [REJECTED] and refused[0].reason.startswith("-5022")
    assert kinds(feed(venue, a_place(2, limit="59999.9", time_in_force=TimeInForce.GTX))) == [ACCEPTED]


def test_reduce_only_without_a_position_is_rejected() -> None:
    reports = feed(a_venue(), BOOK, a_place(side=Side.SELL, reduce_only=True))
    assert kinds(reports) == [REJECTED] and reports[0].reason.startswith("-2022")


def test_reduce_only_never_turns_the_position_over() -> None:
    venue = a_venue()
    feed(venue, BOOK, a_place(1, quantity="1"))
    reports = feed(venue, a_place(2, side=Side.SELL, quantity="3", reduce_only=True))
    assert kinds(reports) == [ACCEPTED, FILL, EXPIRED]
    assert venue.position_of(BTC) == 0


def test_fee_is_the_takers_rate_of_notional() -> None:
    reports = feed(a_venue(), BOOK, a_place(quantity="1"))
    assert reports[1].fee == Decimal("30.00000000")


def test_duplicate_client_order_id_makes_no_second_order() -> None:
    venue = a_venue(latency_ms=100)
    reports = feed(venue, BOOK, a_place(1), a_place(1), a_tick(1))
    assert kinds(reports) == [REJECTED, ACCEPTED, FILL]
    assert reports[0].reason.startswith("-4116")
    assert kinds(feed(venue, a_place(1))) == [REJECTED]


def test_own_resting_order_expires_rather_than_trade_with_us() -> None:
    venue = a_venue()
    feed(venue, BOOK, a_place(1, side=Side.SELL, limit="60000", time_in_force=TimeInForce.GTX))
    reports = feed(venue, a_place(2, side=Side.BUY, quantity="2"))
    assert [(r.client_order_id, r.kind) for r in reports][:2] == [("client-2", ACCEPTED), ("client-1", EXPIRED)]


@pytest.mark.parametrize(
    ("code", "command"),
    [
        ("-1121", a_place(instrument="DOGEUSDT.BINANCE")),
        ("-4003", a_place(quantity="0")),
        ("-4003", a_place(quantity="NaN")),
        ("-4004", a_place(quantity="0.0001")),
        ("-4005", a_place(quantity="121")),
        ("-4005", a_place(quantity="1001", limit="60000")),
        ("-4023", a_place(quantity="1.0005")),
        ("-1111", a_place(quantity="1.000000001")),
        ("-1102", a_place(limit="60000", limit_price=None)),
        ("-4001", a_place(limit="-1")),
        ("-4001", a_place(limit="Infinity")),
        ("-4014", a_place(limit="60000.05")),
        ("-4016", a_place(limit="63100")),
        ("-4024", a_place(side=Side.SELL, limit="56900")),
        ("-4164", a_place(quantity="0.001")),
        ("-4164", a_place(quantity="0.001", limit="60000")),
        ("-1102", a_place(order_type=OrderType.STOP_MARKET)),
        ("-4014", a_place(order_type=OrderType.STOP_MARKET, trigger_price=Decimal("61000.01"))),
        ("-1102", a_place(order_type=OrderType.TRAILING_STOP_MARKET)),
        ("-2007", a_place(order_type=OrderType.TRAILING_STOP_MARKET, callback_rate=Decimal("0.5"))),
        ("-2021", a_place(order_type=OrderType.STOP_MARKET, trigger_price=Decimal("59000"))),
    ],
)
def test_filters_refuse_with_binances_code(code: str, command: PlaceOrder) -> None:
    reports = feed(a_venue(), BOOK, a_mark(price="60000"), command)
    assert kinds(reports) == [REJECTED]
    assert reports[0].reason.startswith(code), reports[0].reason


def test_open_order_limit_is_enforced() -> None:
    venue = a_venue()
    feed(venue, BOOK)
    for number in range(200):
        assert kinds(feed(venue, a_place(number, limit="59000", quantity="0.01"))) == [ACCEPTED]
    refused = feed(venue, a_place(201, limit="59000", quantity="0.01"))
    assert refused[0].reason.startswith("-2025")


def test_reduction_is_exempt_from_the_minimum_notional() -> None:
    venue = a_venue()
    feed(venue, BOOK, a_place(1, quantity="0.002"))
    assert kinds(feed(venue, a_place(2, side=Side.SELL, quantity="0.001", reduce_only=True))) == [ACCEPTED, FILL]


def test_another_accounts_commands_are_not_ours() -> None:
    assert feed(a_venue(), BOOK, replace(a_place(), account="other")) == []


@pytest.mark.parametrize(
    ("quantity", "price"),
    # A hundredth of a bar's volume of 40 adds a tenth of the 100 bps, a quarter half, a whole one all.
    [("0.4", "60072"), ("10", "60312"), ("40", "60612")],
)
def test_impact_grows_with_the_root_of_the_share_of_the_last_bar(quantity: str, price: str) -> None:
    venue = a_venue(slippage_bps="2", bar_fill=BarFill.CLOSE, impact_bps="100")
    bar = an_exchange_bar(0, ("60000", "60000", "60000", "60000"), volume="40")
    ((paid, filled),) = fills(feed(venue, bar, a_place(quantity=quantity, seconds=60)))
    assert (Decimal(paid), filled) == (Decimal(price), quantity)


def test_impact_is_of_markets_of_bars_alone() -> None:
    venue = a_venue(slippage_bps="2", impact_bps="100")
    assert fills(feed(venue, a_trade(price="60000"), a_place(quantity="10"))) == [("60012", "10")]
