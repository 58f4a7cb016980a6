"""Bybit's linear perpetuals: filters of instruments-info and leverage tiers as they were last published.

Bybit changes both without notice: live ingestion reads instruments-info and refuses where it differs. The tiers are
the first of each symbol, no more generous than Bybit's of any later day; a larger position than theirs is refused.
"""

from __future__ import annotations

from decimal import Decimal

from libs.domain.listing import Instrument, LeverageTiers, VenueListing, instrument_id

_VENUE = "BYBIT"


def _instrument(symbol: str, base: str, tick: str, step: str, max_quantity: str, market_max: str) -> Instrument:
    return Instrument(
        instrument=instrument_id(symbol, _VENUE),
        symbol=symbol,
        venue=_VENUE,
        base_asset=base,
        quote_asset="USDT",
        tick_size=Decimal(tick),
        step_size=Decimal(step),
        min_quantity=Decimal(step),
        max_quantity=Decimal(max_quantity),
        market_max_quantity=Decimal(market_max),
        min_notional=Decimal(5),
        # priceLimitRatioY, the outer bound around the mark price.
        price_multiplier_up=Decimal("1.02"),
        price_multiplier_down=Decimal("0.98"),
        max_open_orders=500,
        maker_fee_rate=Decimal("0.0002"),
        taker_fee_rate=Decimal("0.00055"),
    )


LISTING = VenueListing(
    _VENUE,
    (
        _instrument("BTCUSDT", "BTC", "0.1", "0.001", "100", "100"),
        _instrument("ETHUSDT", "ETH", "0.01", "0.01", "1000", "500"),
        _instrument("XRPUSDT", "XRP", "0.0001", "0.1", "1000000", "500000"),
    ),
    {
        "BTCUSDT": LeverageTiers("2025", "2000000", (("0", "0.005", 100),)),
        "ETHUSDT": LeverageTiers("2025", "1000000", (("0", "0.005", 100),)),
        "XRPUSDT": LeverageTiers("2025", "200000", (("0", "0.01", 50),)),
    },
)
