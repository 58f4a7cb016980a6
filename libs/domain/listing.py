"""What a venue's listing says: the instruments that can be traded there, their rules, their leverage tiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True, slots=True)
class Instrument:
    """A linear perpetual and the filters its venue enforces.

    `instrument` is ``SYMBOL.VENUE`` ("BTCUSDT.BINANCE"). Sizes are in base units, prices and notionals in quote
    units; fees are rates of notional (0.0005 = 5 bps).
    """

    instrument: str
    symbol: str
    venue: str
    base_asset: str
    quote_asset: str
    tick_size: Decimal
    step_size: Decimal
    min_quantity: Decimal
    max_quantity: Decimal
    market_max_quantity: Decimal
    min_notional: Decimal
    price_multiplier_up: Decimal
    price_multiplier_down: Decimal
    max_open_orders: int
    maker_fee_rate: Decimal
    taker_fee_rate: Decimal
    funding_interval_hours: int = 8


@dataclass(frozen=True, slots=True)
class LeverageTiers:
    """A symbol's tiers as they stood on a day: (notional from, maintenance rate, most leverage), and the last cap."""

    as_of: str
    last_cap: str
    tiers: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True, slots=True)
class VenueListing:
    """A venue by name, the instruments it lists, and leverage tiers by symbol."""

    venue: str
    instruments: tuple[Instrument, ...]
    leverage_tiers: Mapping[str, LeverageTiers]


def instrument_id(symbol: str, venue: str) -> str:
    """Join a venue's symbol and the venue to the id every message is keyed by."""
    return f"{symbol}.{venue}"


@dataclass(frozen=True, slots=True)
class VenueTerms:
    """What a venue's linear perpetuals have in common: band around the mark price, open orders, fees, quote asset."""

    venue: str
    price_band: Decimal
    max_open_orders: int
    maker_fee_rate: Decimal
    taker_fee_rate: Decimal
    quote_asset: str = "USDT"

    def instrument(
        self, symbol: str, base: str, tick: str, step: str, max_quantity: str, market_max: str, min_notional: str
    ) -> Instrument:
        """Return an instrument on these terms; the least quantity is a step."""
        return Instrument(
            instrument=instrument_id(symbol, self.venue),
            symbol=symbol,
            venue=self.venue,
            base_asset=base,
            quote_asset=self.quote_asset,
            tick_size=Decimal(tick),
            step_size=Decimal(step),
            min_quantity=Decimal(step),
            max_quantity=Decimal(max_quantity),
            market_max_quantity=Decimal(market_max),
            min_notional=Decimal(min_notional),
            price_multiplier_up=1 + self.price_band,
            price_multiplier_down=1 - self.price_band,
            max_open_orders=self.max_open_orders,
            maker_fee_rate=self.maker_fee_rate,
            taker_fee_rate=self.taker_fee_rate,
        )
