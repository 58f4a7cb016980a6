"""Builders of commands, depth and bars for the venue's tests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from libs.domain.events import Event
from libs.domain.instruments import find_instrument
from libs.domain.market import DepthDelta, DepthSnapshot, ExchangeBar, Side
from libs.domain.numbers import NANOSECONDS, SCALE
from libs.domain.orders import CancelOrder, OrderType, PlaceOrder, ReportKind, TimeInForce, VenueReport
from libs.matching import BarFill, FeeModel, LatencyModel, MatchingTerms, PaperVenue
from tests.kit.builders import BTC, START

Levels = Iterable[tuple[str, str]]


def a_place(
    number: int = 1,
    side: Side = Side.BUY,
    quantity: str = "1",
    limit: str | None = None,
    seconds: float = 0,
    **changes: Any,
) -> PlaceOrder:
    """A market order, or with `limit` a limit order."""
    command = PlaceOrder(
        event_id=f"place/client-{number}",
        event_time=START + round(seconds * NANOSECONDS),
        account="paper",
        instrument=BTC,
        client_order_id=f"client-{number}",
        intent_id=f"intent-{number}",
        verdict_id=f"verdict/intent-{number}",
        side=side,
        order_type=OrderType.LIMIT if limit else OrderType.MARKET,
        quantity=Decimal(quantity),
        time_in_force=TimeInForce.GTC,
        reduce_only=False,
        limit_price=Decimal(limit) if limit else None,
    )
    return replace(command, **changes)


def a_cancel(number: int = 1, seconds: float = 0) -> CancelOrder:
    """A cancel of `a_place(number)`."""
    at = START + round(seconds * NANOSECONDS)
    return CancelOrder(f"cancel/client-{number}/x", at, "paper", BTC, f"client-{number}", "x")


def a_depth(bids: Levels = (), asks: Levels = (), seconds: float = 0, number: int = 1) -> DepthSnapshot:
    """A whole book."""
    at = START + round(seconds * NANOSECONDS)
    return DepthSnapshot(BTC, f"{BTC}/snapshot/{number}", at, at, number, *_scale(bids), *_scale(asks))


def a_delta(
    bids: Levels = (), asks: Levels = (), seconds: float = 0, number: int = 2, before: int | None = None
) -> DepthDelta:
    """Changed levels; `before` is the update id that it continues."""
    at = START + round(seconds * NANOSECONDS)
    previous = number - 1 if before is None else before
    return DepthDelta(BTC, f"{BTC}/depth/{number}", at, at, number, number, previous, *_scale(bids), *_scale(asks))


def an_exchange_bar(
    number: int, prices: tuple[str, str, str, str], volume: str = "10", *, is_history: bool = False
) -> ExchangeBar:
    """The bar `number` minutes after START; `prices` are open, high, low, close."""
    opens = START + number * 60 * NANOSECONDS
    closes = opens + 60 * NANOSECONDS
    first, high, low, last = (int(Decimal(price) * SCALE) for price in prices)
    return ExchangeBar(
        BTC,
        f"{BTC}/kline/{number}",
        closes,
        closes,
        "1m",
        opens,
        closes,
        first,
        high,
        low,
        last,
        int(Decimal(volume) * SCALE),
        None,
        None,
        None,
        is_history,
    )


def a_venue(
    latency_ms: int = 0, slippage_bps: str = "2", bar_fill: BarFill = BarFill.NEXT_OPEN, impact_bps: str = "0"
) -> PaperVenue:
    """A paper venue of BTCUSDT; without latency a command acts as soon as a market was seen."""
    return PaperVenue(
        "paper",
        [find_instrument(BTC)],
        latency=LatencyModel(order_ns=latency_ms * 1_000_000, cancel_ns=latency_ms * 1_000_000),
        fees=FeeModel(),
        terms=MatchingTerms(slippage_bps=Decimal(slippage_bps), bar_fill=bar_fill, impact_bps=Decimal(impact_bps)),
    )


def feed(venue: PaperVenue, *events: Event) -> list[VenueReport]:
    """Hand the events over in order and return all reports."""
    return [report for event in events for report in venue.handle(event)]


def kinds(reports: list[VenueReport]) -> list[ReportKind]:
    """The kinds of some reports."""
    return [report.kind for report in reports]


def fills(reports: list[VenueReport]) -> list[tuple[str, str]]:
    """Price and quantity of each fill, written plainly."""
    return [
        (f"{report.last_price:f}".rstrip("0").rstrip("."), f"{report.last_quantity.normalize():f}")
        for report in reports
        if report.kind is ReportKind.FILL and report.last_quantity is not None
    ]


def _scale(levels: Levels) -> tuple[tuple[int, ...], tuple[int, ...]]:
    pairs = list(levels)
    return (
        tuple(int(Decimal(price) * SCALE) for price, _ in pairs),
        tuple(int(Decimal(quantity) * SCALE) for _, quantity in pairs),
    )
