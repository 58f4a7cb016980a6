"""The instruments of all venues, and their trading rules. A venue is one listing here, named once."""

from __future__ import annotations

from libs.domain import listed_binance, listed_bybit
from libs.domain.listing import Instrument, LeverageTiers, VenueListing, instrument_id

__all__ = [
    "DEFAULT_INSTRUMENT",
    "DEFAULT_INSTRUMENTS",
    "INSTRUMENTS",
    "LISTINGS",
    "MARKET_DATA_ONLY",
    "Instrument",
    "LeverageTiers",
    "UnknownInstrument",
    "VenueListing",
    "find_instrument",
    "instrument_id",
    "split_instrument_id",
]

LISTINGS: dict[str, VenueListing] = {
    listing.venue: listing for listing in (listed_binance.LISTING, listed_bybit.LISTING)
}
"""By venue. What else a venue needs is found by its name: `libs.venues.registry`, `libs.margin.default_brackets`."""

MARKET_DATA_ONLY = {"BINANCE_SPOT": "spot", "BINANCE_COINM": "COIN-M"}
"""Venues whose recordings are read as market data, by what is traded there: there are no rules to trade it by."""

INSTRUMENTS: dict[str, Instrument] = {
    rules.instrument: rules for listing in LISTINGS.values() for rules in listing.instruments
}

DEFAULT_INSTRUMENT = "BTCUSDT.BINANCE"
DEFAULT_INSTRUMENTS = (DEFAULT_INSTRUMENT, "ETHUSDT.BINANCE")
"""What is read and traded where nothing else is said."""


class UnknownInstrument(KeyError):
    """An instrument was named that the configuration does not list."""

    def __str__(self) -> str:
        return str(self.args[0])


def split_instrument_id(instrument: str) -> tuple[str, str]:
    """Split an instrument id into symbol and venue. Raises `UnknownInstrument` where the form is wrong."""
    symbol, point, venue = instrument.partition(".")
    if not (symbol and point and venue):
        raise UnknownInstrument(f"{instrument!r} is not of the form SYMBOL.VENUE, such as {DEFAULT_INSTRUMENT}")
    return symbol, venue


def find_instrument(instrument: str) -> Instrument:
    """Return the trading rules of an instrument id. Raises `UnknownInstrument` naming those that are known."""
    rules = INSTRUMENTS.get(instrument)
    if rules is None and (kind := MARKET_DATA_ONLY.get(instrument.rpartition(".")[2])):
        raise UnknownInstrument(
            f"trading on {instrument} is refused: {kind} is read from recordings, as market data alone; known: "
            f"{', '.join(sorted(INSTRUMENTS))}"
        )
    if rules is None:
        raise UnknownInstrument(f"unknown instrument {instrument!r}; known: {', '.join(sorted(INSTRUMENTS))}")
    return rules
