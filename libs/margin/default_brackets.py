"""Leverage brackets of every listed venue as they stood on a stated day, for use where no fresher answer is at hand.

A venue changes them without notice: live trading reads its own and these tables are for paper, tests and questions.
"""

from __future__ import annotations

from collections.abc import Mapping

from libs.domain.instruments import LISTINGS, split_instrument_id
from libs.margin.brackets import BracketTable, build_from_tiers

_TABLES: Mapping[str, Mapping[str, BracketTable]] = {
    venue: {
        symbol: build_from_tiers(symbol, tiers.tiers, tiers.last_cap, tiers.as_of)
        for symbol, tiers in listing.leverage_tiers.items()
    }
    for venue, listing in LISTINGS.items()
}

DEFAULT_BRACKETS = _TABLES["BINANCE"]
"""Binance's by symbol; `as_of` says the day a table was true."""


def find_brackets(instrument: str) -> BracketTable | None:
    """Return the table of an instrument at its venue, None where none is listed."""
    symbol, venue = split_instrument_id(instrument)
    return _TABLES.get(venue, {}).get(symbol)
