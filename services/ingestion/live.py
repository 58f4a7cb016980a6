"""Follows a live market: its venue's streams and answers, made into one stream that knows of every gap in it.

Missed trades are fetched by id, the book is synchronised anew after a break of its chain, the minute in which the
stream began is completed from its kline. What cannot be filled is logged and counted, never passed over in silence.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import structlog

from libs.domain.events import DeadInput
from libs.domain.market import DepthDelta, DepthSnapshot, ExchangeBar, MarketEvent, Trade
from libs.domain.numbers import NANOSECONDS
from libs.domain.state import StateFormat, StateMismatch
from libs.runtime.errors import BadInput, DependencyUnavailable
from libs.venues.api import FrameDecoder, MarketData, TradePosition
from libs.venues.errors import VenueError, VenueRefused, VenueUnavailable
from libs.venues.frames import FrameError
from libs.venues.streams import Arrival, ArrivalKind, StreamReader
from services.ingestion.core.stream import Stream, StreamState, add_trade_times

_MINUTE = 60 * NANOSECONDS
_SEAM_PATIENCE_NS = 1_500_000_000
_RETRY_S = 1.0
_MAX_FILL_PAGES = 20
_LONG_OUTAGE_NS = 10 * _MINUTE
_QUIET_S = 1.0
# While the trade stream is down, quotes and the clock wait this long: no bar may close before missed trades are there.
_PATIENCE_S = 10.0
_MAX_DEFERRED = 20_000
_HELD_NS = 60 * NANOSECONDS
_HELD_DELTAS = 2000

Output = MarketEvent | DeadInput
AnswerT = TypeVar("AnswerT")


@dataclass(frozen=True, slots=True)
class LiveCursor:
    """How far a market was followed."""

    origin: str
    stream: StreamState
    seam_open: int
    next_kline_open: int


_CURSOR = StateFormat("live-cursor", 2, LiveCursor, migrations={1: add_trade_times})


class LiveSource:
    """An `EventSource` over a live venue; it ends only with its span."""

    def __init__(
        self,
        data: MarketData,
        decoder: FrameDecoder,
        *,
        instrument: str,
        span_ns: int = 0,
        history_bars: int = 1500,
        stale_after_s: float = 10.0,
        renew_after_s: float = 23 * 3600.0,
        open_interest_every_s: float = 10.0,
        queue_frames: int = 20_000,
        start_timeout_s: float = 30.0,
        logger: structlog.stdlib.BoundLogger | None = None,
    ) -> None:
        self._data = data
        self._decoder = decoder
        self._stream = Stream(instrument, span_ns=span_ns)
        self._stream.normaliser.held_ns, self._stream.normaliser.held_deltas = _HELD_NS, _HELD_DELTAS
        self._history_bars = history_bars
        self._open_interest_every_s = open_interest_every_s
        self._start_timeout_s = start_timeout_s
        self._logger: structlog.stdlib.BoundLogger = logger or structlog.get_logger().bind(service="ingestion")
        self._symbol = instrument.partition(".")[0]
        self._origin = f"live:{instrument}"
        self._arrivals: queue.Queue[Arrival] = queue.Queue(queue_frames)
        self._readers = [
            StreamReader(stream, self._arrivals, stale_after_s=stale_after_s, renew_after_s=renew_after_s)
            for stream in data.streams
        ]
        self._trade_streams = {stream.name for stream in data.streams if stream.carries_trades}
        self._book_streams = {stream.name for stream in data.streams if stream.carries_book}
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="rest")
        self._asks: dict[str, tuple[Callable[[], Any], Callable[[Any, list[Output]], None]]] = {
            "depth": (data.depth_answer, self._take_depth_answer),
            "open interest": (data.open_interest_answer, self._take_open_interest),
            "klines": (self._ask_klines, self._take_klines),
        }
        self._due_s: dict[str, float] = {}
        self._futures: dict[str, Future[Any]] = {}
        self._history: list[ExchangeBar] = []
        self._frames = 0
        self._seam_open = 0
        self._next_kline_open = 0
        self._heard_s = time.monotonic()
        self._lost_market_s: float | None = time.monotonic()
        self._deferred: deque[Arrival] = deque()
        self._gaps = 0

    @property
    def gaps(self) -> int:
        """How many gaps in trades or the book were seen, filled ones too."""
        return self._gaps

    def open(self, cursor: bytes | None) -> None:
        """Fetch the history and connect, or go on where the cursor ends. Raises `DependencyUnavailable`, `BadInput`."""
        self._wait_for(self._data.check_rules)
        if cursor is None:
            self._history = self._wait_for(lambda: self._data.klines(start_ms=None, limit=self._history_bars))
        else:
            self._resume(cursor)
        if self._history:
            self._next_kline_open = self._history[-1].close_time
        self._stream.normaliser.hold_depth()
        self._lost_market_s = time.monotonic()
        if not self._data.pushes_open_interest:
            self._due_s["open interest"] = self._lost_market_s
        for reader in self._readers:
            reader.start()

    def read(self, max_events: int, timeout_ms: int) -> Sequence[Output]:
        """Return what came, waiting at most the timeout for the first of it."""
        out: list[Output] = []
        for bar in self._history:
            out.extend(self._stream.accept(bar))
        self._history = []
        self._run_requests(out)
        deadline = time.monotonic() + timeout_ms / 1000
        while len(out) < max_events and not self._stream.is_over:
            try:
                wait_s = 0.0 if out else max(0.0, deadline - time.monotonic())
                arrival = self._arrivals.get(timeout=wait_s) if wait_s else self._arrivals.get_nowait()
            except queue.Empty:
                break
            self._take(arrival, out)
        if self._deferred and not self._waits_for_trades:
            self._take_deferred(out)
        self._watch_seam()
        self._keep_clock(out)
        return out

    def check_venue(self) -> None:
        """Raise `DependencyUnavailable` until trades come again after a lost connection; from any thread."""
        lost_s = self._lost_market_s
        if lost_s is not None:
            raise DependencyUnavailable(
                f"the market stream of {self._symbol} has brought no trade in the {time.monotonic() - lost_s:.0f} s "
                "since it was lost or begun"
            )

    def cursor(self) -> bytes:
        """Return the position behind everything read so far."""
        return _CURSOR.encode(LiveCursor(self._origin, self._stream.state(), self._seam_open, self._next_kline_open))

    @property
    def is_finished(self) -> bool:
        """Whether the span has ended."""
        return self._stream.is_over

    def close(self) -> None:
        """Disconnect."""
        for reader in self._readers:
            reader.stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._data.close()

    def _resume(self, cursor: bytes) -> None:
        try:
            kept = _CURSOR.decode(cursor)
        except StateMismatch as error:
            raise BadInput(str(error)) from error
        if kept.origin != self._origin:
            raise BadInput(f"this session was following {kept.origin}, not {self._origin}; start a new session")
        self._stream.restore(kept.stream)
        self._seam_open, self._next_kline_open = kept.seam_open, kept.next_kline_open
        last = self._stream.normaliser.max_event_time
        if not last:
            return
        bars = self._wait_for(lambda: self._data.klines(start_ms=(last - last % _MINUTE) // 1_000_000, limit=1500))
        if bars and bars[-1].close_time - last > _LONG_OUTAGE_NS:
            # Too much for trades one by one: klines stand for the minutes missed, this one's comes when it is over.
            self._count_gap("long outage", minutes=len(bars))
            self._history = bars
            self._seam_open = bars[-1].close_time
            self._stream.normaliser.forget_trades()

    def _wait_for(self, ask: Callable[[], AnswerT]) -> AnswerT:
        deadline = time.monotonic() + self._start_timeout_s
        while True:
            try:
                return ask()
            except VenueRefused as error:
                raise BadInput(
                    f"{error}; correct PERPFLOW_INGESTION_INSTRUMENT or PERPFLOW_INGESTION_REST_URL"
                ) from error
            except VenueUnavailable as error:
                if time.monotonic() >= deadline:
                    raise DependencyUnavailable(
                        f"{error}; check the network or choose another market (simulated, recorded:PATH)"
                    ) from error
                time.sleep(_RETRY_S)

    def _take(self, arrival: Arrival, out: list[Output]) -> None:
        carries_trades = arrival.stream in self._trade_streams
        if arrival.kind is ArrivalKind.CONNECTED:
            self._logger.info("connected", stream=arrival.stream)
            if arrival.stream in self._book_streams:
                self._synchronise_book()
            if carries_trades:
                self._rejoin_trades(arrival.received_time, out)
        elif arrival.kind is ArrivalKind.LOST:
            self._logger.warning("connection lost", stream=arrival.stream, reason=arrival.payload.decode())
            if carries_trades and self._lost_market_s is None:
                self._lost_market_s = time.monotonic()
        elif not carries_trades and self._waits_for_trades:
            self._deferred.append(arrival)
        else:
            self._heard_s = time.monotonic()
            self._take_frame(arrival.payload, arrival.received_time, arrival.stream, out)

    @property
    def _waits_for_trades(self) -> bool:
        if self._lost_market_s is None or len(self._deferred) >= _MAX_DEFERRED:
            return False
        return time.monotonic() - self._lost_market_s < _PATIENCE_S

    def _take_deferred(self, out: list[Output]) -> None:
        while self._deferred:
            arrival = self._deferred.popleft()
            self._take_frame(arrival.payload, arrival.received_time, arrival.stream, out)

    def _rejoin_trades(self, received_time: int, out: list[Output]) -> None:
        if self._stream.normaliser.last_trade_time:
            self._count_gap("trade stream interrupted", first=self._stream.normaliser.last_trade_id + 1)
            # What fails here shows with the first trade that comes, and is asked for once more.
            self._fetch_trades(received_time, None, out)
        self._lost_market_s = None
        self._take_deferred(out)

    def _take_frame(self, payload: bytes, received_time: int, source: str, out: list[Output]) -> None:
        self._frames += 1
        try:
            events = self._decode(payload, received_time)
        except FrameError as error:
            out.append(DeadInput(reason=str(error), source=source, position=self._frames, payload=payload))
            return
        for event in events:
            if isinstance(event, Trade):
                self._fill_trades(event, out)
            elif isinstance(event, DepthDelta):
                self._check_chain(event)
            if not self._stream.first_event_time:
                self._seam_open = event.event_time - event.event_time % _MINUTE
            out.extend(self._stream.accept(event))

    def _decode(self, payload: bytes, received_time: int) -> Sequence[MarketEvent]:
        frame = self._decoder.open(payload)
        if frame is None:
            return ()
        fallback = self._stream.normaliser.max_event_time or received_time
        return self._decoder.decode(frame, received_time=received_time, fallback_time=fallback, symbol=self._symbol)

    def _fill_trades(self, event: Trade, out: list[Output]) -> None:
        missing = self._stream.normaliser.last_trade_id + 1
        if not 0 < missing < event.venue_trade_id:
            return
        self._count_gap("trades missed", first=missing, next=event.venue_trade_id)
        if not self._fetch_trades(event.received_time, event.venue_trade_id, out):
            self._logger.error("trades stay missing", first=missing, next=event.venue_trade_id)

    def _fetch_trades(self, received_time: int, before_id: int | None, out: list[Output]) -> bool:
        """Ask for the trades behind the last, up to those from an id on; the answer is whether none is missing."""
        normaliser = self._stream.normaliser
        position = TradePosition(normaliser.last_trade_id, normaliser.last_trade_time)
        try:
            for _ in range(_MAX_FILL_PAGES):
                page = self._data.trades_after(position, received_time=received_time)
                for trade in page.trades:
                    if before_id is None or trade.venue_trade_id < before_id:
                        out.extend(self._stream.accept(trade))
                if not page.is_joined:
                    return False
                if page.is_last or (before_id is not None and page.trades[-1].venue_trade_id >= before_id - 1):
                    return True
                position = TradePosition(page.trades[-1].venue_trade_id, page.trades[-1].event_time)
        except (VenueError, FrameError) as error:
            self._logger.error("trades could not be fetched", reason=str(error))
        return False

    def _check_chain(self, event: DepthDelta) -> None:
        normaliser = self._stream.normaliser
        if normaliser.is_holding or event.final_update_id <= normaliser.last_final_update_id:
            return
        if not normaliser.is_continued_by(event):
            self._count_gap("book chain broken", expected=normaliser.last_final_update_id)
            self._synchronise_book()
            if self._data.pushes_snapshots:
                for reader in self._readers:
                    reader.resubscribe()

    def _synchronise_book(self) -> None:
        self._stream.normaliser.hold_depth()
        if not self._data.pushes_snapshots:
            self._due_s["depth"] = time.monotonic()

    def _count_gap(self, word: str, **facts: int) -> None:
        self._gaps += 1
        self._logger.warning(word, gaps=self._gaps, **facts)

    def _run_requests(self, out: list[Output]) -> None:
        now = time.monotonic()
        for name in [name for name, due in self._due_s.items() if due <= now and name not in self._futures]:
            del self._due_s[name]
            self._futures[name] = self._pool.submit(self._asks[name][0])
        for name in [name for name, future in self._futures.items() if future.done()]:
            future = self._futures.pop(name)
            try:
                self._asks[name][1](future.result(), out)
            except (VenueError, FrameError) as error:
                wish_s = error.retry_after_s if isinstance(error, VenueUnavailable) else 0.0
                self._logger.warning("request failed", request=name, reason=str(error))
                self._due_s[name] = now + max(_RETRY_S, wish_s)

    def _take_depth_answer(self, payload: bytes, out: list[Output]) -> None:
        snapshot = next(iter(self._decode(payload, time.time_ns())), None)
        normaliser = self._stream.normaliser
        if not isinstance(snapshot, DepthSnapshot) or not normaliser.is_holding:
            return
        if not normaliser.is_bridged_by(snapshot):
            # Older than the first delta we hold: ask again.
            self._due_s["depth"] = time.monotonic() + _RETRY_S
            return
        out.extend(self._stream.accept(snapshot))
        if normaliser.is_holding:
            self._due_s["depth"] = time.monotonic() + _RETRY_S

    def _take_open_interest(self, payload: bytes, out: list[Output]) -> None:
        self._due_s["open interest"] = time.monotonic() + self._open_interest_every_s
        for event in self._decode(payload, time.time_ns()):
            if self._stream.first_event_time:
                out.extend(self._stream.accept(event))

    def _watch_seam(self) -> None:
        is_due = self._stream.normaliser.max_event_time >= self._seam_open + _MINUTE + _SEAM_PATIENCE_NS
        if self._seam_open and is_due and "klines" not in self._futures:
            self._due_s.setdefault("klines", time.monotonic())

    def _ask_klines(self) -> list[ExchangeBar]:
        start = min(self._next_kline_open or self._seam_open, self._seam_open)
        return self._data.klines(start_ms=start // 1_000_000, limit=1500)

    def _take_klines(self, bars: list[ExchangeBar], out: list[Output]) -> None:
        if not any(bar.open_time == self._seam_open for bar in bars):
            self._due_s["klines"] = time.monotonic() + _RETRY_S
            return
        for bar in bars:
            if self._next_kline_open <= bar.open_time <= self._seam_open:
                out.extend(self._stream.accept(bar))
        self._seam_open = 0

    def _keep_clock(self, out: list[Output]) -> None:
        silent_s = time.monotonic() - self._heard_s
        last = self._stream.normaliser.max_event_time
        if silent_s < _QUIET_S or not last or out:
            return
        if self._waits_for_trades:
            return
        whole_s = int(silent_s)
        out.extend(self._stream.tick(last + whole_s * NANOSECONDS, time.time_ns()))
        self._heard_s += whole_s
