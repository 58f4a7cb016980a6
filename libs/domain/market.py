"""What a market says: trades, books, quotes, marks, ticks of its clock.

Prices and quantities are integers of 1e-8 because these events are many. Every event carries two times in ns
since epoch UTC: `event_time` (the venue's) and `received_time` (when it reached us; in a recorded session, when it
reached the recorder; in a simulated one, the simulated time). `event_id` is a pure function of the source frame.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

from libs.domain.records import quickly_made


class Side(IntEnum):
    """The taker's or the order's direction. Numbers are the wire's."""

    BUY = 1
    SELL = 2

    @property
    def sign(self) -> int:
        """+1 for buy, -1 for sell."""
        return 1 if self is Side.BUY else -1

    @property
    def opposite(self) -> Side:
        """The other side."""
        return Side.SELL if self is Side.BUY else Side.BUY


@quickly_made
@dataclass(frozen=True, slots=True)
class Trade:
    """One execution (or an aggregate of one taker's) on the venue."""

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    price_e8: int
    quantity_e8: int
    is_buyer_maker: bool
    venue_trade_id: int


@quickly_made
@dataclass(frozen=True, slots=True)
class DepthSnapshot:
    """A whole book: bids from the highest price down, asks from the lowest up; parallel tuples."""

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    last_update_id: int
    bid_prices_e8: tuple[int, ...]
    bid_quantities_e8: tuple[int, ...]
    ask_prices_e8: tuple[int, ...]
    ask_quantities_e8: tuple[int, ...]


@quickly_made
@dataclass(frozen=True, slots=True)
class DepthDelta:
    """Changed levels: quantities are absolute, 0 removes a level. `previous_final_update_id` chains the deltas."""

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    first_update_id: int
    final_update_id: int
    previous_final_update_id: int
    bid_prices_e8: tuple[int, ...]
    bid_quantities_e8: tuple[int, ...]
    ask_prices_e8: tuple[int, ...]
    ask_quantities_e8: tuple[int, ...]


@quickly_made
@dataclass(frozen=True, slots=True)
class BestQuote:
    """The top of the book."""

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    update_id: int
    bid_price_e8: int
    bid_quantity_e8: int
    ask_price_e8: int
    ask_quantity_e8: int


@quickly_made
@dataclass(frozen=True, slots=True)
class MarkPrice:
    """Mark, index and the funding rate in force. `index_price_e8` is None where the venue sends none."""

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    mark_price_e8: int
    index_price_e8: int | None
    funding_rate_e8: int
    next_funding_time: int


@quickly_made
@dataclass(frozen=True, slots=True)
class FundingSettled:
    """Funding was settled at `event_time`: a position pays notional at mark times rate (longs pay when positive)."""

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    funding_rate_e8: int
    mark_price_e8: int


@quickly_made
@dataclass(frozen=True, slots=True)
class OpenInterest:
    """Contracts open on the venue, in base units."""

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    open_interest_e8: int


@quickly_made
@dataclass(frozen=True, slots=True)
class Liquidation:
    """A forced order seen on the venue; `side` is that of the order (SELL closes a long)."""

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    side: Side
    price_e8: int
    quantity_e8: int


@quickly_made
@dataclass(frozen=True, slots=True)
class ExchangeBar:
    """A closed kline as the venue reports it; this is how history reaches the stream.

    `event_time` is its close time. Optional fields are None where the source has no such column. With `is_history` it
    was back-filled to warm up; without, it is the market itself (a backtest on bars) and orders fill against it.
    """

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    timeframe: str
    open_time: int
    close_time: int
    open_e8: int
    high_e8: int
    low_e8: int
    close_e8: int
    volume_e8: int
    quote_volume_e8: int | None
    taker_buy_volume_e8: int | None
    trade_count: int | None
    is_history: bool = True


@quickly_made
@dataclass(frozen=True, slots=True)
class ClockTick:
    """A second of market time has begun: `event_time` is a whole second. Cores have no other clock."""

    instrument: str
    event_id: str
    event_time: int
    received_time: int


class GapKind(IntEnum):
    """What is missing."""

    TRADES = 1
    BOOK = 2


class GapState(IntEnum):
    """How a gap stands.

    ::

        OPEN  ->  FILLED     all that was missing has come, in its order and before anything behind it
              ->  LATE       it has come after what lies behind it: as `LateTrade`s, which no bar holds
              ->  LOST       the venue has it no more
    """

    OPEN = 1
    FILLED = 2
    LATE = 3
    LOST = 4


@quickly_made
@dataclass(frozen=True, slots=True)
class Gap:
    """What a venue sent and did not reach us, between two times; known numbers of it, 0 where there are none.

    A gap is reported once per state, under one `gap_id`; as OPEN with `to_time` 0 while it is not known how far it
    reaches, and once more when it is. One that was filled before anything behind it went out is reported as FILLED
    alone.
    """

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    gap_id: str
    kind: GapKind
    state: GapState
    from_time: int
    to_time: int
    first_number: int
    last_number: int
    reason: str


@quickly_made
@dataclass(frozen=True, slots=True)
class LateTrade:
    """A trade of a gap that came after what lies behind it. It is on record, and nothing is computed from it."""

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    price_e8: int
    quantity_e8: int
    is_buyer_maker: bool
    venue_trade_id: int
    gap_id: str


@quickly_made
@dataclass(frozen=True, slots=True)
class OutsideReading:
    """One number of a series from outside the stream, such as fear and greed; `series` is one of `READING_SERIES`.

    `event_time` is the market's time when it came, `published_time` when its source gave it out, which may be long
    before. Bars know it as `libs.domain.readings` says.
    """

    instrument: str
    event_id: str
    event_time: int
    received_time: int
    series: str
    published_time: int
    value: float


MarketEvent: TypeAlias = (
    Trade
    | DepthSnapshot
    | DepthDelta
    | BestQuote
    | MarkPrice
    | FundingSettled
    | OpenInterest
    | Liquidation
    | ExchangeBar
    | ClockTick
    | Gap
    | LateTrade
    | OutsideReading
)
