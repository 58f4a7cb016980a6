"""Leverage brackets: the tiers of maintenance rate, deduction and leverage that a venue applies to a position's
notional.

Refuses tables that no exchange could mean: gaps, overlaps, falling rates, a deduction that breaks the recurrence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal, InvalidOperation
from functools import cached_property

ZERO = Decimal(0)
ONE = Decimal(1)
_DATED = re.compile(r"-(\d{6})$")
EXACT = Context(prec=60, rounding=ROUND_HALF_EVEN)
"""Context of every computation in this package: so wide that only divisions round, whatever the caller's context is."""


class MarginError(ValueError):
    """An input of a margin computation is impossible; the text names the field and how to fix it."""


def read_decimal(value: object, field: str) -> Decimal:
    """Read a finite Decimal from a decimal string, an int or a Decimal; floats are read by their shortest text.

    Raises `MarginError` naming the field for anything else, NaN and infinities included.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise MarginError(f'{field}: {value!r} is not a number; give a decimal string such as "0.5"')
    try:
        number = Decimal(str(value).strip())
    except InvalidOperation:
        raise MarginError(f'{field}: {value!r} is not a number; give a decimal string such as "0.5"') from None
    if not number.is_finite():
        raise MarginError(f"{field}: {value} is not a finite number; NaN and infinities are refused")
    return number


@dataclass(frozen=True, slots=True)
class Bracket:
    """One tier, for notionals in (`notional_floor`, `notional_cap`] in quote units.

    `maintenance_rate` is a share of notional, `maintenance_amount` (Binance "cum", Bybit "mmDeduction") is deducted.
    """

    notional_floor: Decimal
    notional_cap: Decimal
    maintenance_rate: Decimal
    maintenance_amount: Decimal
    max_leverage: int


@dataclass(frozen=True)
class BracketTable:
    """The tiers of one symbol, ascending. Build it with `build_bracket_table`, which checks them."""

    symbol: str
    brackets: tuple[Bracket, ...]
    as_of: str = ""

    @cached_property
    def max_notional(self) -> Decimal:
        """The largest notional the venue allows, the last tier's cap."""
        return self.brackets[-1].notional_cap

    def bracket_of(self, notional: Decimal) -> Bracket:
        """Return the tier of a notional (>= 0); beyond the last cap the last tier goes on."""
        for bracket in self.brackets:
            if notional <= bracket.notional_cap:
                return bracket
        return self.brackets[-1]

    def maintenance_margin(self, notional: Decimal) -> Decimal:
        """Return notional x rate - deduction at the tier of the notional, in quote units, exact."""
        bracket = self.bracket_of(notional)
        return EXACT.subtract(EXACT.multiply(notional, bracket.maintenance_rate), bracket.maintenance_amount)


def _check_order(symbol: str, index: int, previous: Bracket, current: Bracket) -> None:
    where = f"brackets of {symbol}: tier {index}"
    if current.notional_floor < previous.notional_cap:
        raise MarginError(
            f"{where} overlaps the one before: its floor {current.notional_floor} lies below {previous.notional_cap}; "
            "tiers must meet end to end"
        )
    if current.notional_floor > previous.notional_cap:
        raise MarginError(
            f"{where} leaves a gap: its floor {current.notional_floor} lies above the cap {previous.notional_cap} of "
            "the one before; tiers must meet end to end"
        )
    if current.maintenance_rate < previous.maintenance_rate:
        raise MarginError(
            f"{where}: maintMarginRatio {current.maintenance_rate} falls below {previous.maintenance_rate} of the one "
            "before; rates never fall with notional"
        )
    if current.max_leverage > previous.max_leverage:
        raise MarginError(
            f"{where}: initialLeverage {current.max_leverage} exceeds {previous.max_leverage} of the one before; "
            "leverage never rises with notional"
        )
    step = EXACT.subtract(current.maintenance_rate, previous.maintenance_rate)
    expected = EXACT.add(previous.maintenance_amount, EXACT.multiply(current.notional_floor, step))
    if current.maintenance_amount != expected:
        raise MarginError(
            f"{where}: cum {current.maintenance_amount} breaks the recurrence cum + floor x (rate - rate before), "
            f"which gives {expected}; fetch the brackets again"
        )


