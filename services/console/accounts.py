"""The accounts of a session as its topics have them now: trading state, equity, positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from libs.bus.api import Bus, Record, TopicPartition
from libs.domain.accounts import AccountState
from libs.domain.control import ControlState
from libs.domain.events import Event
from libs.domain.numbers import format_decimal
from libs.runtime.records import read_range
from libs.wire import DecodeError, decode
from libs.wire.topics import ACCOUNTS, CONTROL_STATES
from services.console.placing import placement_of
from services.console.session import SessionDescription
from services.console.session_bus import open_session_bus

_Latest = TypeVar("_Latest", ControlState, AccountState)
_TAIL = 256
UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class PositionRow:
    """An open position; numbers are decimal strings, `quantity` is signed."""

    instrument: str
    quantity: str
    entry_price: str
    unrealised_pnl: str


@dataclass(frozen=True, slots=True)
class AccountRow:
    """An account; `trading_state` is unknown until risk has published one, the amounts None until execution has."""

    account: str
    trading_state: str
    reason: str
    equity: str | None
    wallet_balance: str | None
    open_orders: int | None
    positions: tuple[PositionRow, ...] | None


def read_accounts(session: SessionDescription) -> list[AccountRow]:
    """Return the accounts of a session by name; without its log, those that it was started with. Raises `BusError`."""
    kind, _, path = session.bus.partition(":")
    if kind == "sqlite" and not Path(path).is_file():
        return [_row(name, None, None) for name in sorted(configured_accounts(session))]
    with open_session_bus(session) as bus:
        return accounts_on(bus, session)


def configured_accounts(session: SessionDescription) -> set[str]:
    """Return the accounts that a session was started with: those that it places, else that of its services."""
    placed = placement_of(session).accounts
    if placed:
        return set(placed)
    names = ("PERPFLOW_STRATEGY_ACCOUNT", "PERPFLOW_RISK_ACCOUNT", "PERPFLOW_EXECUTION_ACCOUNT")
    return {session.environment[name] for name in names if name in session.environment}


def accounts_on(bus: Bus, session: SessionDescription) -> list[AccountRow]:
    """Return the accounts that a session was started with and those that its topics speak of."""
    known = configured_accounts(session)
    controls = _latest(bus, CONTROL_STATES, known, ControlState)
    accounts = _latest(bus, ACCOUNTS, known, AccountState)
    names = sorted(known | controls.keys() | accounts.keys())
    return [_row(name, controls.get(name), accounts.get(name)) for name in names]


def _latest(bus: Bus, topic: str, wanted: set[str], kind: type[_Latest]) -> Mapping[str, _Latest]:
    """Return the newest event of each account, from as far back as it takes to find those wanted."""
    found: dict[str, _Latest] = {}
    where = [TopicPartition(topic, number) for number in range(bus.topics().get(topic, 0))]
    begins = bus.beginning_offsets(where)
    for at, end in bus.end_offsets(where).items():
        length = _TAIL
        while True:
            first = max(begins[at], end - length)
            for record in read_range(bus, topic, at.partition, first, end):
                event = read_event(record)
                if isinstance(event, kind):
                    found[event.account] = event
            if first == begins[at] or wanted <= found.keys():
                break
            length *= 8
    return found


def read_event(record: Record) -> Event | None:
    """Return the event of a record, None where it cannot be read."""
    try:
        return decode(record.topic, record.value)
    except DecodeError:
        # Nothing that a command could do about it; the services put it among the dead letters.
        return None


def _row(name: str, control: ControlState | None, account: AccountState | None) -> AccountRow:
    return AccountRow(
        account=name,
        trading_state=UNKNOWN if control is None else control.state.name,
        reason="risk has published no state yet" if control is None else control.reason,
        equity=None if account is None else format_decimal(account.equity),
        wallet_balance=None if account is None else format_decimal(account.wallet_balance),
        open_orders=None if account is None else account.open_order_count,
        positions=None
        if account is None
        else tuple(
            PositionRow(
                position.instrument,
                format_decimal(position.quantity),
                format_decimal(position.entry_price),
                format_decimal(position.unrealised_pnl),
            )
            for position in account.positions
            if position.quantity
        ),
    )


def describe_positions(positions: Sequence[PositionRow] | None) -> str:
    """Say what an account holds in one line."""
    if positions is None:
        return UNKNOWN
    return ", ".join(f"{held.quantity} {held.instrument} at {held.entry_price}" for held in positions) or "flat"
