"""The trading rules that a venue states for a symbol, held against those that its instrument declares. Pure.

Orders are sized, priced and checked by the declared rules; where the venue's are others, nothing is traded or recorded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from libs.domain.instruments import INSTRUMENTS, find_instrument, split_instrument_id
from libs.domain.numbers import format_decimal
from libs.venues.errors import VenueRefused

PERPETUAL = "PERPETUAL"


@dataclass(frozen=True, slots=True)
class TradingRules:
    """What a venue states for a symbol. `contract_type` is in its own word, PERPETUAL where nothing ever settles."""

    symbol: str
    contract_type: str
    quote_asset: str
    tick_size: Decimal
    step_size: Decimal
    min_quantity: Decimal
    min_notional: Decimal


def check_rules(instruments: Iterable[str], stated: Mapping[str, TradingRules], *, may_be_looser: bool = False) -> None:
    """Raise `VenueRefused` naming every rule that differs, or an instrument that the venue does not list.

    With `may_be_looser` (a testnet has rules of its own) only those are refused that an order of the declared rules may
    not fit.
    """
    found = [
        f"{name}: {difference}"
        for name in instruments
        for difference in _compare(name, stated, may_be_looser=may_be_looser)
    ]
    if found:
        raise VenueRefused(
            f"the venue's trading rules are not those declared: {'; '.join(found)}; "
            "correct the instrument in libs/domain/instruments.py"
        )


def check_market(instrument: str, stated: Mapping[str, TradingRules]) -> None:
    """Raise `VenueRefused` for an instrument whose market cannot be followed: not listed, or no perpetual.

    One that is not declared here is followed and never traded; the rules of a declared one must be the venue's.
    """
    if instrument in INSTRUMENTS:
        check_rules([instrument], stated)
        return
    symbol, _ = split_instrument_id(instrument)
    rules = stated.get(symbol)
    if rules is None:
        raise VenueRefused(f"the venue does not list {symbol}; check the symbol")
    if rules.contract_type != PERPETUAL:
        raise VenueRefused(f"{symbol} is a {rules.contract_type}, not a perpetual; choose a perpetual")


def _compare(name: str, stated: Mapping[str, TradingRules], *, may_be_looser: bool) -> Sequence[str]:
    declared = find_instrument(name)
    rules = stated.get(declared.symbol)
    if rules is None:
        return [f"the venue does not list {declared.symbol}"]
    found = []
    if rules.contract_type != PERPETUAL:
        found.append(f"it is a {rules.contract_type}, not a perpetual")
    if rules.quote_asset != declared.quote_asset:
        found.append(f"it is quoted in {rules.quote_asset}, declared is {declared.quote_asset}")
    numbers = {
        "tick size": (declared.tick_size, rules.tick_size, not declared.tick_size % rules.tick_size),
        "step size": (declared.step_size, rules.step_size, not declared.step_size % rules.step_size),
        "minimum quantity": (declared.min_quantity, rules.min_quantity, declared.min_quantity >= rules.min_quantity),
        "minimum notional": (declared.min_notional, rules.min_notional, declared.min_notional >= rules.min_notional),
    }
    for rule, (ours, theirs, fits) in numbers.items():
        if ours != theirs and not (may_be_looser and fits):
            found.append(f"{rule} is {format_decimal(theirs)} at the venue, declared is {format_decimal(ours)}")
    return found
