"""The book of bars is the whole one: it grows with what the venue shows, and no further than any market goes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.market import DepthDelta, DepthSnapshot
from libs.domain.market_columns import columns_of
from libs.domain.numbers import SCALE
from services.bars.core import book, series
from services.bars.core.book import LEVELS
from services.bars.core.series import BarSeries
from tests.kit.builders import BTC, START

Side = dict[int, int]
CHANGES = st.dictionaries(st.integers(1, 40), st.integers(0, 5), max_size=12)


def a_book(last: int, bids: Side, asks: Side) -> DepthSnapshot:
    return DepthSnapshot(BTC, f"s/{last}", START, START, last, *best_first(bids, 1), *best_first(asks, -1))


def a_change(number: int, bids: Side, asks: Side) -> DepthDelta:
    at = START + number
    sides = (*best_first(bids, 1), *best_first(asks, -1))
    return DepthDelta(BTC, f"d/{number}", at, at, number, number, number - 1, *sides)


def best_first(levels: Side, sign: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    prices = sorted(levels, key=lambda price: -sign * price)
    return tuple(prices), tuple(levels[price] for price in prices)


def held(one: BarSeries) -> tuple[Side, Side]:
    kept = one.state()
    sides = []
    for count, at, sign in (("bids", 0, 1), ("asks", 2, -1)):
        keys, quantities = kept.ladders[at : at + 2]
        assert int(kept.head[count][0]) == len(keys)
        assert (np.diff(keys) > 0).all()
        sides.append({sign * key: size for key, size in zip(keys.tolist(), quantities.tolist(), strict=True)})
    return sides[0], sides[1]


def a_series() -> BarSeries:
    one = BarSeries(BTC, ("1m",), 0)
    one.start(START)
    return one


@settings(deadline=None, max_examples=40)
@given(st.lists(st.tuples(CHANGES, CHANGES), max_size=25), st.integers(0, 25))
def test_every_level_is_held_as_it_was_last_said_over_a_restart_too(changes: list[tuple[Side, Side]], cut: int) -> None:
    one = a_series()
    one.take_snapshot(a_book(1, {10: 1}, {90: 1}))
    bids, asks = {10: 1}, {90: 1}
    for number, (bid_changes, ask_changes) in enumerate(changes, 2):
        if number == cut:
            kept, one = one.state(), a_series()
            one.restore(kept)
        far = {price + 50: quantity for price, quantity in ask_changes.items()}
        one.take_delta(a_change(number, bid_changes, far))
        bids, asks = bids | bid_changes, asks | far
    assert held(one) == tuple({price: size for price, size in side.items() if size} for side in (bids, asks))


def test_levels_behind_a_thousand_that_vanish_are_still_there() -> None:
    one = a_series()
    bids = dict.fromkeys(range(1, 3001), SCALE)
    one.take_snapshot(a_book(1, bids, {4_000: SCALE}))
    one.take_delta(a_change(2, dict.fromkeys(range(501, 3001), 0), {}))
    assert held(one)[0] == dict.fromkeys(range(1, 501), SCALE)
    one.take_delta(a_change(3, {}, dict.fromkeys(range(4001, 9001), 2 * SCALE)))
    assert len(held(one)[1]) == 5_001


def test_passing_changes_as_columns_leaves_the_book_that_taking_each_leaves() -> None:
    # Sides grow past the room they begin with, lose levels from the middle and from the top, and get them back.
    changes = [
        a_change(
            number,
            {(number * 7919 + step * 31) % 4_000: (number + step) % 3 * SCALE for step in range(90)},
            {5_000 + (number * 6367 + step * 17) % 3_000: (number * step) % 4 * SCALE for step in range(60)},
        )
        for number in range(2, 202)
    ]
    taken, passed = a_series(), a_series()
    for one in (taken, passed):
        one.take_snapshot(a_book(1, {4_000: SCALE}, {5_000: SCALE}))
    for change in changes:
        taken.take_delta(change)
    for begin in range(0, len(changes), 64):
        columns = columns_of(BTC, changes[begin : begin + 64])
        passed.pass_events(columns, 0, len(columns))
    assert held(passed) == held(taken)
    assert passed.slots.tobytes() == taken.slots.tobytes()
    assert min(map(len, held(taken))) > LEVELS


def test_a_book_that_only_grows_forgets_its_worst_levels_at_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (book, series):
        monkeypatch.setattr(module, "MAX_LEVELS", 1_024)
    one = a_series()
    one.take_snapshot(a_book(1, {10_000: SCALE}, {20_000: SCALE}))
    for number in range(2, 22):
        levels = range(10_000 + 100 * (number - 2), 10_000 + 100 * (number - 1))
        one.take_delta(a_change(number, dict.fromkeys(levels, SCALE), {}))
    assert one.keys.shape == (2, 1_024)
    assert sorted(held(one)[0]) == [*range(12_000 - 1_024, 12_000)]
