"""The account a person asks about, as plain JSON values, checked field by field into positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar

from libs.margin.brackets import ZERO, BracketTable, MarginError, read_decimal
from libs.margin.liquidation import Leg, MarginMode, PositionMode, PositionSide, check_leg, flat_brackets

_ACCOUNT_FIELDS = ("margin_mode", "position_mode", "wallet_balance", "positions")
_NEEDED = ("symbol", "side", "quantity", "entry_price", "mark_price", "leverage")
_OPTIONAL = ("isolated_margin", "maintenance_margin_rate", "maintenance_amount")

WordT = TypeVar("WordT", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class AccountQuestion:
    """An account ready to be solved; `notes` are remarks per position, in the same order."""

    margin_mode: MarginMode
    position_mode: PositionMode
    wallet_balance: Decimal
    legs: tuple[Leg, ...]
    notes: tuple[tuple[str, ...], ...]


def _check_fields(where: str, given: Mapping[str, object], needed: Sequence[str], known: Sequence[str]) -> None:
    for name in needed:
        if name not in given:
            raise MarginError(f"{where}{name} is missing; needed are {', '.join(needed)}")
    for name in given:
        if name not in known:
            raise MarginError(f"{where}{name} is no field of it; known are {', '.join(known)}")


def _read_word(value: object, kind: type[WordT], field: str) -> WordT:
    try:
        return kind(str(value))
    except ValueError:
        raise MarginError(f"{field}: {value!r} must be one of {', '.join(kind)}") from None


def _read_tables(
    entry: Mapping[str, object], symbol: str, where: str, tables: Mapping[str, BracketTable]
) -> BracketTable:
    rate, amount = entry.get("maintenance_margin_rate"), entry.get("maintenance_amount")
    if rate is not None:
        deducted = ZERO if amount is None else read_decimal(amount, f"{where}maintenance_amount")
        try:
            return flat_brackets(symbol, read_decimal(rate, f"{where}maintenance_margin_rate"), deducted)
        except MarginError as error:
            text = str(error)
            raise MarginError(text if text.startswith(where) else f"{where}{text}") from None
    if amount is not None:
        raise MarginError(f"{where}maintenance_amount is given without maintenance_margin_rate; give both or neither")
    if symbol not in tables:
        shown = ", ".join(sorted(tables)[:8]) + (", ..." if len(tables) > 8 else "")
        raise MarginError(
            f"{where}symbol: unknown symbol {symbol!r}, no brackets for it (known: {shown}); give brackets that list "
            "it, or maintenance_margin_rate and maintenance_amount"
        )
    return tables[symbol]


def _read_leg(index: int, entry: object, tables: Mapping[str, BracketTable]) -> tuple[Leg, tuple[str, ...]]:
    where = f"positions[{index}]."
    if not isinstance(entry, Mapping):
        raise MarginError(f"positions[{index}] is not an object; give {', '.join(_NEEDED)}")
    _check_fields(where, entry, _NEEDED, _NEEDED + _OPTIONAL)
    symbol = entry["symbol"]
    if not isinstance(symbol, str) or not symbol:
        raise MarginError(f"{where}symbol: {symbol!r} is not a symbol such as BTCUSDT")
    numbers = {name: read_decimal(entry[name], where + name) for name in _NEEDED[2:]}
    margin = entry.get("isolated_margin")
    leg = Leg(
        symbol=symbol,
        side=_read_word(entry["side"], PositionSide, f"{where}side"),
        quantity=numbers["quantity"],
        entry_price=numbers["entry_price"],
        mark_price=numbers["mark_price"],
        leverage=numbers["leverage"],
        brackets=_read_tables(entry, symbol, where, tables),
        isolated_margin=None if margin is None else read_decimal(margin, f"{where}isolated_margin"),
    )
    try:
        check_leg(leg)
    except MarginError as error:
        raise MarginError(f"{where}{error}") from None
    notes: list[str] = []
    notional = leg.quantity * leg.entry_price
    allowed = leg.brackets.bracket_of(notional).max_leverage
    if leg.leverage > allowed:
        notes.append(f"leverage {leg.leverage} exceeds {allowed}, the most the venue allows at this notional")
    if notional > leg.brackets.max_notional:
        notes.append(f"notional exceeds {leg.brackets.max_notional}, the most the venue allows; the last tier is used")
    return leg, tuple(notes)


def read_account(payload: object, tables: Mapping[str, BracketTable]) -> AccountQuestion:
    """Check the account's JSON values and return it with its brackets.

    A `maintenance_margin_rate` replaces the brackets at every notional, with `maintenance_amount` (0 if null)
    deducted. Raises `MarginError` naming the field by its path: missing, unknown, not a number, NaN, out of range,
    unknown symbol, or positions that the position mode does not allow.
    """
    if not isinstance(payload, Mapping):
        raise MarginError(f"account: expected an object with {', '.join(_ACCOUNT_FIELDS)}")
    _check_fields("account.", payload, _ACCOUNT_FIELDS, _ACCOUNT_FIELDS)
    positions = payload["positions"]
    if not isinstance(positions, list):
        raise MarginError("account.positions: expected a list of positions")
    wallet = read_decimal(payload["wallet_balance"], "wallet_balance")
    if wallet < 0:
        raise MarginError(f"wallet_balance: {wallet} must be zero or above")
    read = [_read_leg(index, entry, tables) for index, entry in enumerate(positions)]
    return AccountQuestion(
        margin_mode=_read_word(payload["margin_mode"], MarginMode, "margin_mode"),
        position_mode=_read_word(payload["position_mode"], PositionMode, "position_mode"),
        wallet_balance=wallet,
        legs=tuple(leg for leg, _ in read),
        notes=tuple(notes for _, notes in read),
    )
