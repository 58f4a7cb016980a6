"""What a taking order gets: the known levels, best first, and for market orders the documented slippage beyond them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from math import isqrt

from libs.domain.instruments import Instrument
from libs.domain.market import Side
from libs.domain.numbers import SCALE, to_e8
from libs.matching.book import Book

_NO_IMPACT = Decimal(0)


@dataclass(frozen=True, slots=True)
class Slippage:
    """Slippage in integers of 1e-8: `rate` per multiple of known quantity, the band as rates of the best price.

    `impact` is the rate that an order of a whole bar's volume adds where bars are the market; it grows with the root of
    the order's share.
    """

    rate: int
    tick: int
    highest_rate: int
    lowest_rate: int
    impact: int = 0

    @classmethod
    def of(cls, rules: Instrument, slippage_bps: Decimal, impact_bps: Decimal = _NO_IMPACT) -> Slippage:
        """Return the slippage of an instrument; the band is its price multipliers (Binance's market take bound)."""
        return cls(
            rate=int(slippage_bps * SCALE / 10_000),
            tick=to_e8(rules.tick_size),
            highest_rate=to_e8(rules.price_multiplier_up),
            lowest_rate=to_e8(rules.price_multiplier_down),
            impact=int(impact_bps * SCALE / 10_000),
        )

    def rate_of(self, quantity: int, volume: int) -> int:
        """Return the rate of a market order where no book was ever seen, by its share of a volume (0: not known).

        Source: the square-root law of impact, as in Almgren, Thum, Hauptmann and Li (2005), Direct Estimation of Equity
        Market Impact.
        """
        if not self.impact or not volume:
            return self.rate
        return self.rate + self.impact * isqrt(quantity * SCALE * SCALE // volume) // SCALE

    def worsen(self, taker: Side, price: int, rate: int) -> int:
        """Return a price made worse for the taker by a rate of 1e-8, rounded away from it to a whole tick."""
        if taker is Side.BUY:
            return -(-price * (SCALE + rate) // (SCALE * self.tick)) * self.tick
        return max(self.tick, price * (SCALE - rate) // (SCALE * self.tick) * self.tick)

    def band(self, taker: Side, best: int) -> int:
        """Return the worst price a market order may get, from the best one."""
        return best * (self.highest_rate if taker is Side.BUY else self.lowest_rate) // SCALE


def take_liquidity(
    book: Book, slippage: Slippage, taker: Side, limit: int | None, quantity: int, reference: int, volume: int = 0
) -> list[tuple[int, int]]:
    """Take up to `quantity` within `limit` (None: a market order); return (price, quantity) pairs, best first.

    A limit order gets known levels only. A market order's remainder beyond them fills at the last level's price made
    worse by rate x (1 + remainder / known), unless that lies outside the band. Where no book was ever seen,
    everything fills at `reference` (the last price, 0 for none) made worse by the rate, and a market order by the
    impact of its share of `volume`, that of the last bar.
    """
    if not book.has_levels:
        if not reference:
            return []
        rate = slippage.rate if limit is not None else slippage.rate_of(quantity, volume)
        price = slippage.worsen(taker, reference, rate)
        return [(price, quantity)] if is_within(taker, price, limit) else []
    if limit is not None:
        return book.take(taker, limit, quantity)
    best = book.best(taker.opposite)
    if best is None:
        return []
    band = slippage.band(taker, best[0])
    taken = book.take(taker, band, quantity)
    known = sum(amount for _, amount in taken)
    remainder = quantity - known
    if remainder and known:
        price = slippage.worsen(taker, taken[-1][0], slippage.rate + slippage.rate * remainder // known)
        if is_within(taker, price, band):
            taken.append((price, remainder))
    return taken


def quantity_on_offer(book: Book, slippage: Slippage, taker: Side, limit: int, quantity: int, reference: int) -> int:
    """Return how much of `quantity` a limit order could take at once."""
    if book.has_levels:
        return min(quantity, book.quantity_for(taker, limit))
    if reference and is_within(taker, slippage.worsen(taker, reference, slippage.rate), limit):
        return quantity
    return 0


def is_within(taker: Side, price: int, limit: int | None) -> bool:
    """Whether a price is not worse than a limit."""
    if limit is None:
        return True
    return price <= limit if taker is Side.BUY else price >= limit
