"""What the page shows of an event, as plain JSON values: its fields, and what is computed from them. No I/O.

A row follows from the event's declared fields: `event_time` is `time_ms`, another time in ns ends in `_ms`, money is a
decimal string, an enum its name, a value inside the event a row of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias

from libs.domain.accounts import AccountState, Position
from libs.domain.numbers import format_decimal
from libs.domain.orders import OrderEvent, OrderRefused

Row: TypeAlias = dict[str, Any]

_Plan: TypeAlias = tuple[tuple[str, str, Callable[[Any], Any]], ...]
"""A field's name, its key in the row, and how its value is shown."""

_NS_PER_MS = 1_000_000


def to_ms(time_ns: int) -> int:
    """Turn ns since epoch into ms, which a browser's numbers hold exactly."""
    return time_ns // _NS_PER_MS


def row_of(event: Any) -> Row:
    """Show an event."""
    kind = type(event)
    if kind not in _PLANS:
        _PLANS[kind] = _plan(kind)
    row = {key: None if (value := getattr(event, name)) is None else show(value) for name, key, show in _PLANS[kind]}
    return row | _COMPUTED[kind](event) if kind in _COMPUTED else row


def _plan(kind: Any) -> _Plan:
    keys = ((each.name, _key(each.name)) for each in dataclasses.fields(kind))
    return tuple((name, key, _show if key == name else to_ms) for name, key in keys)


def _key(name: str) -> str:
    if name == "event_time":
        return "time_ms"
    for ending in ("_time", "_ns"):
        if name.endswith(ending):
            return f"{name.removesuffix(ending)}_ms"
    return name


def _show(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, Decimal):
        return format_decimal(value)
    if isinstance(value, tuple):
        return [_show(each) for each in value]
    return row_of(value) if dataclasses.is_dataclass(value) else value


def _account_figures(state: AccountState) -> Row:
    """The notional of all positions at mark, and over equity."""
    notional = sum((abs(held.quantity) * (held.mark_price or held.entry_price) for held in state.positions), Decimal(0))
    leverage = round(float(notional / state.equity), 4) if state.equity > 0 else None
    return {"notional": format_decimal(notional), "leverage": leverage}


def _position_figures(position: Position) -> Row:
    net = position.realised_pnl - position.fees_paid - position.funding_paid
    return {
        "unrealised_pnl": format_decimal(position.unrealised_pnl),
        # After what it cost: what the wallet really gained.
        "net_pnl": format_decimal(net),
    }


_COMPUTED: dict[type, Callable[[Any], Row]] = {
    AccountState: _account_figures,
    Position: _position_figures,
    # The failed ones alone: with all of them the refusals shown would be a hundred kilobytes at every change.
    OrderRefused: lambda event: {"checks": [row_of(check) for check in event.checks if not check.has_passed]},
    OrderEvent: lambda event: {"is_open": event.status.is_open},
}
_PLANS: dict[type, _Plan] = {}
