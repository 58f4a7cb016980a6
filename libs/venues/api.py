"""The two ports of a venue: its market data (`MarketData`, `FrameDecoder`) and trading at it (`TradingVenue`).

Code that follows a market or sends orders knows these alone; `libs.venues.registry` finds a venue's by its name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from libs.domain.market import ExchangeBar, MarketEvent, Trade
from libs.domain.orders import PlaceOrder
from libs.domain.venues import VenueAccountSnapshot, VenueOrderState
from libs.venues.archives import VenueArchive
from libs.venues.frames import OpenedFrame
from libs.venues.history import MarketHistory
from libs.venues.rest import RestClient


class FrameDecoder(Protocol):
    """Turns a venue's frames into market events, in the order in which they came.

    With `keeps_state` a frame's events depend on those before it, so that reading must begin at the first.
    `rest_symbol` finds the symbol in the addresses of those REST answers that recordings may hold as frames.
    """

    keeps_state: bool
    rest_symbol: re.Pattern[bytes]

    def open(self, payload: bytes) -> OpenedFrame | None:
        """Tell a frame's kind, symbol and time; None for acknowledgements. Raises `FrameError`."""
        ...

    def venue_of(self, payload: bytes) -> str:
        """Tell which of an exchange's markets a frame is of, as a venue's name; empty where it does not say.

        Raises `FrameError`.
        """
        ...

    def decode(
        self, frame: OpenedFrame, *, received_time: int, fallback_time: int, symbol: str = ""
    ) -> Sequence[MarketEvent]:
        """Return a frame's events, none where it is known and not wanted. Raises `FrameError`.

        `fallback_time` (ns) dates frames that carry no time; `symbol` names frames that carry none.
        """
        ...


@dataclass(frozen=True, slots=True)
class StreamDeclaration:
    """A websocket of a venue: its address, what it carries, what is sent to it.

    `subscribe` goes out once connected, `resubscribe` to have the book's snapshot sent anew, `ping` every
    `ping_every_s`.
    """

    name: str
    url: str
    carries_trades: bool
    carries_book: bool
    subscribe: tuple[bytes, ...] = ()
    resubscribe: tuple[bytes, ...] = ()
    ping: bytes = b""
    ping_every_s: float = 20.0


@dataclass(frozen=True, slots=True)
class TradePosition:
    """A trade that is known: its number (-1 where the venue numbers none) and its time (ns)."""

    trade_id: int
    event_time: int


@dataclass(frozen=True, slots=True)
class TradePage:
    """Trades that a venue has, ascending. `is_joined`: none is missing between those known and the first of these;
    `is_last`: these reach the newest.
    """

    trades: Sequence[Trade]
    is_joined: bool
    is_last: bool


class MarketData(Protocol):
    """One instrument's live market: the streams that carry it, and what can be asked for.

    Every method that asks raises `VenueUnavailable`, `VenueRefused` or `FrameError`.
    """

    @property
    def streams(self) -> Sequence[StreamDeclaration]:
        """The streams that together carry the market."""
        ...

    pushes_snapshots: bool
    """Whether a stream that carries the book begins it with a snapshot; else it is asked for."""
    pushes_open_interest: bool

    def now_ms(self) -> int:
        """Return the venue's clock."""
        ...

    def check_rules(self) -> None:
        """Refuse a symbol that the venue does not list, or whose declared rules are not those that it states."""
        ...

    def depth_answer(self) -> bytes:
        """Return the book's snapshot as it was answered."""
        ...

    def open_interest_answer(self) -> bytes:
        """Return the open interest as it was answered."""
        ...

    def klines(self, *, start_ms: int | None, limit: int) -> list[ExchangeBar]:
        """Return up to `limit` 1m klines from a time on, or the newest, ascending, the unfinished one left out."""
        ...

    def trades_after(self, position: TradePosition, *, received_time: int) -> TradePage:
        """Return trades behind one that is known."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...


class TradingVenue(Protocol):
    """Orders and the account; used from one thread. Every one that asks the venue may raise `VenueUnavailable`."""

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


@dataclass(frozen=True, slots=True)
class VenueAccess:
    """Where orders are sent and who sends them. `speed` is how many times faster than ours the venue's clock runs.

    A testnet's trading rules may be looser than those declared (`is_testnet`).
    """

    rest_url: str
    stream_url: str
    api_key: str
    api_secret: str
    speed: float = 1.0
    is_testnet: bool = False


@dataclass(frozen=True, slots=True)
class Venue:
    """One venue's declaration. Addresses are of REST and streams; nothing is asked when something is opened.

    `archive` is what it publishes of its past in files. `open_market` takes an instrument id and the address of the
    streams; its questions, and those for the past, may weigh `weight_per_minute` together, a plain one 1.
    `trading_addresses` go by mode; without `open_trading` no orders can be sent there.
    """

    name: str
    market_addresses: tuple[str, str]
    make_decoder: Callable[[], FrameDecoder]
    open_market: Callable[[RestClient, str, str], MarketData]
    open_history: Callable[[RestClient], MarketHistory]
    weight_per_minute: int
    archive: VenueArchive
    trading_addresses: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    open_trading: Callable[[VenueAccess], TradingVenue] | None = None
