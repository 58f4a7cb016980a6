"""Random access to a seeded market: any minute, in any order; old minutes are regenerated rather than kept."""

from __future__ import annotations

import bisect
import threading
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from services.exchange.core import START_MS, Minute, SimulatedMarket
from services.exchange.core.dynamics import MINUTE_MS, Ints
from services.exchange.core.frames import format_lines

_CHECKPOINT_MINUTES = 30
_KEPT_MINUTES = 48
MAX_MINUTES = 366 * 1440
"""A year of market time; requests beyond it are refused."""
_MAX_SEQUENCE = MAX_MINUTES * 1500


class MarketTapeEnded(ValueError):
    """A request lies beyond a year of market time."""


class MarketTape:
    """Minutes, frames and klines of one seed; safe to use from several threads."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._lock = threading.RLock()
        self._market = SimulatedMarket(seed)
        self._spare = SimulatedMarket(seed, history_minutes=0)
        self._history = self._market.history
        self._first_sequences: list[int] = []
        self._klines: list[Ints] = []
        self._books: list[tuple[Ints, Ints]] = []
        self._checkpoints: dict[int, bytes] = {}
        self._minutes: OrderedDict[int, Minute] = OrderedDict()
        self._lines: OrderedDict[int, list[str]] = OrderedDict()

    @property
    def history(self) -> Ints:
        """The klines before the stream, one row each."""
        return self._history

    def minute(self, index: int) -> Minute:
        """Return a minute of the stream, counted from 0. Raises `MarketTapeEnded`."""
        if index >= MAX_MINUTES:
            raise MarketTapeEnded("this lies beyond a year of simulated market time")
        with self._lock:
            self._extend(lambda: len(self._klines) > index)
            if index in self._minutes:
                self._minutes.move_to_end(index)
                return self._minutes[index]
            return self._regenerate(index)

    def kline(self, index: int) -> Ints:
        """Return the whole kline of a minute of the stream, counted from 0; negative ones are history."""
        if index < 0:
            kline: Ints = self._history[index]
            return kline
        with self._lock:
            self._extend(lambda: len(self._klines) > index)
            return self._klines[index]

    def opening_book(self, index: int) -> tuple[Ints, Ints]:
        """Return the book as it was shown when a minute began."""
        with self._lock:
            self._extend(lambda: len(self._klines) > index)
            return self._books[index]

    def frames(self, after: int, limit: int) -> list[tuple[int, str]]:
        """Return up to `limit` capture lines whose sequence (from 1) is above `after`, with their sequences."""
        if after > _MAX_SEQUENCE:
            raise MarketTapeEnded("this lies beyond a year of simulated market time")
        out: list[tuple[int, str]] = []
        with self._lock:
            self._extend(lambda: bool(self._first_sequences) and self._first_sequences[-1] > after + 1)
            index = bisect.bisect_right(self._first_sequences, after + 1) - 1
            while len(out) < limit:
                lines = self._lines_of(index)
                first = self._first_sequences[index]
                skipped = max(0, after + 1 - first)
                chosen = lines[skipped : skipped + limit - len(out)]
                out.extend(zip(range(first + skipped, first + skipped + len(chosen)), chosen, strict=True))
                index += 1
        return out

    def _lines_of(self, index: int) -> list[str]:
        if index not in self._lines:
            self._lines[index] = format_lines(self.minute(index))
            if len(self._lines) > _KEPT_MINUTES:
                self._lines.popitem(last=False)
        return self._lines[index]

    def _extend(self, is_enough: Callable[[], bool]) -> None:
        while not is_enough():
            index = len(self._klines)
            if index >= MAX_MINUTES:
                raise MarketTapeEnded("this lies beyond a year of simulated market time")
            if index % _CHECKPOINT_MINUTES == 0:
                self._checkpoints[index] = self._market.snapshot()
            self._books.append(self._market.published_book)
            minute = self._market.next_minute()
            self._first_sequences.append(minute.first_sequence)
            self._klines.append(minute.kline)
            self._keep(index, minute)

    def _regenerate(self, index: int) -> Minute:
        start = index - index % _CHECKPOINT_MINUTES
        self._spare.restore(self._checkpoints[start])
        minute = self._spare.next_minute()
        for position in range(start, index):
            self._keep(position, minute)
            minute = self._spare.next_minute()
        self._keep(index, minute)
        return minute

    def _keep(self, index: int, minute: Minute) -> None:
        self._minutes[index] = minute
        self._minutes.move_to_end(index)
        if len(self._minutes) > _KEPT_MINUTES:
            self._minutes.popitem(last=False)


def minute_index(time_ms: int) -> int:
    """Return the minute of the stream that a time lies in, counted from 0."""
    return (time_ms - START_MS) // MINUTE_MS


def rows_until(minute: Minute, time_ms: int) -> Ints:
    """Return the rows of a minute up to and with a time."""
    rows: Ints = minute.rows[: int(np.searchsorted(minute.rows[:, 1], time_ms, side="right"))]
    return rows
