"""The book believes the later of depth and quotes, and knows what it does not know."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from libs.domain.market import Side
from libs.domain.numbers import SCALE
from libs.domain.state import StateFormat
from libs.matching.book import UNKNOWN_QUANTITY, Book
from libs.matching.ladder import ASKS, BIDS, CAPACITY, apply_depth, new_ladder, set_level
from tests.kit.builders import a_quote
from tests.unit.matching.builders import a_delta, a_depth


def plain(levels: list[tuple[int, int]]) -> list[tuple[float, float]]:
    return [(price / SCALE, quantity / SCALE) for price, quantity in levels]


@pytest.mark.slow
def test_snapshot_sorts_both_sides_best_first() -> None:
    book = Book()
    book.apply_snapshot(a_depth([("99", "2"), ("100", "1")], [("102", "4"), ("101", "3")]))
    assert plain(book.levels(Side.BUY)) == [(100, 1), (99, 2)]
    assert plain(book.levels(Side.SELL)) == [(101, 3), (102, 4)]


def test_delta_sets_adds_and_removes_levels() -> None:
    book = Book()
    book.apply_snapshot(a_depth([("100", "1"), ("99", "2")], [("101", "3")]))
    book.apply_delta(a_delta([("100", "0"), ("98", "5")], [("101", "7")], number=2))
    assert plain(book.levels(Side.BUY)) == [(99, 2), (98, 5)]
    assert plain(book.levels(Side.SELL)) == [(101, 7)]


def test_delta_already_covered_changes_nothing() -> None:
    book = Book()
    book.apply_snapshot(a_depth([("100", "1")], [("101", "3")], number=10))
    book.apply_delta(a_delta([("100", "9")], number=9))
    assert plain(book.levels(Side.BUY)) == [(100, 1)]


def test_gap_in_the_deltas_forgets_what_was_known() -> None:
    book = Book()
    book.apply_snapshot(a_depth([("100", "1")], [("101", "3")], number=10))
    book.apply_delta(a_delta([("99", "4")], number=20, before=19))
    assert plain(book.levels(Side.BUY)) == [(99, 4)]
    assert book.levels(Side.SELL) == []
    assert not book.is_anchored


def test_chain_by_previous_id_is_no_gap() -> None:
    book = Book()
    book.apply_snapshot(a_depth([("100", "1")], [("101", "3")], number=10))
    book.apply_delta(a_delta([("99", "4")], number=20, before=10))
    assert plain(book.levels(Side.BUY)) == [(100, 1), (99, 4)]


def test_snapshot_that_deltas_overtook_is_brought_up_to_date_with_them() -> None:
    book = Book()
    book.apply_delta(a_delta([("100", "1")], number=10, before=9))
    book.apply_delta(a_delta([("99", "0")], number=11, before=10))
    book.apply_delta(a_delta([("98", "6")], number=12, before=11))
    kept = StateFormat("book", 1, Book)
    again = kept.decode(kept.encode(book))
    for each in (book, again):
        each.apply_snapshot(a_depth([("100", "1"), ("99", "2"), ("98", "3")], [("101", "3")], number=10))
        assert plain(each.levels(Side.BUY)) == [(100, 1), (98, 6)]
        assert each.is_anchored and each.update_id == 12


def test_snapshot_older_than_every_delta_that_is_kept_is_ignored() -> None:
    book = Book()
    book.apply_delta(a_delta([("100", "1")], number=10, before=9))
    book.apply_snapshot(a_depth([("90", "1")], [("91", "3")], number=5))
    assert plain(book.levels(Side.BUY)) == [(100, 1)]
    assert not book.is_anchored


def test_feed_that_counts_anew_starts_a_new_book() -> None:
    book = Book()
    book.apply_snapshot(a_depth([("100", "1")], [("101", "3")], number=1000))
    book.apply_delta(a_delta([("90", "1")], number=5, seconds=1))
    assert plain(book.levels(Side.BUY)) == [(100, 1)]
    book.apply_delta(a_delta([("90", "1")], number=6, seconds=60))
    assert plain(book.levels(Side.BUY)) == [(90, 1)]


def test_newer_quote_is_the_top_and_drops_better_levels() -> None:
    book = Book()
    book.apply_snapshot(a_depth([("100", "1"), ("99", "2")], [("101", "3"), ("102", "4")]))
    book.apply_quote(a_quote(2, "98.5", "99.5", seconds=1))
    assert plain(book.levels(Side.BUY)) == [(98.5, 1)]
    assert plain(book.levels(Side.SELL)) == [(99.5, 1), (101, 3), (102, 4)]


def test_quote_older_than_the_depth_is_ignored() -> None:
    book = Book()
    book.apply_snapshot(a_depth([("100", "1")], [("101", "3")], seconds=5))
    book.apply_quote(a_quote(2, "98.5", "99.5", seconds=1))
    assert book.best(Side.BUY) == (100 * SCALE, SCALE)


def test_delta_older_than_the_quote_does_not_undo_it() -> None:
    book = Book()
    book.apply_snapshot(a_depth([("100", "1")], [("101", "3")]))
    book.apply_quote(a_quote(9, "98.5", "99.5", seconds=5))
    book.apply_delta(a_delta([("100", "2")], [("101", "3")], seconds=1))
    assert book.best(Side.BUY) == (9850000000, SCALE)
    assert book.best(Side.SELL) == (9950000000, SCALE)


def test_absent_level_is_empty_in_reach_of_a_snapshot_and_unknown_otherwise() -> None:
    anchored, loose = Book(), Book()
    anchored.apply_snapshot(a_depth([("100", "1"), ("98", "1")], [("101", "3")]))
    loose.apply_delta(a_delta([("100", "1"), ("98", "1")], [("101", "3")]))
    assert anchored.shown_at(Side.BUY, 99 * SCALE) == 0
    assert loose.shown_at(Side.BUY, 99 * SCALE) == UNKNOWN_QUANTITY
    assert anchored.shown_at(Side.BUY, 97 * SCALE) == UNKNOWN_QUANTITY
    assert loose.shown_at(Side.BUY, 100 * SCALE + 1) == 0
    assert Book().shown_at(Side.BUY, 100 * SCALE) == UNKNOWN_QUANTITY


def test_taking_uses_up_levels_until_they_are_shown_again() -> None:
    book = Book()
    book.apply_snapshot(a_depth([("100", "1")], [("101", "3"), ("102", "4")]))
    assert plain(book.take(Side.BUY, None, 5 * SCALE)) == [(101, 3), (102, 2)]
    assert plain(book.levels(Side.SELL)) == [(102, 2)]
    book.apply_delta(a_delta(asks=[("101", "1")]))
    assert plain(book.levels(Side.SELL)) == [(101, 1), (102, 2)]


def test_quantity_for_a_taker_stops_at_its_limit() -> None:
    book = Book()
    book.apply_snapshot(a_depth([("100", "1"), ("99", "1")], [("101", "3"), ("102", "4")]))
    assert book.quantity_for(Side.BUY, 101 * SCALE) == 3 * SCALE
    assert book.quantity_for(Side.SELL, 99 * SCALE) == 2 * SCALE
    assert book.quantity_for(Side.SELL, 101 * SCALE) == 0


@given(st.integers(0, 2**32), st.integers(1, 150), st.booleans())
def test_levels_of_a_message_are_set_as_one_after_the_other(seed: int, most: int, is_ordered: bool) -> None:
    chance = np.random.default_rng(seed)
    whole, single = new_ladder(), new_ladder()
    # Behind a ladder that is full, levels come and go, so that the worst are forgotten in the middle of a message.
    prices, sizes = np.arange(1, CAPACITY + 41, dtype=np.int64), np.ones(CAPACITY + 40, dtype=np.int64)
    for _ in range(8):
        apply_depth(whole, 1000 - prices, sizes, prices, sizes, False)
        for price, size in zip(prices.tolist(), sizes.tolist(), strict=True):
            set_level(single, BIDS, price - 1000, size)
            set_level(single, ASKS, price, size)
        prices = chance.choice(CAPACITY + 80, most, replace=False).astype(np.int64)
        prices = np.sort(prices) if is_ordered else prices
        sizes = chance.integers(0, 3, most)
        for side in (BIDS, ASKS):
            count = int(single[side, 0, 0])
            assert whole[side, 0, : 1 + count].tolist() == single[side, 0, : 1 + count].tolist()
            assert whole[side, 1, 1 : 1 + count].tolist() == single[side, 1, 1 : 1 + count].tolist()


@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 5)), max_size=600), st.booleans())
def test_ladder_equals_a_sorted_dictionary(changes: list[tuple[int, int]], is_bid: bool) -> None:
    state = new_ladder()
    side = BIDS if is_bid else ASKS
    known: dict[int, int] = {}
    for price, quantity in changes:
        key = -price if is_bid else price
        set_level(state, side, key, quantity)
        if quantity:
            known[key] = quantity
        else:
            known.pop(key, None)
        if len(known) > CAPACITY:
            del known[max(known)]
    count = int(state[side, 0, 0])
    assert dict(zip(state[side, 0, 1 : 1 + count], state[side, 1, 1 : 1 + count], strict=True)) == known
    assert list(state[side, 0, 1 : 1 + count]) == sorted(known)
    assert int(np.count_nonzero(state[1 - side])) == 0
