"""Finds a venue's declaration by its name: the module of that name here, which declares `VENUE`.

A venue is one that `libs.domain.instruments` lists, or the simulated exchange. A client library is loaded with the
venue that needs it, and nowhere else.
"""

from __future__ import annotations

import importlib

from libs.domain.instruments import LISTINGS, MARKET_DATA_ONLY, split_instrument_id
from libs.venues.api import FrameDecoder, Venue
from libs.venues.errors import VenueError
from libs.venues.rest import RestClient

SIMULATED = "SIMULATED"


class UnknownVenue(KeyError):
    """A venue was named that is not there, or that no order can be sent to."""

    def __str__(self) -> str:
        return str(self.args[0])


def venue_names() -> list[str]:
    """Return the names of all venues, sorted."""
    return sorted({*LISTINGS, SIMULATED})


def find_venue(name: str) -> Venue:
    """Return a venue's declaration. Raises `UnknownVenue` naming those there are."""
    if name not in venue_names():
        raise UnknownVenue(f"unknown venue {name!r}; the venues are {', '.join(venue_names())}")
    venue: Venue = importlib.import_module(f"libs.venues.{name.lower()}").VENUE
    return venue


def find_venue_of(instrument: str) -> Venue:
    """Return the venue of an instrument id. Raises `UnknownVenue`, or `UnknownInstrument` where the form is wrong."""
    return find_venue(split_instrument_id(instrument)[1])


def make_recording_decoder(instrument: str) -> FrameDecoder:
    """Return what reads recorded frames of an instrument's venue, which may be one of market data alone.

    Raises `UnknownVenue`, or `UnknownInstrument` where the form is wrong.
    """
    venue = split_instrument_id(instrument)[1]
    if venue in MARKET_DATA_ONLY:
        from libs.venues.binance_frames import BinanceDecoder

        return BinanceDecoder(venue)
    return find_venue(venue).make_decoder()


def find_trading_venue(name: str) -> Venue:
    """Return a venue that orders can be sent to. Raises `UnknownVenue` naming those there are."""
    venue = find_venue(name)
    if venue.open_trading is None:
        known = ", ".join(each for each in venue_names() if find_venue(each).open_trading is not None)
        raise UnknownVenue(f"no orders can be sent to {name}, its market data is read alone; the venues are {known}")
    return venue


def is_answering(instrument: str, timeout_s: float = 5.0, rest_url: str = "") -> bool:
    """Tell whether the venue of an instrument tells its time within the timeout."""
    venue = find_venue_of(instrument)
    rest = RestClient(rest_url or venue.market_addresses[0], timeout_s=timeout_s)
    market = venue.open_market(rest, instrument, venue.market_addresses[1])
    try:
        return market.now_ms() > 0
    except VenueError:
        return False
    finally:
        market.close()
