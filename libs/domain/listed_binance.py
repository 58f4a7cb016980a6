"""Binance USD-M's listing: production filters of 2026, and leverage tiers as they stood on a stated day.

The venue changes both without notice: live trading reads exchangeInfo and refuses where it differs; the tiers are for
paper, tests and questions.
"""

from __future__ import annotations

from decimal import Decimal

from libs.domain.listing import Instrument, LeverageTiers, VenueListing, instrument_id

_VENUE = "BINANCE"


def _instrument(
    symbol: str, base: str, tick: str, step: str, max_quantity: str, market_max: str, notional: str
) -> Instrument:
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
        min_notional=Decimal(notional),
        price_multiplier_up=Decimal("1.05"),
        price_multiplier_down=Decimal("0.95"),
        max_open_orders=200,
        maker_fee_rate=Decimal("0.0002"),
        taker_fee_rate=Decimal("0.0005"),
    )


LISTING = VenueListing(
    _VENUE,
    (
        _instrument("BTCUSDT", "BTC", "0.1", "0.001", "1000", "120", "100"),
        _instrument("ETHUSDT", "ETH", "0.01", "0.001", "10000", "2000", "20"),
    ),
    {
        "BTCUSDT": LeverageTiers(
            "2024-10",
            "1800000000",
            (
                ("0", "0.004", 125),
                ("50000", "0.005", 100),
                ("600000", "0.0065", 75),
                ("3000000", "0.01", 50),
                ("12000000", "0.02", 25),
                ("70000000", "0.025", 20),
                ("100000000", "0.05", 10),
                ("230000000", "0.1", 5),
                ("480000000", "0.125", 4),
                ("600000000", "0.15", 3),
                ("800000000", "0.25", 2),
                ("1200000000", "0.5", 1),
            ),
        ),
        "ETHUSDT": LeverageTiers(
            "2026-03-27",
            "1200000000",
            (
                ("0", "0.004", 150),
                ("300000", "0.005", 100),
                ("800000", "0.0065", 75),
                ("3000000", "0.01", 50),
                ("12000000", "0.02", 25),
                ("50000000", "0.025", 20),
                ("65000000", "0.05", 10),
                ("150000000", "0.1", 5),
                ("320000000", "0.125", 4),
                ("400000000", "0.15", 3),
                ("530000000", "0.25", 2),
                ("800000000", "0.5", 1),
            ),
        ),
        "SOLUSDT": LeverageTiers(
            "2026-03-27",
            "400000000",
            (
                ("0", "0.005", 100),
                ("50000", "0.0065", 75),
                ("400000", "0.01", 50),
                ("1000000", "0.02", 25),
                ("4000000", "0.025", 20),
                ("8000000", "0.05", 10),
                ("40000000", "0.1", 5),
                ("80000000", "0.125", 4),
                ("100000000", "0.25", 2),
                ("200000000", "0.5", 1),
            ),
        ),
        "BNBUSDT": LeverageTiers(
            "2026-03-27",
            "150000000",
            (
                ("0", "0.005", 75),
                ("10000", "0.006", 50),
                ("200000", "0.01", 40),
                ("400000", "0.02", 25),
                ("1500000", "0.025", 20),
                ("3000000", "0.05", 10),
                ("15000000", "0.1", 5),
                ("30000000", "0.125", 4),
                ("37500000", "0.25", 2),
                ("75000000", "0.5", 1),
            ),
        ),
        "XRPUSDT": LeverageTiers(
            "2026-03-27",
            "100000000",
            (
                ("0", "0.005", 100),
                ("40000", "0.006", 75),
                ("80000", "0.01", 50),
                ("150000", "0.0125", 40),
                ("400000", "0.02", 25),
                ("1000000", "0.025", 20),
                ("2000000", "0.05", 10),
                ("10000000", "0.1", 5),
                ("20000000", "0.125", 4),
                ("25000000", "0.25", 2),
                ("50000000", "0.5", 1),
            ),
        ),
    },
)
