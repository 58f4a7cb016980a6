"""Events that are passed at once leave the venue as the same events handled one by one: reports, book, queues."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.domain.market import BestQuote, ClockTick, DepthDelta, DepthSnapshot, MarketEvent, MarkPrice, Side, Trade
from libs.domain.market_columns import columns_of, look_over
from libs.domain.orders import CancelOrder, OrderType, PlaceOrder, ReportKind, VenueReport
from libs.domain.state import StateFormat
from libs.kernels import njit
from libs.matching import PaperVenue
from libs.matching.paper_venue import PaperVenueState
from libs.matching.queue_position import share_of
from tests.kit.builders import BTC, START
from tests.unit.matching.builders import a_cancel, a_place, a_venue

TICK = 10_000_000
ETH = "ETHUSDT.BINANCE"
_STATE = StateFormat("venue", 1, PaperVenueState)
Step = MarketEvent | PlaceOrder | CancelOrder


@njit
def _compiled_share(quantity: int, part: int, whole: int) -> int:
    return share_of(quantity, part, whole)


@given(st.integers(0, 2**59), st.integers(0, 2**59), st.integers(1, 2**59))
def test_a_share_is_exact_where_the_product_leaves_64_bits(quantity: int, part: int, whole: int) -> None:
    part = min(part, whole)
    assert _compiled_share(quantity, part, whole) == quantity * part // whole


def random_steps(seed: int, count: int = 1500) -> list[Step]:
    """Return a market with orders in between: books that break and restart, old quotes, fills, stops, cancels."""
    rng = random.Random(seed)
    price, update, time, orders = 60_000_0, 100, START, 0
    steps: list[Step] = [snapshot(rng, price, update, time)]
    while len(steps) < count:
        time += rng.choice([0, 1, 5, 20]) * 10_000_000
        at = time - rng.choice([0, 0, 0, 30_000_000])
        price += rng.choice([-1, 0, 0, 1])
        drawn, number = rng.random(), len(steps)
        if drawn < 0.4:
            first, update = update + 1 + (rng.random() < 0.01), update + rng.randint(1, 3)
            previous = first - 1
            if rng.random() < 0.03:
                first, previous, final = update - 40, update - 41, update - 30
            else:
                final = update = max(update, first)
            levels = [ladder(rng, price, side) for side in (-1, 1)]
            steps.append(DepthDelta(BTC, f"d{number}", at, time, first, final, previous, *levels[0], *levels[1]))
        elif drawn < 0.65:
            quantities = rng.randint(1, 9) * 10**7, rng.randint(1, 9) * 10**7
            bid = 0 if rng.random() < 0.02 else (price - 1) * TICK
            at_update = rng.choice([0, update - 1, update, update + 1])
            steps.append(
                BestQuote(BTC, f"q{number}", at, time, at_update, bid, quantities[0], (price + 1) * TICK, quantities[1])
            )
        elif drawn < 0.9:
            traded = (price + rng.choice([-2, -1, 0, 1, 2])) * TICK
            steps.append(
                Trade(BTC, f"t{number}", at, time, traded, rng.randint(1, 50) * 10**6, rng.random() < 0.5, number)
            )
        elif drawn < 0.92:
            steps.append(ClockTick(BTC, f"c{number}", at, time))
        elif drawn < 0.93:
            steps.append(snapshot(rng, price, update - rng.choice([0, 0, 5]), at))
        elif drawn < 0.935:
            steps.append(MarkPrice(BTC, f"m{number}", at, time, price * TICK, None, 0, 0))
        elif drawn < 0.94:
            steps.append(Trade(ETH, f"e{number}", at, time, 3_000 * 10**8, 10**8, False, number))
        else:
            orders += 1
            steps.append(an_order(rng, orders, price, (time - START) / 1e9))
    return steps


def ladder(rng: random.Random, price: int, side: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    places = sorted(rng.sample(range(1, 12), rng.randint(0, 4)))
    return tuple((price + side * at) * TICK for at in places), tuple(rng.choice([0, 1, 3, 8]) * 10**7 for _ in places)


def snapshot(rng: random.Random, price: int, update: int, at: int) -> DepthSnapshot:
    sides = [
        (
            tuple((price + side * level) * TICK for level in range(1, 9)),
            tuple(rng.randint(1, 9) * 10**7 for _ in range(8)),
        )
        for side in (-1, 1)
    ]
    return DepthSnapshot(BTC, f"s{at}", at, at, update, *sides[0], *sides[1])


def an_order(rng: random.Random, number: int, price: int, seconds: float) -> PlaceOrder | CancelOrder:
    side = rng.choice(list(Side))
    drawn = rng.random()
    if drawn < 0.25:
        return a_cancel(rng.randint(1, number), seconds)
    if drawn < 0.35:
        return a_place(number, side, "0.03", seconds=seconds, reduce_only=rng.random() < 0.3)
    if drawn < 0.4:
        trigger = Decimal((price + side.sign * 3) * TICK) / 10**8
        return a_place(number, side, "0.02", seconds=seconds, order_type=OrderType.STOP_MARKET, trigger_price=trigger)
    limit = Decimal((price - side.sign * rng.randint(-1, 6)) * TICK) / 10**8
    return a_place(number, side, "0.05", f"{limit}", seconds=seconds, reduce_only=rng.random() < 0.2)


def run_plain(steps: Sequence[Step]) -> tuple[list[VenueReport], PaperVenue]:
    venue = a_venue(latency_ms=15)
    return [report for step in steps for report in venue.handle(step)], venue


def run_passing(steps: Sequence[Step], chunk: int) -> tuple[list[VenueReport], PaperVenue, int]:
    venue = a_venue(latency_ms=15)
    reports: list[VenueReport] = []
    passed = 0
    at = 0
    while at < len(steps):
        events: list[MarketEvent] = []
        while at < len(steps) and len(events) < chunk:
            step = steps[at]
            if isinstance(step, PlaceOrder | CancelOrder):
                break
            events.append(step)
            at += 1
        columns, place = columns_of(BTC, events), 0
        assert [columns.event(number) for number in range(len(events))] == events
        while place < len(events):
            stop = venue.pass_events(columns, place, len(events), bound=2**62, opened=0)
            if stop > place:
                seen = look_over(columns, place, stop, 0, is_quoted=False)
                price_e8 = None if seen.last_trade < 0 else int(columns.values[seen.last_trade, 0])
                venue.note_passed(BTC, seen.latest_time, price_e8)
            passed += stop - place
            place = stop
            if place < len(events):
                reports += venue.handle(events[place])
                place += 1
        if at < len(steps) and len(events) < chunk:
            reports += venue.handle(steps[at])
            at += 1
    return reports, venue, passed


@pytest.mark.parametrize("seed", range(8))
def test_passed_events_leave_the_venue_as_handled_ones(seed: int) -> None:
    steps = random_steps(seed)
    expected, plain = run_plain(steps)
    reports, venue, passed = run_passing(steps, chunk=300)
    assert reports == expected
    assert _STATE.encode(venue) == _STATE.encode(plain)
    assert passed > len(steps) / 2
    made = {report.kind for report in reports}
    assert {ReportKind.FILL, ReportKind.CANCELLED, ReportKind.ACCEPTED} <= made


def test_the_state_after_every_stretch_is_that_of_handled_events() -> None:
    steps = random_steps(99, count=400)
    for upto in range(10, len(steps), 37):
        assert _STATE.encode(run_passing(steps[:upto], chunk=50)[1]) == _STATE.encode(run_plain(steps[:upto])[1])
