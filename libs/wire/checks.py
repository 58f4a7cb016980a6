"""What a decoded value must fulfil beyond its types. Each check returns what is wrong, or None.

A `Rule` holds for one value and, element by element, for the columns of many values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from libs.domain.accounts import VenueAccount, VenuePosition
from libs.domain.bars import TIMEFRAMES, Bar, BarRevision
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast
from libs.domain.market import (
    BestQuote,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    FundingSettled,
    LateTrade,
    Liquidation,
    MarkPrice,
    OpenInterest,
    OutsideReading,
    Trade,
)
from libs.domain.orders import ReportKind, VenueReport
from libs.domain.venues import VenueAnswer, VenueCall


@dataclass(frozen=True, slots=True)
class Rule:
    """A check whose condition is written with what numbers and arrays share: comparisons, ``&`` and ``|``."""

    holds: Callable[[Any], Any]
    reason: str

    def __call__(self, value: Any) -> str | None:
        return None if self.holds(value) else self.reason


def _is_trade(event: Trade | LateTrade | Liquidation) -> bool:
    return (event.price_e8 > 0) & (event.quantity_e8 > 0)


def _is_quote(event: BestQuote) -> bool:
    return (event.bid_price_e8 > 0) & (event.ask_price_e8 > 0)


def _has_mark(event: MarkPrice | FundingSettled) -> bool:
    return event.mark_price_e8 > 0


def _has_interest(event: OpenInterest) -> bool:
    return event.open_interest_e8 >= 0


def _is_reading(event: OutsideReading) -> bool:
    return (event.published_time > 0) & (event.value - event.value == 0.0)


check_trade = Rule(_is_trade, "price and quantity must be above 0")
check_quote = Rule(_is_quote, "a quote's prices must be above 0")
check_mark = Rule(_has_mark, "mark_price_e8 must be above 0")
check_open_interest = Rule(_has_interest, "open_interest_e8 must not be negative")
check_reading = Rule(_is_reading, "a reading needs published_time above 0 and a finite value")


def check_book(event: DepthSnapshot | DepthDelta) -> str | None:
    """Sides with as many prices as quantities; prices above 0, quantities not negative."""
    for prices, quantities in (
        (event.bid_prices_e8, event.bid_quantities_e8),
        (event.ask_prices_e8, event.ask_quantities_e8),
    ):
        if len(prices) != len(quantities):
            return "a side's prices and quantities must be of one length"
        if prices and (min(prices) <= 0 or min(quantities) < 0):
            return "book prices must be above 0 and quantities not negative"
    return None


def check_bar(event: Bar | BarRevision | ExchangeBar) -> str | None:
    """Times that fit the timeframe, and prices that can be a bar's."""
    length = TIMEFRAMES.get(event.timeframe)
    if length is None:
        return f"timeframe {event.timeframe!r} is not one of {', '.join(TIMEFRAMES)}"
    opened = event.open_time
    if opened < 0 or event.close_time != opened + length or opened % length:
        return f"open_time {opened} and close_time {event.close_time} do not fit {event.timeframe}"
    low, high, first, last = event.low_e8, event.high_e8, event.open_e8, event.close_e8
    if low <= 0 or event.volume_e8 < 0 or not (low <= first <= high and low <= last <= high):
        return f"open {first}, high {high}, low {low}, close {last}, volume {event.volume_e8} is no bar"
    return None


def check_vector(event: FeatureVector) -> str | None:
    """Whole doubles and a sha256."""
    if len(event.packed) % 8 or not event.packed:
        return f"packed holds {len(event.packed)} bytes, which are no doubles"
    return None if len(event.schema_hash) == 64 else "schema_hash must be a sha256 in hex"


def check_forecast(event: Forecast) -> str | None:
    """Probabilities in [0, 1] that sum to 1."""
    total = event.probability_down + event.probability_flat + event.probability_up
    if not abs(total - 1.0) <= 1e-6:
        return f"the probabilities sum to {total}, not 1"
    for name in ("probability_down", "probability_flat", "probability_up", "confidence", "coverage"):
        if not 0.0 <= getattr(event, name) <= 1.0:
            return f"{name} {getattr(event, name)} is not in [0, 1]"
    return None


def check_report(event: VenueReport) -> str | None:
    """A fill has a quantity and a price above 0 and a fee."""
    if event.kind is not ReportKind.FILL:
        return None
    is_whole = (event.last_quantity or 0) > 0 and (event.last_price or 0) > 0 and event.fee is not None
    return None if is_whole else "a fill must have a quantity and a price above 0 and a fee"


def check_venue_account(event: VenueAccount) -> str | None:
    """Open positions only."""
    return _check_positions(event.positions)


def check_venue_answer(event: VenueAnswer) -> str | None:
    """Open positions only."""
    return None if event.snapshot is None else _check_positions(event.snapshot.positions)


def check_venue_call(event: VenueCall) -> str | None:
    """An order with an id, where there is one."""
    return "the order has no client_order_id" if event.order is not None and not event.order.client_order_id else None


def _check_positions(positions: Iterable[VenuePosition]) -> str | None:
    if all(held.instrument and held.quantity and held.entry_price > 0 for held in positions):
        return None
    return "a position must have an instrument, a quantity and an entry price"
