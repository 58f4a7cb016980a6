"""Follows a live market: its venue's streams and answers, made into one stream that knows of every gap in it.

Missed trades are fetched beside the reading. Until they are there, trades wait, and so does what would close the bar
that they belong to, for a stated time; everything else goes on. A gap is an event on the bus, and stays with the cursor
until it is filled. The book is synchronised anew after a break of its chain, the minute in which the stream began is
completed from its kline.
"""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import structlog

from libs.clock import SYSTEM_CLOCK, Clock
from libs.domain.events import DeadInput
from libs.domain.market import (
    BestQuote,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    GapKind,
    GapState,
    MarketEvent,
    MarkPrice,
    Trade,
)
from libs.domain.numbers import NANOSECONDS
from libs.domain.state import StateFormat, StateMismatch
from libs.runtime.errors import BadInput, DependencyUnavailable
from libs.runtime.source import FeedHealth
from libs.venues.api import FrameDecoder, MarketData
from libs.venues.errors import VenueError, VenueUnavailable
from libs.venues.frames import FrameError
from libs.venues.streams import Arrival, ArrivalKind, StreamReader
from services.ingestion.core.gaps import GapLog, OpenGap, as_late
from services.ingestion.core.liveness import Liveness
from services.ingestion.core.stream import Stream, StreamState, add_gaps, add_trade_times, rename_fields
from services.ingestion.fills import FetchedTrades, TradeFill
from services.ingestion.patience import AnswerT, ask_for

_MINUTE = 60 * NANOSECONDS
_JOIN_PATIENCE_NS = 1_500_000_000
_RETRY_S = 1.0
_LONG_OUTAGE_NS = 10 * _MINUTE
_QUIET_S = 1.0
_CLOCK_EVERY_S = 60.0
_MAX_DEFERRED = 20_000
_HELD_NS = 60 * NANOSECONDS
_HELD_DELTAS = 2000

# What a subscription of its own carries at a rate of its own, as metrics call it.
_STEADY: dict[type, str] = {
    Trade: "trade",
    DepthDelta: "depth_delta",
    BestQuote: "best_quote",
    MarkPrice: "mark_price",
}

Output = MarketEvent | DeadInput


@dataclass(frozen=True, slots=True)
class LiveCursor:
    """How far a market was followed, and what of it is missing."""

    origin: str
    stream: StreamState
    join_minute: int
    next_kline_open: int
    gaps: list[OpenGap]


_CURSOR = StateFormat("live-cursor", 4, LiveCursor, migrations={1: add_trade_times, 2: add_gaps, 3: rename_fields})


