"""The union of everything a core may take or return, and the shape of a core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

from libs.domain.accounts import AccountMessage
from libs.domain.bars import Bar, BarRevision
from libs.domain.control import ControlMessage
from libs.domain.features import FeatureVector
from libs.domain.forecasts import Forecast
from libs.domain.market import MarketEvent
from libs.domain.orders import OrderMessage
from libs.domain.venues import VenueMessage

Event: TypeAlias = (
    MarketEvent
    | Bar
    | BarRevision
    | FeatureVector
    | Forecast
    | OrderMessage
    | AccountMessage
    | VenueMessage
    | ControlMessage
)
"""What a message is belongs to the module that declares it."""


class Unhandleable(ValueError):
    """A core cannot make sense of an event; the shell sends it to the dead-letter topic and goes on."""


@dataclass(frozen=True, slots=True)
class DeadInput:
    """A piece of a source's input that could not be read; `position` is its line in `source`."""

    reason: str
    source: str
    position: int
    payload: bytes


class Core(Protocol):
    """Takes an event and returns events. No clock, no random, no I/O: same events in, same events out, byte for byte.

    `snapshot` and `restore` carry the whole state; restoring what was snapshotted and going on must give what going
    on without it would have given. Raise `Unhandleable` before changing any state; any other exception stops the
    process with nothing committed.
    """

    def handle(self, event: Event) -> Sequence[Event]:
        """Advance by one event."""
        ...

    def snapshot(self) -> bytes:
        """Return the state as bytes, deterministic for equal states."""
        ...

    def restore(self, state: bytes) -> None:
        """Take over a state made by `snapshot`."""
        ...


@runtime_checkable
class MarketReader(Protocol):
    """A core that reads of the market only some kinds of events, or nothing of it."""

    @property
    def market_kinds(self) -> frozenset[str]:
        """The kinds that it reads; the same for as long as it lives."""
        ...


@runtime_checkable
class UnreadableControlHandler(Protocol):
    """A core that acts on control records that nobody can read, which are dead-lettered all the same."""

    def handle_unreadable_control(self, reason: str) -> Sequence[Event]:
        """Advance by such a record."""
        ...