def build_bracket_table(symbol: str, brackets: Sequence[Bracket], as_of: str = "") -> BracketTable:
    """Check the tiers of a symbol, in any order, and return them as a table.

    Raises `MarginError` naming the tier: none at all, negative numbers, rates outside (0, 1), floor not below cap,
    first floor above zero, overlap, gap, falling rate, rising leverage, or a broken recurrence
    cum_n = cum_(n-1) + floor_n x (rate_n - rate_(n-1)).
    """
    if not brackets:
        raise MarginError(f"brackets of {symbol}: there are none; at least one tier is needed")
    ordered = tuple(sorted(brackets, key=lambda bracket: (bracket.notional_floor, bracket.notional_cap)))
    for index, bracket in enumerate(ordered, start=1):
        where = f"brackets of {symbol}: tier {index}"
        if bracket.notional_floor < 0:
            raise MarginError(f"{where}: notionalFloor {bracket.notional_floor} is negative; it must be zero or above")
        if bracket.notional_cap <= bracket.notional_floor:
            raise MarginError(
                f"{where}: notionalCap {bracket.notional_cap} does not exceed notionalFloor {bracket.notional_floor}"
            )
        if not ZERO < bracket.maintenance_rate < ONE:
            raise MarginError(f"{where}: maintMarginRatio {bracket.maintenance_rate} lies outside (0, 1)")
        if bracket.maintenance_amount < 0:
            raise MarginError(f"{where}: cum {bracket.maintenance_amount} is negative; it must be zero or above")
        if bracket.max_leverage < 1:
            raise MarginError(f"{where}: initialLeverage {bracket.max_leverage} is below 1")
    first = ordered[0]
    if first.notional_floor != 0:
        raise MarginError(f"brackets of {symbol}: the first tier starts at {first.notional_floor}; it must start at 0")
    if first.maintenance_amount != 0:
        raise MarginError(f"brackets of {symbol}: cum {first.maintenance_amount} of the first tier; it must be 0")
    for index in range(1, len(ordered)):
        _check_order(symbol, index + 1, ordered[index - 1], ordered[index])
    return BracketTable(symbol, ordered, as_of)


def build_from_tiers(symbol: str, tiers: Sequence[tuple[str, str, int]], last_cap: str, as_of: str) -> BracketTable:
    """Build a table from (floor, rate, max leverage) per tier; deductions follow from the recurrence."""
    brackets: list[Bracket] = []
    amount = rate_before = ZERO
    for index, (floor_text, rate_text, max_leverage) in enumerate(tiers):
        floor, rate = Decimal(floor_text), Decimal(rate_text)
        if index:
            amount = EXACT.add(amount, EXACT.multiply(floor, EXACT.subtract(rate, rate_before)))
        cap = Decimal(tiers[index + 1][0] if index + 1 < len(tiers) else last_cap)
        brackets.append(Bracket(floor, cap, rate, amount, max_leverage))
        rate_before = rate
    return build_bracket_table(symbol, brackets, as_of)


def _read_bracket(symbol: str, index: int, entry: object) -> Bracket:
    where = f"brackets of {symbol}: entry {index}"
    if not isinstance(entry, Mapping):
        raise MarginError(f"{where} is not an object; give notionalFloor, notionalCap, maintMarginRatio, cum")
    numbers: dict[str, Decimal] = {}
    for name in ("notionalFloor", "notionalCap", "maintMarginRatio", "cum", "initialLeverage"):
        if name not in entry:
            raise MarginError(f"{where} lacks {name}; give the answer of GET /fapi/v1/leverageBracket unchanged")
        numbers[name] = read_decimal(entry[name], f"{where}: {name}")
    leverage = numbers["initialLeverage"]
    if leverage != leverage.to_integral_value():
        raise MarginError(f"{where}: initialLeverage {leverage} is not a whole number")
    return Bracket(
        notional_floor=numbers["notionalFloor"],
        notional_cap=numbers["notionalCap"],
        maintenance_rate=numbers["maintMarginRatio"],
        maintenance_amount=numbers["cum"],
        max_leverage=int(leverage),
    )


def _contract_name(entry: Mapping[str, object]) -> str:
    """Name the contract; recordings made through ccxt give a dated future the perpetual's symbol and its expiry
    apart.
    """
    symbol = str(entry["symbol"])
    dated = _DATED.search(str(entry.get("ccxt_symbol", "")))
    return f"{symbol}_{dated.group(1)}" if dated and "_" not in symbol else symbol


def parse_leverage_brackets(answer: object) -> dict[str, BracketTable]:
    """Read an answer of `GET /fapi/v1/leverageBracket`, for all symbols (a list) or for one (an object).

    Fields beyond those needed are ignored. Dated futures are listed under ``SYMBOL_YYMMDD``. Raises `MarginError`
    naming symbol, tier and field of the first error.
    """
    entries = [answer] if isinstance(answer, Mapping) else answer
    if not isinstance(entries, list) or not entries:
        raise MarginError("brackets: expected a list of symbols as GET /fapi/v1/leverageBracket answers")
    tables: dict[str, BracketTable] = {}
    for index, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or not isinstance(entry.get("symbol"), str) or not entry["symbol"]:
            raise MarginError(f"brackets: entry {index} names no symbol")
        symbol = _contract_name(entry)
        if symbol in tables:
            raise MarginError(f"brackets: {symbol} appears twice; keep one entry per symbol")
        tiers = entry.get("brackets")
        if not isinstance(tiers, list):
            raise MarginError(f"brackets of {symbol}: 'brackets' is not a list of tiers")
        tables[symbol] = build_bracket_table(
            symbol, [_read_bracket(symbol, number, tier) for number, tier in enumerate(tiers)]
        )
    return tables
