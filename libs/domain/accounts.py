"""Positions and accounts: computes fills, fees and funding in a one-way, cross-margined account."""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TypeAlias

from libs.domain.numbers import quantize_e8

ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Position:
    """A one-way position: `quantity` is signed (short below zero), `entry_price` the average of what is open.

    Flat positions keep `entry_price` 0. `realised_pnl` is before fees, over the life of the account.
    """

    instrument: str
    quantity: Decimal = ZERO
    entry_price: Decimal = ZERO
    mark_price: Decimal = ZERO
    realised_pnl: Decimal = ZERO
    fees_paid: Decimal = ZERO
    funding_paid: Decimal = ZERO

    @property
    def unrealised_pnl(self) -> Decimal:
        """Profit at the mark price; 0 while no mark is known."""
        if not self.quantity or not self.mark_price:
            return ZERO
        return quantize_e8((self.mark_price - self.entry_price) * self.quantity)

    def apply_fill(self, signed_quantity: Decimal, price: Decimal, fee: Decimal) -> tuple[Position, Decimal]:
        """Return the position after a fill and the profit it realised (before the fee).

        Adding averages the entry; reducing realises (price - entry) x closed; crossing zero does both.
        """
        old = self.quantity
        new = old + signed_quantity
        realised = ZERO
        if old and (old > 0) != (signed_quantity > 0):
            closed = min(abs(old), abs(signed_quantity)) * (1 if old > 0 else -1)
            realised = quantize_e8((price - self.entry_price) * closed)
            if not new:
                entry = ZERO
            elif (new > 0) == (old > 0):
                entry = self.entry_price
            else:
                entry = price
        else:
            entry = quantize_e8((self.entry_price * old + price * signed_quantity) / new)
        position = replace(
            self,
            quantity=new,
            entry_price=entry,
            realised_pnl=self.realised_pnl + realised,
            fees_paid=self.fees_paid + fee,
        )
        return position, realised


@dataclass(frozen=True, slots=True)
class VenuePosition:
    """An open position as its venue counts it: `quantity` signed and never 0, `entry_price` above 0."""

    instrument: str
    quantity: Decimal
    entry_price: Decimal


@dataclass(frozen=True, slots=True)
class VenueAccount:
    """An account as its venue keeps it, written before it is handled; it takes precedence over our own figures.

    `event_id` is ``venue-account/ACCOUNT/event_time``. `cause_id` is the command that asked for the venue's books to be
    taken over, empty where none did.
    """

    event_id: str
    event_time: int
    account: str
    wallet_balance: Decimal
    positions: tuple[VenuePosition, ...]
    cause_id: str = ""


@dataclass(frozen=True, slots=True)
class AccountState:
    """An account after a change. `wallet_balance` holds realised profit, fees and funding; `equity` adds unrealised.

    `event_id` is ``account/ACCOUNT/sequence``; `cause_id` the event that changed it.
    """

    event_id: str
    event_time: int
    account: str
    sequence: int
    wallet_balance: Decimal
    equity: Decimal
    initial_margin: Decimal
    available_balance: Decimal
    positions: tuple[Position, ...]
    open_order_count: int
    cause_id: str = ""

    def position(self, instrument: str) -> Position:
        """Return the position in an instrument, flat if there is none."""
        for held in self.positions:
            if held.instrument == instrument:
                return held
        return Position(instrument)


AccountMessage: TypeAlias = AccountState | VenueAccount
