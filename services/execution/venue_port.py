"""What execution needs of a real venue. Whoever implements it turns the venue's protocol into these few words.

::

    VenueError
    |- VenueRefused      the venue said no; nothing happened
    '- VenueUncertain    timeout, lost connection, 5xx: it may or may not have happened; ask before anything else
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol

from libs.domain.orders import CancelOrder, Liquidity, OrderStatus, PlaceOrder


class VenueError(Exception):
    """A call to the venue did not do what was asked."""


class VenueRefused(VenueError):
    """The venue refused; the text begins with its error code."""


class VenueUncertain(VenueError):
    """Nobody knows whether the call took effect."""


@dataclass(frozen=True, slots=True)
class VenueFill:
    """One execution. `fee` is in the quote asset, positive when paid; `event_time` in ns."""

    venue_trade_id: str
    event_time: int
    quantity: Decimal
    price: Decimal
    fee: Decimal
    liquidity: Liquidity


@dataclass(frozen=True, slots=True)
class VenueOrderState:
    """An order as the venue knows it. `raw` is its answer's text.

    `fills` are all its executions so far; the venue may list them later than it counts `filled_quantity`.
    """

    client_order_id: str
    venue_order_id: str
    instrument: str
    status: OrderStatus
    filled_quantity: Decimal
    event_time: int
    fills: tuple[VenueFill, ...] = ()
    reason: str = ""
    raw: str = ""


class VenuePort(Protocol):
    """The calls. Every one may raise `VenueUncertain`."""

    def place(self, command: PlaceOrder) -> VenueOrderState:
        """Send an order under its client order id. Raises `VenueRefused`."""
        ...

    def cancel(self, command: CancelOrder) -> None:
        """Cancel an order. Raises `VenueRefused`, also where it is closed or unknown."""
        ...

    def query(self, instrument: str, client_order_id: str) -> VenueOrderState | None:
        """Return an order with its fills, None where the venue says that it has none of that id."""
        ...

    def open_order_ids(self) -> Sequence[str]:
        """Return the client order ids of all open orders of the account."""
        ...

    def positions(self) -> Mapping[str, Decimal]:
        """Return the signed quantity held per instrument; absent means flat."""
        ...
