"""The account on the market clock: plays the market up to now, journals requests, executes them, keeps events.

While nothing is open the market is not played: it cannot change the account then. Whether it is played is decided
at the minute's start, from the account alone, so that a restart decides the same. Waking also plays the minute
before, and from then on the account sees what it would have seen.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from libs.domain.market import DepthSnapshot
from libs.domain.numbers import from_e8
from libs.runtime.errors import BadInput
from services.exchange import answers
from services.exchange.clock import MarketClock
from services.exchange.core import START_MS
from services.exchange.core.account import AccountTerms, Refused, TradingCore
from services.exchange.core.account.parameters import Parameters
from services.exchange.core.account.queries import QUERIES, Queries
from services.exchange.core.account.trading import Action
from services.exchange.core.dynamics import MARK, MINUTE_MS, Ints
from services.exchange.core.frames import INSTRUMENT, LOT_E8, TICK_E8, decode_rows
from services.exchange.journal import Journal
from services.exchange.market_tape import MarketTape, minute_index

KEPT_EVENTS = 10_000
SNAPSHOT_REQUESTS = 500
SNAPSHOT_MINUTES = 30


class BrokenSession(RuntimeError):
    """The account failed in the middle of a request; only a restart from its journal recovers it."""


class TradingSession:
    """One account of one exchange, safe to use from several threads. Opening it recovers its previous state."""

    def __init__(self, tape: MarketTape, clock: MarketClock, terms: AccountTerms, run_dir: Path) -> None:
        self._tape = tape
        self._clock = clock
        self._lock = threading.RLock()
        self._events_lock = threading.Lock()
        self._core = TradingCore(terms)
        self._minute = 0
        self._row = 0
        self._is_asleep = True
        self._now_ms = START_MS
        self._played_minutes = 0
        self._unsaved_requests = 0
        self._events: deque[tuple[int, bytes]] = deque(maxlen=KEPT_EVENTS)
        self._event_count = 0
        self.is_broken = False
        facts = {"format": "perpflow-exchange-orders-1", "began_s": clock.began_s, "seed": tape.seed}
        facts |= {name: str(value) for name, value in asdict(terms).items()}
        self._journal = Journal(run_dir, facts)
        try:
            self._recover()
        except BaseException:
            self._journal.close()
            raise

    @property
    def changing_requests(self) -> tuple[str, ...]:
        """The requests that change the account, as METHOD PATH."""
        return self._core.changing_requests

    @property
    def query_requests(self) -> tuple[str, ...]:
        """The read-only requests, as METHOD PATH."""
        return tuple(QUERIES)

    @property
    def listen_key(self) -> str:
        """The key that opens the private stream now, empty where there is none."""
        return self._core.listen_key.text

    @property
    def event_count(self) -> int:
        """How many events the user stream has had."""
        return self._event_count

    def change(self, request: str, sent: Mapping[str, str]) -> Any:
        """Execute a request now. Raises `Refused`."""
        with self._lock:
            self._catch_up()
            action = self._core.prepare(request, sent)
            try:
                self._journal.append(self._now_ms, request, dict(sent))
                return self._execute(action)
            except Refused:
                raise
            except BaseException:
                self.is_broken = True
                raise
            finally:
                self._collect()
                self._unsaved_requests += 1

    def ask(self, request: str, sent: Mapping[str, str]) -> Any:
        """Answer a request that changes nothing. Raises `Refused`."""
        with self._lock:
            self._catch_up()
            if request == "POST /fapi/v1/order/test":
                self._wake()
            return self._queries().answer(request, Parameters(sent))

    def everything(self) -> dict[str, Any]:
        """Return the account's full state."""
        with self._lock:
            self._catch_up()
            return self._queries().everything()

    def advance(self) -> None:
        """Advance the account to now. Raises `MarketTapeEnded` at the end of the market."""
        with self._lock:
            self._catch_up()
            self._save_now_and_then()

    def events_after(self, count: int) -> list[bytes] | None:
        """Return the user stream's events after the first `count`; None where the oldest of them have been dropped."""
        with self._events_lock:
            if self._event_count - count > len(self._events):
                return None
            return [text for number, text in self._events if number > count]

    def close(self) -> None:
        """Save the account for the next start."""
        with self._lock:
            if not self.is_broken:
                self._save()
            self._journal.close()

    # Time.

    def _catch_up(self) -> None:
        if self.is_broken:
            raise BrokenSession("the account failed; restart the exchange, it recovers from its journal")
        # The wall clock may step back; market time does not.
        now_ms = max(self._now_ms, self._clock.now_ms())
        self._tape.minute(minute_index(now_ms))
        self._play_until(now_ms)
        self._collect()

    def _play_until(self, now_ms: int) -> None:
        self._now_ms = now_ms
        target = minute_index(now_ms)
        try:
            while self._minute < target:
                if self._is_asleep:
                    self._minute = target
                    break
                self._play(self._minute, (self._minute + 1) * MINUTE_MS + START_MS - 1)
                self._minute += 1
                self._row = 0
                self._played_minutes += 1
                self._is_asleep = self._core.is_idle
            if not self._is_asleep:
                self._play(target, now_ms)
            self._core.pass_time(now_ms)
        except BaseException:
            self.is_broken = True
            raise

    def _play(self, index: int, until_ms: int) -> None:
        minute = self._tape.minute(index)
        end = int(np.searchsorted(minute.rows[:, 1], until_ms, side="right"))
        if end > self._row:
            for event in decode_rows(replace(minute, rows=minute.rows[self._row : end])):
                self._core.handle(event)
            self._row = end

    def _wake(self) -> None:
        if not self._is_asleep:
            return
        target = self._minute
        self._minute = max(0, target - 1)
        bids, asks = self._tape.opening_book(self._minute)
        at = (START_MS + self._minute * MINUTE_MS) * 1_000_000
        snapshot = DepthSnapshot(INSTRUMENT, "", at, at, 0, *_levels(bids), *_levels(asks)) if len(bids) else None
        self._core.reopen_market(snapshot)
        self._row = 0
        if self._minute < target:
            self._play(self._minute, START_MS + target * MINUTE_MS - 1)
            self._minute, self._row = target, 0
        self._is_asleep = False
        self._play(target, self._now_ms)

    def _execute(self, action: Action) -> Any:
        self._wake()
        return action(self._now_ms)

    # Recovery.

    def _recover(self) -> None:
        kept = self._journal.load_snapshot()
        done = 0
        if kept is not None:
            facts, account = kept
            try:
                self._core.restore(account)
            except ValueError as error:
                raise BadInput(f"{self._journal.snapshot_path}: {error}; remove it; the journal is complete") from error
            self._minute, self._row, self._is_asleep = facts["minute"], facts["row"], facts["is_asleep"]
            self._now_ms, done = facts["now_ms"], facts["count"]
        for entry in self._journal.entries[done:]:
            self._play_until(entry["ms"])
            with suppress(Refused):
                self._execute(self._core.prepare(entry["request"], entry["sent"]))
            # Nothing subscribes yet.
            self._core.take_events()
        self._core.take_events()

    def _queries(self) -> Queries:
        return Queries(self._core, self._mark(), self._now_ms)

    def _mark(self) -> Decimal:
        row = answers.find_row(self._tape, self._now_ms, (MARK,))
        return from_e8(row[3] * TICK_E8) if row is not None else Decimal(0)

    def _collect(self) -> None:
        events = self._core.take_events()
        if events:
            # A lock of its own, so that streams never wait for the market to be played.
            with self._events_lock:
                for event in events:
                    self._event_count += 1
                    self._events.append((self._event_count, orjson.dumps(event)))

    def _save_now_and_then(self) -> None:
        if self._unsaved_requests >= SNAPSHOT_REQUESTS or self._played_minutes >= SNAPSHOT_MINUTES:
            self._save()

    def _save(self) -> None:
        facts = {"minute": self._minute, "row": self._row, "is_asleep": self._is_asleep, "now_ms": self._now_ms}
        self._journal.save_snapshot(facts, self._core.snapshot())
        self._unsaved_requests = self._played_minutes = 0


def _levels(levels: Ints) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return tuple((levels[:, 0] * TICK_E8).tolist()), tuple((levels[:, 1] * LOT_E8).tolist())
