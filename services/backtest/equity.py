"""The account and the price over the run, as columns of integers: equity and position after each account state, closed
bars of the traded instrument."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
import numpy.typing as npt

from libs.domain.numbers import to_e8

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class EquityCurve:
    """Equity, wallet and position by market time (ns), in 1e-8; the last state of an instant counts.

    `start` and `end` bound the period that measures cover: before the first state after `start` the one before it
    holds, after the last state nothing changed any more.
    """

    times: array[int] = field(default_factory=lambda: array("q"))
    equity_e8: array[int] = field(default_factory=lambda: array("q"))
    wallet_e8: array[int] = field(default_factory=lambda: array("q"))
    position_e8: array[int] = field(default_factory=lambda: array("q"))

    def add(self, event_time: int, equity: Decimal, wallet: Decimal, position: Decimal) -> None:
        """Append a state."""
        self.append(event_time, to_e8(equity), to_e8(wallet), to_e8(position))

    def append(self, event_time: int, equity_e8: int, wallet_e8: int, position_e8: int) -> None:
        """Append a state given in 1e-8; one of the same instant takes the place of the last."""
        if self.times and self.times[-1] == event_time:
            self.equity_e8[-1], self.wallet_e8[-1], self.position_e8[-1] = equity_e8, wallet_e8, position_e8
            return
        self.times.append(event_time)
        self.equity_e8.append(equity_e8)
        self.wallet_e8.append(wallet_e8)
        self.position_e8.append(position_e8)

    def extend(self, times: Ints, equity_e8: Ints, wallet_e8: int, position_e8: int) -> None:
        """Append states of later instants, ascending, between which only the equity changes."""
        self.times.frombytes(times.tobytes())
        self.equity_e8.frombytes(equity_e8.tobytes())
        self.wallet_e8.extend([wallet_e8] * len(times))
        self.position_e8.extend([position_e8] * len(times))

    def extend_states(self, times: Ints, equity_e8: Ints, wallet_e8: Ints, position_e8: Ints) -> None:
        """Append states of later instants, ascending."""
        self.times.frombytes(times.tobytes())
        self.equity_e8.frombytes(equity_e8.tobytes())
        self.wallet_e8.frombytes(wallet_e8.tobytes())
        self.position_e8.frombytes(position_e8.tobytes())

    def equity_at(self, event_time: int) -> int:
        """Return the equity in force at a time, in 1e-8; 0 before the account was known."""
        place = int(np.searchsorted(np.frombuffer(self.times, np.int64), event_time, side="right")) if self.times else 0
        return self.equity_e8[place - 1] if place else (self.equity_e8[0] if self.equity_e8 else 0)

    def within(self, start: int, end: int) -> tuple[Ints, Ints, Ints]:
        """Return times, equity and position from `start` to `end`: what is in force at both is in the result."""
        times = np.array(self.times, np.int64)
        times, equity, position = clip(
            times, start, end, np.array(self.equity_e8, np.int64), np.array(self.position_e8, np.int64)
        )
        return times, equity, position


def clip(times: Ints, start: int, end: int, *columns: Ints) -> list[Ints]:
    """Return times and columns by them from `start` to `end`, with what is in force at both."""
    first = max(0, int(np.searchsorted(times, start, side="right")) - 1)
    last = int(np.searchsorted(times, end, side="right"))
    if first >= last:
        return [np.empty(0, np.int64)] * (1 + len(columns))
    times = times[first:last].copy()
    times[0] = max(int(times[0]), start)
    cut = [column[first:last] for column in columns]
    if times[-1] < end:
        return [np.append(times, end), *(np.append(column, column[-1]) for column in cut)]
    return [times, *cut]


@dataclass(slots=True)
class PriceHistory:
    """Bars of the traded instrument as they closed, in 1e-8, by close time (ns)."""

    times: array[int] = field(default_factory=lambda: array("q"))
    open_e8: array[int] = field(default_factory=lambda: array("q"))
    high_e8: array[int] = field(default_factory=lambda: array("q"))
    low_e8: array[int] = field(default_factory=lambda: array("q"))
    close_e8: array[int] = field(default_factory=lambda: array("q"))

    def append(self, close_time: int, open_e8: int, high_e8: int, low_e8: int, close_e8: int) -> None:
        """Append a bar."""
        self.times.append(close_time)
        self.open_e8.append(open_e8)
        self.high_e8.append(high_e8)
        self.low_e8.append(low_e8)
        self.close_e8.append(close_e8)

    def extend(self, times: Ints, open_e8: Ints, high_e8: Ints, low_e8: Ints, close_e8: Ints) -> None:
        """Append bars, given as columns."""
        self.times.frombytes(times.tobytes())
        self.open_e8.frombytes(open_e8.tobytes())
        self.high_e8.frombytes(high_e8.tobytes())
        self.low_e8.frombytes(low_e8.tobytes())
        self.close_e8.frombytes(close_e8.tobytes())

    def columns(self) -> dict[str, Ints]:
        """Return the columns as arrays: times, open, high, low, close."""
        return {
            "times": np.array(self.times, np.int64),
            "open": np.array(self.open_e8, np.int64),
            "high": np.array(self.high_e8, np.int64),
            "low": np.array(self.low_e8, np.int64),
            "close": np.array(self.close_e8, np.int64),
        }
