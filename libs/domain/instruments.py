"""Instruments and their trading rules."""

from __future__ import annotations

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


class UnknownInstrument(KeyError):
    """An instrument was named that the configuration does not list."""

    def __str__(self) -> str:
        return str(self.args[0])


def instrument_id(symbol: str, venue: str) -> str:
    """Join a venue's symbol and the venue to the id every message is keyed by."""
    return f"{symbol}.{venue}"


def split_instrument_id(instrument: str) -> tuple[str, str]:
    """Split an instrument id into symbol and venue. Raises `UnknownInstrument` where the form is wrong."""
    symbol, point, venue = instrument.partition(".")
    if not (symbol and point and venue):
        raise UnknownInstrument(f"{instrument!r} is not of the form SYMBOL.VENUE, such as BTCUSDT.BINANCE")
    return symbol, venue


def _binance(
    symbol: str, base: str, tick: str, step: str, max_quantity: str, market_max: str, notional: str
) -> Instrument:
    return Instrument(
        instrument=instrument_id(symbol, "BINANCE"),
        symbol=symbol,
        venue="BINANCE",
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


# Binance USD-M production filters of 2026; live trading reads exchangeInfo and refuses where it differs.
INSTRUMENTS: dict[str, Instrument] = {
    rules.instrument: rules
    for rules in (
        _binance("BTCUSDT", "BTC", "0.1", "0.001", "1000", "120", "100"),
        _binance("ETHUSDT", "ETH", "0.01", "0.001", "10000", "2000", "20"),
    )
}


def find_instrument(instrument: str) -> Instrument:
    """Return the trading rules of an instrument id. Raises `UnknownInstrument` naming those that are known."""
    rules = INSTRUMENTS.get(instrument)
    if rules is None:
        raise UnknownInstrument(f"unknown instrument {instrument!r}; known: {', '.join(sorted(INSTRUMENTS))}")
    return rules