@dataclass(frozen=True, slots=True)
class _Wait:
    """Until when (monotonic) trades wait for those missing before them, and from which event time on all else does.

    With `until_trade` nothing is known to be missing, but trades are overdue: the next one ends it.
    """

    deadline_s: float
    boundary: int
    until_trade: bool = False


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
        wait_for_trades_s: float = 10.0,
        logger: structlog.stdlib.BoundLogger | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._clock = clock
        self._data = data
        self._decoder = decoder
        self._stream = Stream(instrument, span_ns=span_ns)
        self._stream.normaliser.held_ns, self._stream.normaliser.held_deltas = _HELD_NS, _HELD_DELTAS
        self._history_bars = history_bars
        self._open_interest_every_s = open_interest_every_s
        self._start_timeout_s = start_timeout_s
        self._wait_for_trades_s = wait_for_trades_s
        self._logger: structlog.stdlib.BoundLogger = logger or structlog.get_logger().bind(service="ingestion")
        self._symbol = instrument.partition(".")[0]
        self._origin = f"live:{instrument}"
        self._arrivals: queue.Queue[Arrival] = queue.Queue(queue_frames)
        self._readers = [
            StreamReader(stream, self._arrivals, stale_after_s=stale_after_s, renew_after_s=renew_after_s, clock=clock)
            for stream in data.streams
        ]
        self._trade_streams = {stream.name for stream in data.streams if stream.carries_trades}
        self._book_streams = {stream.name for stream in data.streams if stream.carries_book}
        self._pool = ThreadPoolExecutor(2, thread_name_prefix="rest")
        self._asks: dict[str, tuple[Callable[[], Any], Callable[[Any, list[Output]], None]]] = {
            "depth": (data.depth_answer, self._take_depth_answer),
            "open interest": (data.open_interest_answer, self._take_open_interest),
            "klines": (self._ask_klines, self._take_klines),
            "clock": (self._ask_clock, self._take_clock),
        }
        self._due_s: dict[str, float] = {"clock": clock.monotonic_s()}
        self._instrument = instrument
        self._last_came_s: dict[str, float] = {}
        self._reconnects = {stream.name: -1 for stream in data.streams}
        self._clock_offset_s: float | None = None
        self._book_levels: tuple[int, int] | None = None
        self._futures: dict[str, Future[Any]] = {}
        self._history: list[ExchangeBar] = []
        self._frames = 0
        self._join_minute = 0
        self._next_kline_open = 0
        self._heard_s = self._clock.monotonic_s()
        self._lost_market_s: float | None = self._clock.monotonic_s()
        self._liveness = Liveness(stale_after_s)
        self._carried_by: dict[str, str] = {}
        self._deferred: deque[MarketEvent] = deque()
        self._defers_all = False
        self._wait: _Wait | None = None
        self._fill: TradeFill | None = None
        self._gap_log = GapLog(instrument)
        self._pending: list[Output] = []
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
        self._lost_market_s = self._clock.monotonic_s()
        if not self._data.pushes_open_interest:
            self._due_s["open interest"] = self._lost_market_s
        self._begin_wait()
        for reader in self._readers:
            reader.start()

    def read(self, max_events: int, timeout_ms: int) -> Sequence[Output]:
        """Return what came, waiting at most the timeout for the first of it."""
        out: list[Output] = []
        for bar in self._history:
            out.extend(self._stream.accept(bar))
        self._history = []
        out.extend(self._pending)
        self._pending = []
        self._run_requests(out)
        self._run_fill(out)
        deadline = self._clock.monotonic_s() + timeout_ms / 1000
        while len(out) < max_events and not self._stream.is_over:
            try:
                wait_s = 0.0 if out else max(0.0, deadline - self._clock.monotonic_s())
                arrival = self._arrivals.get(timeout=wait_s) if wait_s else self._arrivals.get_nowait()
            except queue.Empty:
                break
            self._take(arrival, out)
        self._run_fill(out)
        self._watch_liveness()
        self._watch_join_minute()
        self._keep_clock(out)
        return out

    def check_venue(self) -> None:
        """Raise `DependencyUnavailable` while the market stream is not connected; from any thread.

        Whether trades come does not matter: a quiet market answers.
        """
        lost_s = self._lost_market_s
        if lost_s is not None:
            since_s = self._clock.monotonic_s() - lost_s
            raise DependencyUnavailable(
                f"the market stream of {self._symbol} has not been connected for {since_s:.0f} s"
            )

    def feed_health(self) -> Sequence[FeedHealth]:
        """Return how this feed is."""
        now = self._clock.monotonic_s()
        ages = {kind: now - came_s for kind, came_s in self._last_came_s.items()}
        levels = (0, 0) if self._stream.normaliser.is_holding and self._book_levels else self._book_levels
        # Before the first connection there was none further.
        reconnects = {stream: max(0, count) for stream, count in self._reconnects.items()}
        return [FeedHealth(self._instrument, ages, reconnects, self._clock_offset_s, levels)]

    def cursor(self) -> bytes:
        """Return the position behind everything read so far."""
        return _CURSOR.encode(
            LiveCursor(self._origin, self._stream.state(), self._join_minute, self._next_kline_open, self._gap_log.gaps)
        )

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
        self._join_minute, self._next_kline_open = kept.join_minute, kept.next_kline_open
        # One that was not reported shows again once the streams are there.
        self._gap_log.gaps = [gap for gap in kept.gaps if gap.is_reported]
        last = self._stream.normaliser.max_event_time
        if not last:
            return
        self._lose_book("restarted", self._pending)
        bars = self._wait_for(lambda: self._data.klines(start_ms=(last - last % _MINUTE) // 1_000_000, limit=1500))
        if bars and bars[-1].close_time - last > _LONG_OUTAGE_NS:
            # Too much for trades one by one: klines stand for the minutes missed, this one's comes when it is over.
            self._count_gap("long outage", minutes=len(bars))
            gap = self._gap_log.open(
                GapKind.TRADES,
                f"away for {len(bars)} minutes, for which klines stand",
                from_time=last,
                to_time=bars[-1].close_time,
                first_number=max(0, self._stream.normaliser.last_trade_id + 1),
            )
            self._report(gap, GapState.LOST, self._pending)
            self._history = bars
            self._join_minute = bars[-1].close_time
            self._stream.normaliser.forget_trades()

    def _wait_for(self, ask: Callable[[], AnswerT]) -> AnswerT:
        return ask_for(
            ask,
            self._start_timeout_s,
            pause_s=_RETRY_S,
            monotonic=self._clock.monotonic_s,
            sleep=self._clock.sleep,
            where_unavailable="check the network or choose another market (simulated, recorded:PATH)",
            where_refused="correct PERPFLOW_INGESTION_INSTRUMENT or PERPFLOW_INGESTION_REST_URL",
        )

    def _take(self, arrival: Arrival, out: list[Output]) -> None:
        carries_trades = arrival.stream in self._trade_streams
        carries_book = arrival.stream in self._book_streams
        if arrival.kind is ArrivalKind.CONNECTED:
            self._logger.info("connected", stream=arrival.stream)
            self._reconnects[arrival.stream] += 1
            if carries_book:
                self._synchronise_book()
            if carries_trades:
                self._rejoin_trades(arrival.received_time, out)
        elif arrival.kind is ArrivalKind.LOST:
            self._logger.warning("connection lost", stream=arrival.stream, reason=arrival.payload.decode())
            if carries_book:
                self._lose_book(f"connection lost: {arrival.payload.decode()}", out)
            if carries_trades and self._lost_market_s is None:
                self._lost_market_s = self._clock.monotonic_s()
                self._begin_wait()
        elif arrival.kind is ArrivalKind.RENEWED:
            self._logger.info("connection renewed", stream=arrival.stream, reason=arrival.payload.decode())
            self._reconnects[arrival.stream] += 1
        else:
            self._heard_s = self._clock.monotonic_s()
            self._take_frame(arrival.payload, arrival.received_time, arrival.stream, out)

    # Trades that are missing.

    def _begin_wait(self) -> None:
        # Before the first trade everything waits: the minute in which the stream begins is that of its trades.
        normaliser = self._stream.normaliser
        last = normaliser.max_event_time if normaliser.last_trade_time else 0
        boundary = last - last % _MINUTE + _MINUTE if last else 0
        self._wait = _Wait(self._clock.monotonic_s() + self._wait_for_trades_s, boundary)

    def _rejoin_trades(self, received_time: int, out: list[Output]) -> None:
        normaliser = self._stream.normaliser
        self._lost_market_s = None
        if not normaliser.last_trade_time:
            self._release(out)
            return
        first, from_time = self._find_first_missing()
        self._count_gap("trade stream interrupted", first=first)
        gap = self._gap_log.open(GapKind.TRADES, "trade stream interrupted", from_time=from_time, first_number=first)
        self._begin_wait()
        self._fill = TradeFill(gap, received_time)

    def _find_first_missing(self) -> tuple[int, int]:
        """Return number (0: none) and time from which on trades are neither there nor reported as missing."""
        normaliser = self._stream.normaliser
        number = normaliser.last_trade_id + 1 if normaliser.last_trade_id >= 0 else 0
        from_time = normaliser.last_trade_time
        for gap in sorted(self._gap_log.of(GapKind.TRADES), key=lambda gap: gap.from_time):
            follows = gap.first_number <= number <= gap.last_number if number else gap.from_time == from_time
            if gap.is_reported and gap.to_time and follows:
                number, from_time = gap.last_number + 1 if number else 0, gap.to_time
        return number, from_time

    def _take_frame(self, payload: bytes, received_time: int, source: str, out: list[Output]) -> None:
        self._frames += 1
        try:
            events = self._decode(payload, received_time)
        except FrameError as error:
            out.append(DeadInput(reason=str(error), source=source, position=self._frames, payload=payload))
            return
        now = self._clock.monotonic_s()
        for event in events:
            reason = self._stream.judge(event)
            if reason:
                text = f"{event.event_id}: {reason}"
                out.append(DeadInput(reason=text, source=source, position=self._frames, payload=payload))
                if isinstance(event, DepthSnapshot):
                    self._ask_for_book()
                continue
            if isinstance(event, DepthSnapshot):
                self._book_levels = (len(event.bid_prices_e8), len(event.ask_prices_e8))
            if type(event) in _STEADY:
                kind = type(event).__name__
                self._last_came_s[_STEADY[type(event)]] = now
                self._carried_by[kind] = source
                self._liveness.note(kind, now)
            self._take_event(event, out)

    def _take_event(self, event: MarketEvent, out: list[Output]) -> None:
        if self._wait is not None and self._wait.until_trade and isinstance(event, Trade):
            waiting, self._deferred = self._deferred, deque()
            self._wait, self._defers_all = None, False
            self._take_event(event, out)
            for each in waiting:
                self._take_event(each, out)
            return
        if self._must_wait(event):
            self._deferred.append(event)
            return
        if isinstance(event, Trade):
            if not self._is_next(event, out):
                self._deferred.append(event)
                return
        elif isinstance(event, DepthDelta):
            self._check_chain(event, out)
        if not self._stream.first_event_time:
            self._join_minute = event.event_time - event.event_time % _MINUTE
        out.extend(self._stream.accept(event))
        if isinstance(event, DepthSnapshot):
            self._end_book_gaps(out)

    def _must_wait(self, event: MarketEvent) -> bool:
        if self._wait is None and not isinstance(event, Trade):
            self._begin_wait_for_overdue_trades(event)
        if self._wait is None:
            return False
        # What would close the bar waits for its trades, and what comes behind that for its turn.
        self._defers_all |= event.event_time >= self._wait.boundary
        return self._defers_all or isinstance(event, Trade)

    def _begin_wait_for_overdue_trades(self, event: MarketEvent) -> None:
        """Hold what would close the bar where trades, by their own rate, should have come: their stream may be dead."""
        normaliser = self._stream.normaliser
        last = normaliser.max_event_time
        boundary = last - last % _MINUTE + _MINUTE
        if not normaliser.last_trade_time or event.event_time < boundary:
            return
        now = self._clock.monotonic_s()
        if self._liveness.is_overdue(Trade.__name__, now):
            self._wait = _Wait(now + self._wait_for_trades_s, boundary, until_trade=True)

    def _is_next(self, trade: Trade, out: list[Output]) -> bool:
        """Tell whether a trade may go out: it is the next, or what is missing before it has been reported."""
        for gap in self._gap_log.of(GapKind.TRADES):
            if not gap.to_time and gap.from_time <= trade.event_time:
                # It was not known how far it reaches.
                gap.to_time = trade.event_time
                if gap.first_number:
                    gap.last_number = trade.venue_trade_id - 1
                if not gap.first_number or gap.last_number >= gap.first_number:
                    self._report(gap, GapState.OPEN, out)
                elif gap.is_reported:
                    # None was missing: there were none.
                    self._report(gap, GapState.FILLED, out)
                else:
                    self._gap_log.drop(gap)
                return True
        first, from_time = self._find_first_missing()
        if not trade.venue_trade_id or not 0 < first < trade.venue_trade_id:
            return True
        self._count_gap("trades missed", first=first, next=trade.venue_trade_id)
        gap = self._gap_log.open(
            GapKind.TRADES,
            "trades missed",
            from_time=from_time,
            to_time=trade.event_time,
            first_number=first,
            last_number=trade.venue_trade_id - 1,
        )
        self._begin_wait()
        self._fill = TradeFill(gap, trade.received_time)
        return False

    def _run_fill(self, out: list[Output]) -> None:
        now = self._clock.monotonic_s()
        if self._wait is not None and (now >= self._wait.deadline_s or len(self._deferred) >= _MAX_DEFERRED):
            self._give_up_waiting(out)
        if self._fill is None and self._wait is None:
            known = next((gap for gap in self._gap_log.of(GapKind.TRADES) if gap.is_reported and gap.to_time), None)
            if known is not None:
                self._fill = TradeFill(known, self._clock.now_ns(), is_late=True)
        if self._fill is None:
            return
        fetched = self._fill.poll(self._pool, self._data, now, self._log_fetch_error)
        if fetched is not None:
            fill, self._fill = self._fill, None
            self._end_fill(fill, fetched, out)

    def _log_fetch_error(self, reason: str) -> None:
        self._logger.error("trades could not be fetched", reason=reason)

    def _give_up_waiting(self, out: list[Output]) -> None:
        """Let what waits go out; what is missing comes late, and that is reported before."""
        if self._fill is not None:
            self._fill.is_late = True
            self._report_open(self._fill.gap, out)
        elif self._stream.normaliser.last_trade_time:
            first, from_time = self._find_first_missing()
            gap = self._gap_log.open(GapKind.TRADES, "no trades come", from_time=from_time, first_number=first)
            self._report_open(gap, out)
        self._release(out)

    def _report_open(self, gap: OpenGap, out: list[Output]) -> None:
        if not gap.is_reported or gap.to_time:
            self._report(gap, GapState.OPEN, out)

    def _release(self, out: list[Output]) -> None:
        self._wait, self._defers_all = None, False
        waiting, self._deferred = self._deferred, deque()
        while waiting:
            self._take_event(waiting.popleft(), out)

    def _end_fill(self, fill: TradeFill, fetched: FetchedTrades, out: list[Output]) -> None:
        gap = fill.gap
        # Where the trade that ends it has not come, nothing is behind it and nothing is late.
        is_late = fill.is_late and bool(gap.to_time)
        missing = [trade for trade in fetched.trades if gap.holds(trade, with_edges=not is_late)]
        if fetched.is_lost and missing:
            gap.to_time = missing[0].event_time
            gap.last_number = max(0, missing[0].venue_trade_id - 1)
        # A minute that has begun has closed the bar of the one before.
        last = self._stream.normaliser.max_event_time
        open_since = last - last % _MINUTE
        late_count = 0
        for trade in missing:
            events = self._stream.accept(trade) if not is_late else [trade]
            for event in events:
                if isinstance(event, Trade) and (is_late or event.event_time < open_since):
                    late_count += 1
                    event = as_late(event, gap)
                out.append(event)
        state = GapState.LOST if fetched.is_lost else GapState.LATE if late_count else GapState.FILLED
        if missing or gap.last_number or gap.is_reported or fetched.is_lost:
            if not gap.to_time and missing:
                gap.to_time = missing[-1].event_time
            if gap.first_number and not gap.last_number and missing:
                gap.last_number = missing[-1].venue_trade_id
            self._report(gap, state, out)
        else:
            self._gap_log.drop(gap)
        if not fill.is_late or self._lost_market_s is None:
            self._release(out)

    def _report(self, gap: OpenGap, state: GapState, out: list[Output]) -> None:
        at = self._stream.normaliser.max_event_time or gap.from_time
        self._logger.warning("gap", gap=gap.gap_id, state=state.name, reason=gap.reason)
        out.append(self._gap_log.report(gap, state, at, self._clock.now_ns()))

    def _decode(self, payload: bytes, received_time: int) -> Sequence[MarketEvent]:
        frame = self._decoder.open(payload)
        if frame is None:
            return ()
        if frame.symbol not in ("", self._symbol):
            raise FrameError(f"a frame of {frame.symbol} among those of {self._symbol}", "check what is subscribed to")
        fallback = self._stream.normaliser.max_event_time or received_time
        return self._decoder.decode(frame, received_time=received_time, fallback_time=fallback, symbol=self._symbol)

    # The book.

    def _check_chain(self, event: DepthDelta, out: list[Output]) -> None:
        normaliser = self._stream.normaliser
        if normaliser.is_holding or event.final_update_id <= normaliser.last_final_update_id:
            return
        if not normaliser.is_continued_by(event):
            self._count_gap("book chain broken", expected=normaliser.last_final_update_id)
            gap = self._gap_log.open(
                GapKind.BOOK,
                "an update is missing",
                from_time=normaliser.max_event_time,
                first_number=normaliser.last_final_update_id + 1,
                last_number=event.first_update_id - 1,
            )
            self._report(gap, GapState.OPEN, out)
            self._stream.normaliser.hold_depth()
            self._ask_for_book()

    def _lose_book(self, reason: str, out: list[Output]) -> None:
        normaliser = self._stream.normaliser
        if normaliser.max_event_time and not normaliser.is_holding:
            normaliser.hold_depth()
            gap = self._gap_log.open(GapKind.BOOK, reason, from_time=normaliser.max_event_time)
            self._report(gap, GapState.OPEN, out)

    def _end_book_gaps(self, out: list[Output]) -> None:
        if self._stream.normaliser.is_holding:
            return
        for gap in list(self._gap_log.of(GapKind.BOOK)):
            gap.to_time = self._stream.normaliser.max_event_time
            self._report(gap, GapState.FILLED, out)

    def _ask_for_book(self) -> None:
        if not self._data.pushes_snapshots:
            self._due_s["depth"] = self._clock.monotonic_s()
            return
        for reader in self._readers:
            reader.resubscribe()

    def _synchronise_book(self) -> None:
        self._stream.normaliser.hold_depth()
        if not self._data.pushes_snapshots:
            self._due_s["depth"] = self._clock.monotonic_s()

    def _count_gap(self, word: str, **facts: int | float | str) -> None:
        self._gaps += 1
        self._logger.warning(word, gaps=self._gaps, **facts)

    def _run_requests(self, out: list[Output]) -> None:
        now = self._clock.monotonic_s()
        for name in [name for name, due in self._due_s.items() if due <= now and name not in self._futures]:
            del self._due_s[name]
            self._futures[name] = self._pool.submit(self._asks[name][0])
        for name in [name for name, future in self._futures.items() if future.done()]:
            future = self._futures.pop(name)
            try:
                self._asks[name][1](future.result(), out)
            except (VenueError, FrameError) as error:
                retry_after_s = error.retry_after_s if isinstance(error, VenueUnavailable) else 0.0
                self._logger.warning("request failed", request=name, reason=str(error))
                self._due_s[name] = now + max(_RETRY_S, retry_after_s)

    def _ask_again(self, name: str) -> None:
        self._due_s[name] = self._clock.monotonic_s() + _RETRY_S

    def _take_depth_answer(self, payload: bytes, out: list[Output]) -> None:
        snapshot = next(iter(self._decode(payload, self._clock.now_ns())), None)
        normaliser = self._stream.normaliser
        if not isinstance(snapshot, DepthSnapshot) or not normaliser.is_holding:
            return
        reason = self._stream.judge(snapshot)
        if reason:
            out.append(DeadInput(reason=reason, source="depth", position=self._frames, payload=payload))
            self._ask_again("depth")
            return
        if not normaliser.is_bridged_by(snapshot):
            # Older than the first delta we hold: ask again.
            self._ask_again("depth")
            return
        out.extend(self._stream.accept(snapshot))
        self._book_levels = (len(snapshot.bid_prices_e8), len(snapshot.ask_prices_e8))
        self._end_book_gaps(out)
        if normaliser.is_holding:
            self._ask_again("depth")

    def _take_open_interest(self, payload: bytes, out: list[Output]) -> None:
        self._due_s["open interest"] = self._clock.monotonic_s() + self._open_interest_every_s
        for event in self._decode(payload, self._clock.now_ns()):
            if self._stream.first_event_time:
                out.extend(self._stream.accept(event))

    def _ask_clock(self) -> float:
        asked = self._clock.now_ns()
        venue_ms = self._data.now_ms()
        # The venue read its clock about halfway.
        return venue_ms / 1000 - (asked + self._clock.now_ns()) / 2e9

    def _take_clock(self, offset_s: float, _out: list[Output]) -> None:
        self._clock_offset_s = offset_s
        self._due_s["clock"] = self._clock.monotonic_s() + _CLOCK_EVERY_S

    def _watch_liveness(self) -> None:
        for kind, silent_s in self._liveness.find_silent(self._clock.monotonic_s()):
            self._liveness.forget(kind)
            self._count_gap("a subscription is silent", kind=kind, silent_s=round(silent_s, 1))
            for reader in self._readers:
                if reader.name == self._carried_by[kind]:
                    reader.reconnect(f"no {kind} came for {silent_s:.1f} s")

    def _watch_join_minute(self) -> None:
        is_due = self._stream.normaliser.max_event_time >= self._join_minute + _MINUTE + _JOIN_PATIENCE_NS
        if self._join_minute and is_due and "klines" not in self._futures:
            self._due_s.setdefault("klines", self._clock.monotonic_s())

    def _ask_klines(self) -> list[ExchangeBar]:
        start = min(self._next_kline_open or self._join_minute, self._join_minute)
        return self._data.klines(start_ms=start // 1_000_000, limit=1500)

    def _take_klines(self, bars: list[ExchangeBar], out: list[Output]) -> None:
        if not any(bar.open_time == self._join_minute for bar in bars):
            self._ask_again("klines")
            return
        for bar in bars:
            if self._next_kline_open <= bar.open_time <= self._join_minute:
                out.extend(self._stream.accept(bar))
        self._join_minute = 0

    def _keep_clock(self, out: list[Output]) -> None:
        silent_s = self._clock.monotonic_s() - self._heard_s
        last = self._stream.normaliser.max_event_time
        if silent_s < _QUIET_S or not last or out:
            return
        at = last + int(silent_s) * NANOSECONDS
        if self._wait is not None:
            # The tick that would close the bar waits as well.
            at = min(at, self._wait.boundary - NANOSECONDS)
        if at <= last:
            return
        out.extend(self._stream.tick(at, self._clock.now_ns()))
        self._heard_s += (at - last) // NANOSECONDS
