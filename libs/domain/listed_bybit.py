"""Bybit's linear perpetuals: filters of instruments-info and leverage tiers as they were last published.

Bybit changes both without notice: live ingestion reads instruments-info and refuses where it differs. Price band and
tiers come from public copies and could not be held against an answer of today, so they are on the safe side: the first
tier of each symbol alone, and a position larger than that is refused.
"""

from __future__ import annotations

from decimal import Decimal

from libs.domain.listing import LeverageTiers, VenueListing, VenueTerms

# The band is priceLimitRatioY, the outer bound around the mark price.
_TERMS = VenueTerms("BYBIT", Decimal("0.02"), 500, Decimal("0.0002"), Decimal("0.00055"))

LISTING = VenueListing(
    _TERMS.venue,
    (
        _TERMS.instrument("BTCUSDT", "BTC", "0.1", "0.001", "100", "100", "5"),
        _TERMS.instrument("ETHUSDT", "ETH", "0.01", "0.01", "1000", "500", "5"),
        _TERMS.instrument("XRPUSDT", "XRP", "0.0001", "0.1", "1000000", "500000", "5"),
    ),
    {
        "BTCUSDT": LeverageTiers("2025", "2000000", (("0", "0.005", 100),)),
        "ETHUSDT": LeverageTiers("2025", "1000000", (("0", "0.005", 100),)),
        "XRPUSDT": LeverageTiers("2025", "200000", (("0", "0.01", 50),)),
    },
)
