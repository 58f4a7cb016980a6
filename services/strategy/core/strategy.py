"""What a strategy is: it hears of bars, forecasts and the account, and answers with the positions it wants.

It never sends orders. The host nets the targets of all strategies, rounds them and asks risk for what is missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Protocol, TypeAlias

from libs.domain.accounts import AccountState
from libs.domain.bars import Bar
from libs.domain.forecasts import Forecast

StateValue: TypeAlias = "bool | int | float | str | list[StateValue] | dict[str, StateValue] | None"
"""What a strategy may keep: anything JSON can say. Write a Decimal as str."""


@dataclass(frozen=True, slots=True)
class Target:
    """The position a strategy wants in an instrument, from now until it says otherwise.

    `notional_usdt` is signed: above zero long, below zero short, 0 flat. `confidence` is the forecast's, None where
    none was used. `reason` is one sentence for whoever asks why.
    """

    instrument: str
    notional_usdt: Decimal
    reason: str
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class AccountView:
    """The account as far as it is known: None before its first state arrived. `positions` is signed, in base units."""

    account: str
    equity_usdt: Decimal | None
    available_usdt: Decimal | None
    positions: Mapping[str, Decimal]


class Strategy(Protocol):
    """A strategy: same calls in, same answers out. No clock, no random, no I/O: time is that of the events.

    Answer with no target to leave things as they are. Bars of history come first, marked `is_history`: learn from
    them, targets answered to them are ignored. Only champions' forecasts come. `snapshot` and `restore` carry the
    whole state as JSON. Arguments that you do not need may begin with '_'. Parameters are the constructor's keyword
    arguments; raise ValueError for a bad one.
    """

    @property
    def name(self) -> str:
        """Name the strategy: letters, digits, '_' and '-'; two hosted together need two names."""
        ...

    def on_bar(self, bar: Bar, view: AccountView, /) -> Sequence[Target]:
        """Answer a closed bar."""
        ...

    def on_forecast(self, forecast: Forecast, view: AccountView, /) -> Sequence[Target]:
        """Answer a champion's forecast."""
        ...

    def on_account(self, account: AccountState, view: AccountView, /) -> Sequence[Target]:
        """Answer a change of the account."""
        ...

    def snapshot(self) -> dict[str, StateValue]:
        """Return the whole state."""
        ...

    def restore(self, state: Mapping[str, StateValue]) -> None:
        """Take over a state made by `snapshot`."""
        ...
