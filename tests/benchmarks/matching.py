"""Market events per second through the paper venue and through execution's core, with a few orders open.

Run as `python -m tests.benchmarks.matching [--events N]`; prints one line of JSON per case.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from decimal import Decimal

from libs.domain.events import Event
from libs.domain.instruments import find_instrument
from libs.domain.market import BestQuote, DepthDelta, DepthSnapshot, MarketEvent, Side, Trade
from libs.domain.orders import OrderType, PlaceOrder, TimeInForce
from libs.matching import PaperVenue
from services.execution.core import ExecutionCore

INSTRUMENT = "BTCUSDT.BINANCE"
TICK = 10_000_000
MIDDLE = 60_000 * 100_000_000
MS = 1_000_000
DEPTH_LEVELS = 30


def make_quotes_and_trades(count: int) -> list[MarketEvent]:
    """Return quotes and trades in turn, the price moving over a hundred ticks."""
    events: list[MarketEvent] = []
    for i in range(count):
        at = i * MS
        bid = MIDDLE + (i // 20 % 100) * TICK
        quantity = (1 + i % 7) * 10_000_000
        if i % 3:
            events.append(BestQuote(INSTRUMENT, f"q{i}", at, at, i, bid, quantity, bid + TICK, quantity))
        else:
            events.append(Trade(INSTRUMENT, f"t{i}", at, at, bid, quantity, i % 2 == 0, i))
    return events


def make_depth(count: int) -> list[MarketEvent]:
    """Return a snapshot and then deltas of 30 levels a side."""
    prices = [MIDDLE - i * TICK for i in range(1, 1001)], [MIDDLE + i * TICK for i in range(1, 1001)]
    whole = (100_000_000,) * 1000
    events: list[MarketEvent] = [
        DepthSnapshot(INSTRUMENT, "s", 0, 0, 1, tuple(prices[0]), whole, tuple(prices[1]), whole)
    ]
    for i in range(1, count):
        start = i % 50
        bids, asks = prices[0][start : start + DEPTH_LEVELS], prices[1][start : start + DEPTH_LEVELS]
        quantities = tuple((i + level) % 5 * 10_000_000 for level in range(DEPTH_LEVELS))
        events.append(
            DepthDelta(
                INSTRUMENT, f"d{i}", i * MS, i * MS, i + 1, i + 1, i, tuple(bids), quantities, tuple(asks), quantities
            )
        )
    return events


def an_order(number: int) -> PlaceOrder:
    """Return a resting buy far enough below the market to stay open."""
    return PlaceOrder(
        f"place/{number}",
        0,
        "paper",
        INSTRUMENT,
        f"client-{number}",
        f"intent-{number}",
        f"verdict-{number}",
        Side.BUY,
        OrderType.LIMIT,
        Decimal("0.01"),
        TimeInForce.GTC,
        False,
        limit_price=Decimal("59990") - number,
    )


def a_venue(open_orders: int) -> PaperVenue:
    """Return a venue with resting orders."""
    venue = PaperVenue("paper", [find_instrument(INSTRUMENT)])
    for number in range(open_orders):
        venue.handle(an_order(number))
    return venue


def measure(name: str, events: list[MarketEvent], handle: Callable[[Event], object]) -> None:
    """Feed the events, the first tenth unmeasured, and print the rate."""
    warm_up = len(events) // 10
    for event in events[:warm_up]:
        handle(event)
    started = time.perf_counter()
    for event in events[warm_up:]:
        handle(event)
    elapsed = time.perf_counter() - started
    rate = (len(events) - warm_up) / elapsed
    print(json.dumps({"case": name, "events_per_second": round(rate), "microseconds": round(1e6 / rate, 2)}))


def main() -> None:
    """Measure every case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=200_000)
    count = parser.parse_args().events
    ticks, depth = make_quotes_and_trades(count), make_depth(max(1000, count // 10))
    for open_orders in (0, 3, 20):
        measure(f"paper venue, quotes and trades, {open_orders} open orders", ticks, a_venue(open_orders).handle)
        measure(f"paper venue, depth of 2x30 levels, {open_orders} open orders", depth, a_venue(open_orders).handle)
    core = ExecutionCore("paper", Decimal(10_000), venue=a_venue(3))
    measure("execution core, quotes and trades, 3 open orders", ticks, core.handle)


if __name__ == "__main__":
    main()
