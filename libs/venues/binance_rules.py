"""Binance USD-M's exchangeInfo as trading rules. Pure."""

from __future__ import annotations

from collections.abc import Container, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from libs.venues.errors import VenueUnavailable
from libs.venues.rules import TradingRules


def read_rules(answer: Any, symbols: Container[str]) -> Mapping[str, TradingRules]:
    """Return the rules that GET /fapi/v1/exchangeInfo states for those of the symbols that it lists.

    Raises `VenueUnavailable` for an answer of another form.
    """
    try:
        return {row["symbol"]: _rules(row) for row in answer["symbols"] if row["symbol"] in symbols}
    except (KeyError, TypeError, InvalidOperation, ZeroDivisionError) as error:
        raise VenueUnavailable(f"exchangeInfo is not what Binance documents: {error!r}") from error


def _rules(row: Mapping[str, Any]) -> TradingRules:
    filters = {each["filterType"]: each for each in row["filters"]}
    return TradingRules(
        symbol=row["symbol"],
        contract_type=row["contractType"],
        quote_asset=row["quoteAsset"],
        tick_size=_above_zero(filters["PRICE_FILTER"]["tickSize"]),
        step_size=_above_zero(filters["LOT_SIZE"]["stepSize"]),
        min_quantity=Decimal(filters["LOT_SIZE"]["minQty"]),
        min_notional=Decimal(filters["MIN_NOTIONAL"]["notional"]),
    )


def _above_zero(text: str) -> Decimal:
    value = Decimal(text)
    if not value > 0:
        raise InvalidOperation(f"{text!r} is not above 0")
    return value
