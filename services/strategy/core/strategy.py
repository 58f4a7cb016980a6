"""What a strategy is: it receives the market and its account, and answers with the positions it wants.

It never sends orders. The host nets the targets of all strategies, rounds them and asks risk for what is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol, TypeAlias

from services.strategy.core.declaration import Declaration, declaration_of, parameter
from services.strategy.core.indicators import Indicators

StateValue: TypeAlias = "bool | int | float | str | list[StateValue] | dict[str, StateValue] | None"
"""What a strategy's state is saved as: anything JSON can say."""

HANDLERS = (
    "on_bar",
    "on_forecast",
    "on_account",
    "on_fill",
    "on_trade",
    "on_quote",
    "on_book",
    "on_timer",
)
"""What a strategy may handle, each only if it has a method of that name."""
MARKET_HANDLERS: Mapping[str, frozenset[str]] = {
    "on_trade": frozenset({"trade"}),
    "on_quote": frozenset({"best_quote"}),
    "on_book": frozenset({"depth_snapshot", "depth_delta"}),
    "on_timer": frozenset({"clock_tick"}),
}
"""Those for which a strategy reads the market itself, and the kinds of events that each takes."""


@dataclass(frozen=True, slots=True)
class TargetPosition:
    """The position a strategy wants in an instrument, from now until it says otherwise.

    `notional_usdt` is signed: above zero long, below zero short, 0 flat. With `quantity` (signed, base units) the size
    is that quantity and `notional_usdt` does not count. `confidence` is the forecast's, None where none was used.
    `reason` is one sentence that says why.
    """

    instrument: str
    notional_usdt: Decimal
    reason: str
    confidence: float | None = None
    quantity: Decimal | None = None


@dataclass(frozen=True, slots=True)
class AccountView:
    """The account as far as it is known: None before its first state arrived. `positions` is signed, in base units."""

    account: str
    equity_usdt: Decimal | None
    available_usdt: Decimal | None
    positions: Mapping[str, Decimal]


class HostedStrategy(Protocol):
    """What the host needs of any strategy: a name, its state as JSON, and methods named as in `HANDLERS`."""

    @property
    def name(self) -> str:
        """Name the strategy: letters, digits, '_' and '-'; two hosted together need two names."""
        ...

    def snapshot(self) -> dict[str, StateValue]:
        """Return the whole state."""
        ...

    def restore(self, state: Mapping[str, StateValue]) -> None:
        """Take over a state made by `snapshot`."""
        ...


class Strategy:
    """Base of strategies: same calls in, same answers out. No clock, no random, no I/O: time is that of the events.

    Parameters are class attributes made by `parameter`, what is remembered by `state`; both with their types, and
    nothing else can be assigned once `start` has run, because it would be forgotten at a restart. Write those of these
    methods that you need; each answers with targets, or nothing to leave things as they are::

        on_bar(bar, view)            a closed bar of one of `timeframes`
        on_forecast(forecast, view)  a champion's forecast
        on_account(account, view)    a change of the account
        on_fill(order, view)         an order event that is a fill
        on_trade(trade, view), on_quote(quote, view), on_book(depth, view)
        on_timer(event_time, view)   each `timer_s` seconds of market time

    `explain(bar, forecast)` may say in one sentence why it asks for nothing after its last bar and forecast (None where
    there was none); `perpflow why` prints it.

    Bars of history come first, marked `is_history`: learn from them, targets answered to them are ignored.
    """

    # Set once `start` has run; looked up at every assignment of a strategy that may see every trade.
    _assignable: frozenset[str] | None = None

    name: str = parameter("", description="tells strategies of one account apart")
    timeframe: str = parameter("1m", description="timeframe of the bars that `on_bar` receives")
    timer_s: int = parameter(0, minimum=0, description="seconds of market time between `on_timer` calls; 0 for none")

    def __init__(self, **parameters: Any) -> None:
        """Check the parameters; ValueError names the wrong one."""
        declared = declaration_of(type(self))
        values = declared.read_parameters(parameters)
        values["name"] = values["name"] or _snake_case(type(self).__name__)
        for name, value in {**values, **declared.make_state()}.items():
            object.__setattr__(self, name, value)
        self.indicators = Indicators(self.timeframe)
        self.start()
        object.__setattr__(self, "_assignable", frozenset(declaration_of(type(self)).state))

    def start(self) -> None:
        """Check parameters against one another and name the indicators to use; called once. Raises ValueError."""

    @property
    def timeframes(self) -> Sequence[str]:
        """Timeframes of the bars to receive."""
        return (self.timeframe,)

    def snapshot(self) -> dict[str, StateValue]:
        """Return what was declared as state, and the indicators'."""
        saved = {
            name: adapter.dump_python(getattr(self, name), mode="json")
            for name, (_, adapter) in declaration_of(type(self)).state.items()
        }
        return {**saved, "indicators": self.indicators.snapshot()} if self.indicators.is_used else saved

    def restore(self, state: Mapping[str, StateValue]) -> None:
        """Take over a state made by `snapshot`. Raises ValueError where it lacks something that is declared."""
        for name, (_, adapter) in declaration_of(type(self)).state.items():
            if name not in state:
                raise ValueError(f"the saved state of strategy {self.name} has no {name}; start a new session")
            object.__setattr__(self, name, adapter.validate_python(state[name]))
        if self.indicators.is_used:
            self.indicators.restore(state["indicators"])

    def __setattr__(self, name: str, value: Any) -> None:
        assignable = self._assignable
        if assignable is not None and name not in assignable:
            raise AttributeError(
                f"strategy {self.name} assigns {name}, which is not declared and would be forgotten at a restart; "
                f"declare it in the class: {name}: TYPE = state(...)"
            )
        object.__setattr__(self, name, value)

    @classmethod
    def declaration(cls) -> Declaration:
        """Return the parameters and state that the class declares."""
        return declaration_of(cls)


def handles(strategy: object, handler: str) -> bool:
    """Whether a strategy has the method."""
    return callable(getattr(strategy, handler, None))


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
