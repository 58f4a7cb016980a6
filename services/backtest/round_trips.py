"""Round trips: from flat, or a turn, to flat or the next turn, net of fees and funding. Money is exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType

import numpy as np

from libs.domain.market import Side
from libs.domain.numbers import from_e8
from services.backtest.equity import PriceHistory

_ZERO = Decimal(0)
NO_OTHERS: Mapping[str, PriceHistory] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Fill:
    """One execution of the account's in an instrument.

    `decision_price` is the price that its strategy decided on, None for risk's.
    """

    event_time: int
    client_order_id: str
    intent_id: str
    strategy: str
    side: Side
    quantity: Decimal
    price: Decimal
    fee: Decimal
    realised_pnl: Decimal
    decision_price: Decimal | None = None
    instrument: str = ""

    @property
    def slippage(self) -> Decimal:
        """What the fill cost against the price decided on, in quote units; 0 where that is not known."""
        if self.decision_price is None:
            return _ZERO
        return (self.price - self.decision_price) * self.quantity * self.side.sign


@dataclass(frozen=True, slots=True)
class FundingPayment:
    """Funding paid (above zero) or received at a market time (ns), in quote units."""

    event_time: int
    amount: Decimal
    instrument: str = ""


@dataclass(frozen=True, slots=True)
class RoundTrip:
    """A closed round trip: `pnl` is net of `fees` and `funding`; `quantity` the largest that was held."""

    opened_at: int
    closed_at: int
    strategy: str
    side: Side
    quantity: Decimal
    entry_price: Decimal
    exit_price: Decimal
    fees: Decimal
    funding: Decimal
    pnl: Decimal
    instrument: str = ""


@dataclass(slots=True)
class _Open:
    instrument: str
    opened_at: int
    strategy: str
    side: Side
    peak: Decimal = _ZERO
    held: Decimal = _ZERO
    entry_cost: Decimal = _ZERO
    entered: Decimal = _ZERO
    exit_value: Decimal = _ZERO
    exited: Decimal = _ZERO
    fees: Decimal = _ZERO
    funding: Decimal = _ZERO
    realised: Decimal = _ZERO


def find_round_trips(fills: Sequence[Fill], funding: Sequence[FundingPayment] = ()) -> tuple[list[RoundTrip], bool]:
    """Return the closed round trips, in the order in which they closed, and whether one is still open.

    Each is of one instrument. A fill that turns the position is split by quantity. Funding belongs to the trip that was
    open when it was paid.
    """
    instruments = dict.fromkeys(fill.instrument for fill in fills)
    if len(instruments) <= 1:
        return _find_trips(fills, funding)
    found: list[RoundTrip] = []
    has_open = False
    for instrument in instruments:
        trips, is_open = _find_trips(
            [fill for fill in fills if fill.instrument == instrument],
            [payment for payment in funding if payment.instrument == instrument],
        )
        found += trips
        has_open = has_open or is_open
    return sorted(found, key=lambda trip: trip.closed_at), has_open


def _find_trips(fills: Sequence[Fill], funding: Sequence[FundingPayment]) -> tuple[list[RoundTrip], bool]:
    trips: list[RoundTrip] = []
    trip: _Open | None = None
    payments = iter(funding)
    payment = next(payments, None)
    for fill in fills:
        while payment is not None and payment.event_time <= fill.event_time:
            if trip is not None:
                trip.funding += payment.amount
            payment = next(payments, None)
        quantity, fee = fill.quantity, fill.fee
        if trip is not None and fill.side is not trip.side:
            closing = min(quantity, trip.held)
            share = fee * closing / quantity
            trip.held -= closing
            trip.exit_value += closing * fill.price
            trip.exited += closing
            trip.fees += share
            trip.realised += fill.realised_pnl
            quantity, fee = quantity - closing, fee - share
            if not trip.held:
                trips.append(_close(trip, fill.event_time))
                trip = None
        if quantity and trip is None:
            trip = _Open(fill.instrument, fill.event_time, fill.strategy, fill.side)
        if quantity and trip is not None:
            trip.held += quantity
            trip.peak = max(trip.peak, trip.held)
            trip.entry_cost += quantity * fill.price
            trip.entered += quantity
            trip.fees += fee
    return trips, trip is not None


def _close(trip: _Open, event_time: int) -> RoundTrip:
    return RoundTrip(
        opened_at=trip.opened_at,
        closed_at=event_time,
        strategy=trip.strategy,
        side=trip.side,
        quantity=trip.peak,
        entry_price=trip.entry_cost / trip.entered,
        exit_price=trip.exit_value / trip.exited,
        fees=trip.fees,
        funding=trip.funding,
        pnl=trip.realised - trip.fees - trip.funding,
        instrument=trip.instrument,
    )


def held_ns(fills: Sequence[Fill], start: int, end: int) -> int:
    """Return for how long (ns) of `start` to `end` a position was held in any instrument, by the fills."""
    total, since = 0, start
    held: dict[str, Decimal] = {}
    for fill in fills:
        at = min(max(fill.event_time, start), end)
        if held:
            total += at - since
        position = held.pop(fill.instrument, _ZERO) + fill.quantity * fill.side.sign
        if position:
            held[fill.instrument] = position
        since = at
    return total + (end - since if held else 0)


def excursions(
    trips: Sequence[RoundTrip], prices: PriceHistory, others: Mapping[str, PriceHistory] = NO_OTHERS
) -> list[tuple[Decimal, Decimal]]:
    """Return per trip how far price went against and for it while it was open (MAE, MFE), in quote units, >= 0.

    Measured from the entry price times the trip's quantity, over the bars that closed within the trip. `others` are the
    prices of instruments that have their own.
    """
    columns_of = {name: each.columns() for name, each in others.items()}
    main = prices.columns()
    found: list[tuple[Decimal, Decimal]] = []
    for trip in trips:
        columns = columns_of.get(trip.instrument, main)
        first = int(np.searchsorted(columns["times"], trip.opened_at, side="right"))
        last = int(np.searchsorted(columns["times"], trip.closed_at, side="right"))
        highest = lowest = trip.entry_price
        if first < last:
            highest = max(highest, from_e8(int(columns["high"][first:last].max())))
            lowest = min(lowest, from_e8(int(columns["low"][first:last].min())))
        up, down = (highest - trip.entry_price) * trip.quantity, (trip.entry_price - lowest) * trip.quantity
        found.append((down, up) if trip.side is Side.BUY else (up, down))
    return found
