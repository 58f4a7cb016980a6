"""A stretch of one instrument's market events as columns of integers, for loops that pass many of them at once.

Trades, best quotes and depth deltas are columns; a clock tick is its time; any other event is kept as it is. Every
event can be had again as the value that it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from libs.domain.market import BestQuote, ClockTick, DepthDelta, MarketEvent, Trade
from libs.kernels import njit

Ints = npt.NDArray[np.int64]

TRADE, QUOTE, DELTA, TICK, OTHER = range(5)
"""Kinds of events, the ones that can be passed first."""
WIDTH = 5
CHUNK = 16_384
"""How many events are made columns of at once."""


@dataclass(frozen=True, slots=True)
class LevelColumns:
    """The levels of one side of all deltas: those of event `i` lie in [`first[i]`, `first[i + 1]`)."""

    first: Ints
    prices_e8: Ints
    quantities_e8: Ints

    @property
    def arrays(self) -> tuple[Ints, Ints, Ints]:
        """The columns."""
        return self.first, self.prices_e8, self.quantities_e8

    def at(self, place: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return prices and quantities of an event."""
        begin, end = int(self.first[place]), int(self.first[place + 1])
        return tuple(self.prices_e8[begin:end].tolist()), tuple(self.quantities_e8[begin:end].tolist())


@dataclass(frozen=True, slots=True)
class MarketColumns:
    """Events in their order. A row of `values` is, by kind::

    TRADE   price, quantity, is_buyer_maker, venue_trade_id
    QUOTE   bid price, bid quantity, ask price, ask quantity, update_id
    DELTA   first, final and previous final update id
    """

    instrument: str
    kinds: npt.NDArray[np.int8]
    times: Ints
    received: Ints
    values: Ints
    bids: LevelColumns
    asks: LevelColumns
    event_ids: Sequence[object]
    others: Mapping[int, MarketEvent]

    def __len__(self) -> int:
        return len(self.kinds)

    def before(self, place: int) -> MarketColumns:
        """Return the events before a place."""
        cut: dict[str, Any] = {
            name: getattr(self, name)[:place] for name in ("kinds", "times", "received", "values", "event_ids")
        }
        return replace(self, **cut)

    def event(self, place: int) -> MarketEvent:
        """Return an event as it was."""
        kind = self.kinds[place]
        if kind == OTHER:
            return self.others[place]
        event_id, event_time, received = str(self.event_ids[place]), int(self.times[place]), int(self.received[place])
        if kind == TICK:
            return ClockTick(self.instrument, event_id, event_time, received)
        row = self.values[place].tolist()
        if kind == TRADE:
            return Trade(self.instrument, event_id, event_time, received, row[0], row[1], bool(row[2]), row[3])
        if kind == QUOTE:
            return BestQuote(self.instrument, event_id, event_time, received, row[4], row[0], row[1], row[2], row[3])
        bids, asks = self.bids.at(place), self.asks.at(place)
        first, final, previous = row[:3]
        return DepthDelta(
            self.instrument, event_id, event_time, received, first, final, previous, bids[0], bids[1], asks[0], asks[1]
        )


class Stretch(NamedTuple):
    """What is left of a stretch of trades, quotes and deltas: places, -1 where there is none, and how many there were.

    `priced` is the event that gives the price of those who take quotes or, until one comes, last prices: the newest
    that is not older than the one before. A quote is `whole` with both of its sides. Times are those of all, and of
    trades and quotes alone, which is all that those who do not follow books know.
    """

    last_trade: int
    whole_quote: int
    priced: int
    latest_time: int
    latest_price_time: int
    trades: int
    quotes: int
    deltas: int


def look_over(columns: MarketColumns, begin: int, end: int, price_time: int, *, is_quoted: bool) -> Stretch:
    """Look over the events of [begin, end), trades, quotes and deltas; the price is known up to a time (ns), from a
    quote or not.
    """
    found = np.full(len(Stretch._fields), -1, np.int64)
    _look_over(columns.kinds, columns.times, columns.values, begin, end, price_time, is_quoted, found)
    return Stretch(*found.tolist())


@njit(cache=True)
def _look_over(
    kinds: npt.NDArray[np.int8],
    times: Ints,
    values: Ints,
    begin: int,
    end: int,
    price_time: int,
    is_quoted: bool,
    found: Ints,
) -> None:
    found[3:] = 0
    for at in range(begin, end):
        kind, event_time = kinds[at], times[at]
        found[3] = max(found[3], event_time)
        found[5 + kind] += 1
        if kind == DELTA:
            continue
        found[4] = max(found[4], event_time)
        if kind == TRADE:
            found[0] = at
            if not is_quoted and event_time >= price_time:
                found[2], price_time = at, event_time
        elif kind == QUOTE:
            if values[at, 0] and values[at, 2]:
                found[1] = at
            if event_time >= price_time:
                found[2], price_time, is_quoted = at, event_time, True


def columns_of(instrument: str, events: Sequence[MarketEvent]) -> MarketColumns:
    """Return events as columns; those of another instrument are kept as they are."""
    kinds = bytearray()
    rows: list[tuple[int, ...]] = []
    bid_first, ask_first = [0], [0]
    levels: tuple[list[int], list[int], list[int], list[int]] = ([], [], [], [])
    bid_prices, bid_quantities, ask_prices, ask_quantities = levels
    others: dict[int, MarketEvent] = {}
    for place, event in enumerate(events):
        kind = _KINDS.get(type(event), OTHER) if event.instrument == instrument else OTHER
        kinds.append(kind)
        if kind == QUOTE:
            event = cast(BestQuote, event)
            rows.append(
                (event.bid_price_e8, event.bid_quantity_e8, event.ask_price_e8, event.ask_quantity_e8, event.update_id)
            )
        elif kind == TRADE:
            event = cast(Trade, event)
            rows.append((event.price_e8, event.quantity_e8, event.is_buyer_maker, event.venue_trade_id, 0))
        elif kind == DELTA:
            event = cast(DepthDelta, event)
            rows.append((event.first_update_id, event.final_update_id, event.previous_final_update_id, 0, 0))
            bid_prices += event.bid_prices_e8
            bid_quantities += event.bid_quantities_e8
            ask_prices += event.ask_prices_e8
            ask_quantities += event.ask_quantities_e8
        else:
            rows.append(_NO_VALUES)
            if kind == OTHER:
                others[place] = event
        bid_first.append(len(bid_prices))
        ask_first.append(len(ask_prices))
    return MarketColumns(
        instrument,
        np.frombuffer(kinds, np.int8),
        np.array([event.event_time for event in events], np.int64),
        np.array([event.received_time for event in events], np.int64),
        np.array(rows, np.int64).reshape(-1, WIDTH),
        LevelColumns(*(np.array(column, np.int64) for column in (bid_first, bid_prices, bid_quantities))),
        LevelColumns(*(np.array(column, np.int64) for column in (ask_first, ask_prices, ask_quantities))),
        [event.event_id for event in events],
        others,
    )


_KINDS: dict[type, int] = {Trade: TRADE, BestQuote: QUOTE, DepthDelta: DELTA, ClockTick: TICK}
_NO_VALUES = (0,) * WIDTH
