"""The fills of a run: those that were seen as events, and those of orders that the compiled loop filled, in columns
until somebody looks at them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from libs.domain.bars import bar_event_id
from libs.domain.market import Side
from libs.domain.numbers import from_e8
from libs.domain.orders import client_order_id_of
from services.backtest.equity import Ints
from services.backtest.round_trips import Fill


@dataclass(frozen=True, slots=True)
class FilledOrders:
    """Market orders that each filled whole at the close of the bar that they were decided on; amounts in 1e-8.

    `askers` names the strategy behind each, or the one behind all.
    """

    account: str
    instrument: str
    timeframe: str
    askers: tuple[str, ...]
    opened: Ints
    times: Ints
    signed_e8: Ints
    price_e8: Ints
    fee_e8: Ints
    profit_e8: Ints
    decided_e8: Ints

    def __len__(self) -> int:
        return len(self.times)

    @staticmethod
    def intent_id(account: str, instrument: str, timeframe: str, opened: int) -> str:
        """Name the intent that an account's strategies make of a bar."""
        return f"intent/{account}/{bar_event_id(instrument, timeframe, opened)}"

    def fills(self) -> Iterator[Fill]:
        """Yield them one by one."""
        askers = self.askers * len(self) if len(self.askers) == 1 else self.askers
        columns = (self.opened, self.times, self.signed_e8, self.price_e8, self.fee_e8, self.profit_e8, self.decided_e8)
        rows = zip(askers, *(column.tolist() for column in columns), strict=True)
        for asker, opened, time, signed, price, fee, profit, decided in rows:
            intent_id = self.intent_id(self.account, self.instrument, self.timeframe, opened)
            yield Fill(
                event_time=time,
                client_order_id=client_order_id_of(intent_id),
                intent_id=intent_id,
                strategy=asker,
                side=Side.BUY if signed > 0 else Side.SELL,
                quantity=from_e8(abs(signed)),
                price=from_e8(price),
                fee=from_e8(fee),
                realised_pnl=from_e8(profit),
                decision_price=from_e8(decided),
                instrument=self.instrument,
            )


class FillList(Sequence[Fill]):
    """Fills in order of time, made of their columns when they are first looked at."""

    def __init__(self, fills: Iterable[Fill] = ()) -> None:
        self._parts: list[FilledOrders] = []
        self._made = list(fills)

    def append(self, fill: Fill) -> None:
        """Add a fill."""
        self._make().append(fill)

    def add(self, filled: FilledOrders) -> None:
        """Add orders that were filled."""
        if len(filled):
            self._parts.append(filled)

    def _make(self) -> list[Fill]:
        for part in self._parts:
            self._made.extend(part.fills())
        self._parts.clear()
        return self._made

    def __len__(self) -> int:
        return len(self._made) + sum(len(part) for part in self._parts)

    @overload
    def __getitem__(self, place: int) -> Fill: ...

    @overload
    def __getitem__(self, place: slice) -> list[Fill]: ...

    def __getitem__(self, place: int | slice) -> Fill | list[Fill]:
        return self._make()[place]

    def __iter__(self) -> Iterator[Fill]:
        return iter(self._make())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, FillList | list) and self._make() == list(other)

    def __hash__(self) -> int:
        raise TypeError("a list of fills changes")

    def __repr__(self) -> str:
        return repr(self._make())
