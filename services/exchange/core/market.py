"""A seeded market, one minute at a time: the same seed gives the same minutes, also after a restore."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt

from libs.domain.state import ArrayOf, StateFormat, StateMismatch
from services.exchange.core.dynamics import (
    DEPTH,
    KLINE,
    MARKET,
    MAX_LEVELS,
    MAX_ROWS,
    MINUTE_MS,
    ROW,
    Ints,
    run_minute,
    start_market,
)

START_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z, when every simulated stream begins."""
HISTORY_MINUTES = 2880
START_PRICE = 87_500.0
MAX_SEED = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Minute:
    """What happened in a minute: `rows` (kinds and columns in `dynamics`), the book levels they point into, the kline.

    `first_sequence` numbers the first row; the stream's very first row has sequence 1. History minutes have no rows.
    """

    open_ms: int
    first_sequence: int
    rows: Ints
    levels: Ints
    kline: Ints


@dataclass(frozen=True, slots=True)
class MarketState:
    """What the market keeps between minutes."""

    seed: int
    sequence: int
    market: Annotated[npt.NDArray[np.void], ArrayOf(MARKET)]
    seeds: Annotated[npt.NDArray[np.uint64], ArrayOf("<u8")]
    book: Annotated[Ints, ArrayOf("<i8")]
    published: Annotated[Ints, ArrayOf("<i8")]


_STATE = StateFormat("simulated-market", 1, MarketState)


class SimulatedMarket:
    """A BTC perpetual from a seed (0 to 2^63 - 1): `history_minutes` of klines before `START_MS`, then the stream.

    `history` holds the klines before the stream, one row each as `dynamics` describes. `next_minute` yields the stream.
    """

    def __init__(self, seed: int, *, history_minutes: int = HISTORY_MINUTES) -> None:
        if not 0 <= seed <= MAX_SEED:
            raise ValueError(f"seed is {seed}; it must be from 0 to {MAX_SEED}")
        if history_minutes < 0:
            raise ValueError(f"history_minutes is {history_minutes}; it must be at least 0")
        self.seed = seed
        start = _run_history(seed, history_minutes)
        self._market, self._seeds, self._book, self._published, self.history = (each.copy() for each in start)
        self._rows, self._levels = _make_buffers()
        self._sequence = 1

    @property
    def time_ms(self) -> int:
        """Where the next minute begins."""
        return int(self._market["time_ms"][0])

    @property
    def next_sequence(self) -> int:
        """The sequence of the next minute's first row."""
        return self._sequence

    @property
    def published_book(self) -> tuple[Ints, Ints]:
        """The book that the stream has shown so far: bids and asks, each (levels, 2) of ticks and lots, best first."""
        bids, asks = int(self._market["published_bids"][0]), int(self._market["published_asks"][0])
        return self._published[:2, :bids].T.copy(), self._published[2:, :asks].T.copy()

    def next_minute(self) -> Minute:
        """Advance a minute and return what happened in it."""
        kline = np.zeros(KLINE, dtype=np.int64)
        open_ms = self.time_ms
        count, level_count = self._run(kline, is_first=open_ms == START_MS)
        minute = Minute(open_ms, self._sequence, self._rows[:count].copy(), self._levels[:level_count].copy(), kline)
        self._sequence += count
        return minute

    def snapshot(self) -> bytes:
        """Return the state behind the last minute as bytes; the history is not part of it."""
        return _STATE.encode(
            MarketState(self.seed, self._sequence, self._market, self._seeds, self._book, self._published)
        )

    def restore(self, state: bytes) -> None:
        """Take over a snapshot of the same seed. Raises `StateMismatch` for another's."""
        kept = _STATE.decode(state)
        if kept.seed != self.seed:
            raise StateMismatch(
                f"the kept state is of seed {kept.seed}, not of seed {self.seed}; make the market with its seed"
            )
        self._sequence = kept.sequence
        self._market, self._seeds, self._book, self._published = kept.market, kept.seeds, kept.book, kept.published

    def _run(self, kline: Ints, *, is_first: bool) -> tuple[int, int]:
        return _advance(
            self._market, self._seeds, self._book, self._published, self._rows, self._levels, kline, is_first
        )


# Two days of history take a second and a half: a process that wants a market twice, as a backtest does for its klines
# and its events, simulates them once.
@lru_cache(maxsize=4)
def _run_history(seed: int, minutes: int) -> tuple[npt.NDArray[Any], ...]:
    """Return the arrays of a market's state where its stream begins, and the klines before it."""
    market = np.zeros(1, dtype=MARKET)
    seeds = np.array([seed], dtype=np.uint64)
    book, published = np.zeros((4, DEPTH), dtype=np.int64), np.zeros((4, DEPTH), dtype=np.int64)
    rows, levels = _make_buffers()
    start_market(market[0], START_MS - minutes * MINUTE_MS, START_PRICE)
    history = np.zeros((minutes, KLINE), dtype=np.int64)
    for kline in history:
        _advance(market, seeds, book, published, rows, levels, kline, False)
    return market, seeds, book, published, history


def _make_buffers() -> tuple[Ints, Ints]:
    return np.zeros((MAX_ROWS, ROW), dtype=np.int64), np.zeros((MAX_LEVELS, 2), dtype=np.int64)


def _advance(
    market: Any,
    seeds: npt.NDArray[np.uint64],
    book: Ints,
    published: Ints,
    rows: Ints,
    levels: Ints,
    kline: Ints,
    is_first: bool,
) -> tuple[int, int]:
    last = int(kline[4])
    count, level_count = run_minute(market, seeds, book, published, rows, levels, kline, is_first)
    if not kline[9]:
        # A minute without a trade stands still at the fair price.
        kline[1:5] = last or int(market["price"][0] * 10.0)
    return count, level_count
