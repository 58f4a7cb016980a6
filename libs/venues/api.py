"""What trading needs of a venue: an implementation of `TradingVenue` turns its protocol into these calls."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Protocol

from libs.domain.orders import PlaceOrder
from libs.domain.venues import VenueAccountSnapshot, VenueOrderState


class TradingVenue(Protocol):
    """The calls; used from one thread. Every one that asks the venue may raise `VenueUnavailable`."""

    def prepare(self, instruments: Sequence[str], leverage: int) -> None:
        """Check that the account is what is computed with (one-way, single-asset, cross) and set its leverage.

        The trading rules of the instruments must be those declared. Raises `VenueRefused` naming what is otherwise and
        how to change it.
        """
        ...

    def now(self) -> int:
        """Return the venue's clock in ns since epoch UTC, from the last time it was asked; asks nothing."""
        ...

    def synchronise(self) -> None:
        """Ask for the venue's time."""
        ...

    def place(self, order: PlaceOrder) -> VenueOrderState:
        """Send an order under its client order id; conditional ones rest at the venue. Raises `VenueRefused`."""
        ...

    def cancel(self, order: PlaceOrder) -> None:
        """Cancel an order. Raises `VenueRefused`, also where it is closed or unknown."""
        ...

    def query(self, order: PlaceOrder, booked: Decimal) -> VenueOrderState | None:
        """Return an order with its fills, None where the venue says that it has none of that id.

        Where it has filled just the quantity `booked`, the fills may be left out.
        """
        ...

    def open_order_ids(self) -> Sequence[str]:
        """Return the client order ids of all open orders of the account, conditional ones too."""
        ...

    def account(self) -> VenueAccountSnapshot:
        """Return the account's wallet and positions, both of one moment."""
        ...

    def set_cancel_countdown(self, instrument: str, countdown_ms: int) -> None:
        """Have the venue cancel the instrument's open orders by itself after this time, unless set again before."""
        ...

    def has_account_update(self) -> bool:
        """Whether the venue has pushed anything about the account since the last call. A hint, never a fact."""
        ...

    def close(self) -> None:
        """Close the connections; a countdown that was set runs on."""
        ...
