"""What is known of one instrument's order book, from depth and best quotes. Refuses nothing: it believes the feed.

A book may start in the middle of a delta stream: the levels it has then received are true, the others unknown. A
broken chain of deltas forgets every level. Where quotes and depth disagree the later `event_time` wins, and of equal
times the higher update id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numba.extending import register_jitable

from libs.domain.market import BestQuote, DepthDelta, DepthSnapshot, Side
from libs.domain.numbers import NANOSECONDS
from libs.domain.state import ArrayOf
from libs.matching.ladder import (
    ASKS,
    BIDS,
    CAPACITY,
    LadderState,
    apply_depth,
    apply_quote,
    look_at,
    new_ladder,
    quantity_within,
    take_levels,
)

UNKNOWN_QUANTITY = -1
# A REST snapshot is older than the deltas that came while it was on its way; this many are kept for it.
RECENT_DELTAS = 24
# Deltas whose ids lie behind the book's this long after its last one come from a feed that counts anew.
RESTART_NS = 5 * NANOSECONDS
_NO_LIMIT = 2**62
COVERED, CONTINUES, BREAKS = range(3)
"""What a delta does to a book: nothing new, the next change, or an end of what was known."""


@register_jitable
def continues(first_update_id: int, previous_final_update_id: int, update_id: int) -> bool:
    """Whether a delta is the next one behind an update."""
    return first_update_id <= update_id + 1 or previous_final_update_id == update_id


@register_jitable
def judge_delta(
    update_id: int, depth_time: int, event_time: int, first_update_id: int, final_update_id: int, previous: int
) -> int:
    """Return what a delta does to a book at an update and a time."""
    if not update_id:
        return CONTINUES
    if final_update_id <= update_id:
        return COVERED if event_time < depth_time + RESTART_NS else BREAKS
    return CONTINUES if continues(first_update_id, previous, update_id) else BREAKS


@register_jitable
def is_old_quote(event_time: int, quote_update_id: int, depth_time: int, update_id: int) -> bool:
    """Whether a quote is older than the depth."""
    return event_time < depth_time or (event_time == depth_time and 0 < quote_update_id < update_id)


@register_jitable
def outdates_quote(event_time: int, update_id: int, quote_time: int, quote_update_id: int) -> bool:
    """Whether depth is not older than a quote."""
    return event_time > quote_time or (event_time == quote_time and update_id >= quote_update_id)


@register_jitable
def shown_of(count: int, index: int, quantity: int, is_anchored: bool) -> int:
    """Return the quantity displayed at a price, from what `ladder.look_at` says of it."""
    if quantity >= 0:
        return quantity
    is_empty = count > 0 and (index == 0 or (is_anchored and index < count))
    return 0 if is_empty else UNKNOWN_QUANTITY


@dataclass(eq=False)
class Book:
    """The levels of one instrument. Prices and quantities are integers of 1e-8.

    `is_anchored` says whether the levels go back to a snapshot, so that an absent level within reach is an empty one;
    `has_levels` whether depth or a quote was ever seen.
    """

    _state: Annotated[LadderState, ArrayOf("<i8")] = field(default_factory=new_ladder)
    _quote: tuple[int, int, int, int, int, int] | None = None
    _is_quote_applied: bool = True
    _recent: list[DepthDelta] = field(default_factory=list)
    depth_time: int = 0
    update_id: int = 0
    is_anchored: bool = False
    has_levels: bool = False

    def __post_init__(self) -> None:
        # Scratch, not state.
        self._taken = np.zeros((2, CAPACITY), dtype=np.int64)

    def apply_snapshot(self, event: DepthSnapshot) -> None:
        """Replace every level. A snapshot that deltas have overtaken is brought up to date with them, or ignored."""
        later: list[DepthDelta] = []
        if 1 < event.last_update_id < self.update_id:
            later = [delta for delta in self._recent if delta.final_update_id > event.last_update_id]
            if not later or not continues(
                later[0].first_update_id, later[0].previous_final_update_id, event.last_update_id
            ):
                return
        self._apply(event, is_whole=True)
        self.update_id = event.last_update_id
        self.is_anchored = True
        self._recent.clear()
        for delta in later:
            self._apply(delta, is_whole=False)
            self.update_id = delta.final_update_id

    def apply_delta(self, event: DepthDelta) -> None:
        """Apply changed levels; a delta that the book already covers changes nothing, a gap forgets what was known."""
        verdict = judge_delta(
            self.update_id,
            self.depth_time,
            event.event_time,
            event.first_update_id,
            event.final_update_id,
            event.previous_final_update_id,
        )
        if verdict == COVERED:
            return
        if verdict == BREAKS:
            self.is_anchored = False
            self._recent.clear()
        self._apply(event, is_whole=verdict == BREAKS)
        self.update_id = event.final_update_id
        if not self.is_anchored:
            self._recent.append(event)
            del self._recent[:-RECENT_DELTAS]

    def _apply(self, event: DepthSnapshot | DepthDelta, *, is_whole: bool) -> None:
        quote = self._quote
        update_id = event.last_update_id if isinstance(event, DepthSnapshot) else event.final_update_id
        is_newer = quote is None or outdates_quote(event.event_time, update_id, quote[0], quote[1])
        if is_newer:
            if not self._is_quote_applied:
                self._apply_quote()
            self._quote = None
        apply_depth(
            self._state,
            np.array(event.bid_prices_e8, dtype=np.int64),
            np.array(event.bid_quantities_e8, dtype=np.int64),
            np.array(event.ask_prices_e8, dtype=np.int64),
            np.array(event.ask_quantities_e8, dtype=np.int64),
            is_whole,
        )
        self._is_quote_applied = is_newer
        self.depth_time = event.event_time
        self.has_levels = True

    def apply_quote(self, event: BestQuote) -> None:
        """Take a best quote for the top, unless the depth is newer. It is worked in when the book is next asked."""
        if is_old_quote(event.event_time, event.update_id, self.depth_time, self.update_id):
            return
        self._quote = (
            event.event_time,
            event.update_id,
            event.bid_price_e8,
            event.bid_quantity_e8,
            event.ask_price_e8,
            event.ask_quantity_e8,
        )
        self._is_quote_applied = False
        self.has_levels = True

    def numbers(self) -> LadderState:
        """Return what `passing` advances beside the ladder, as `passing.NUMBERS` names it."""
        quote = self._quote or (0,) * 6
        flags = (self._quote is not None, self._is_quote_applied)
        return np.array([*quote, *flags, self.depth_time, self.update_id, self.has_levels], dtype=np.int64)

    def take_numbers(self, numbers: LadderState, recent: Sequence[DepthDelta]) -> None:
        """Take over the numbers after events were passed; `recent` are the last of the deltas among them."""
        *quote, has_quote, is_applied, self.depth_time, self.update_id, has_levels = numbers.tolist()
        self._quote = (quote[0], quote[1], quote[2], quote[3], quote[4], quote[5]) if has_quote else None
        self._is_quote_applied, self.has_levels = bool(is_applied), bool(has_levels)
        if not self.is_anchored:
            self._recent.extend(recent)
            del self._recent[:-RECENT_DELTAS]

    @property
    def ladder(self) -> LadderState:
        """The levels' flat state; a quote may not be worked in yet."""
        return self._state

    def _apply_quote(self) -> None:
        if self._quote is not None:
            apply_quote(self._state, self._quote[2], self._quote[3], self._quote[4], self._quote[5])
        self._is_quote_applied = True

    def best(self, side: Side) -> tuple[int, int] | None:
        """Return price and quantity of the best level of a side, None where no level is known."""
        if not self._is_quote_applied:
            self._apply_quote()
        row = BIDS if side is Side.BUY else ASKS
        if not self._state[row, 0, 0]:
            return None
        return abs(int(self._state[row, 0, 1])), int(self._state[row, 1, 1])

    def middle(self) -> int:
        """Return the middle of bid and ask, or the one side that is known, or 0."""
        bid, ask = self.best(Side.BUY), self.best(Side.SELL)
        if bid and ask:
            return (bid[0] + ask[0]) // 2
        known = bid or ask
        return known[0] if known else 0

    def shown_at(self, side: Side, price: int) -> int:
        """Return the quantity displayed at a price, `UNKNOWN_QUANTITY` where it cannot be known.

        A price better than the best of its side is an empty level; so is an absent one within an anchored ladder.
        """
        return self.look_at(side, price)[1]

    def look_at(self, side: Side, price: int) -> tuple[int, int]:
        """Return the best price of the other side, 0 where none is known, and what `shown_at` returns."""
        if not self._is_quote_applied:
            self._apply_quote()
        is_buy = side is Side.BUY
        best, count, index, quantity = look_at(self._state, BIDS if is_buy else ASKS, -price if is_buy else price)
        return abs(best), shown_of(count, index, quantity, self.is_anchored)

    def quantity_for(self, taker: Side, limit: int | None) -> int:
        """Return how much a taker could get from known levels within its limit price."""
        if not self._is_quote_applied:
            self._apply_quote()
        row, limit_key = _opposite(taker, limit)
        return int(quantity_within(self._state, row, limit_key))

    def take(self, taker: Side, limit: int | None, quantity: int) -> list[tuple[int, int]]:
        """Take from known levels, best first; return (price, quantity) of each level that gave something."""
        if not self._is_quote_applied:
            self._apply_quote()
        row, limit_key = _opposite(taker, limit)
        count = int(take_levels(self._state, row, limit_key, quantity, self._taken))
        return [(abs(int(self._taken[0, i])), int(self._taken[1, i])) for i in range(count)]

    def levels(self, side: Side) -> list[tuple[int, int]]:
        """Return (price, quantity) of every known level, best first."""
        if not self._is_quote_applied:
            self._apply_quote()
        row = BIDS if side is Side.BUY else ASKS
        count = int(self._state[row, 0, 0])
        return [(abs(int(self._state[row, 0, i])), int(self._state[row, 1, i])) for i in range(1, 1 + count)]


def _opposite(taker: Side, limit: int | None) -> tuple[int, int]:
    if taker is Side.BUY:
        return ASKS, _NO_LIMIT if limit is None else limit
    return BIDS, _NO_LIMIT if limit is None else -limit
