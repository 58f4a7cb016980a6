"""Asks a venue for what of its past is not there yet, several questions at once within the budget all of them share.

Pages are committed as they come, in any order: a file is right at every moment and says which spans it covers. So
whatever ends a collection, the next one goes on, forward and backward.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from libs.clock import Clock
from libs.history.files import SeriesFiles, subtract
from libs.history.series import to_table
from libs.venues.errors import VenueError, VenueUnavailable
from libs.venues.frames import FrameError
from libs.venues.history import HOUR_MS, HistoryRefused, MarketHistory, TimeSpan

WORKERS = 4
MAX_FAILURES = 5
"""How often in a row a question may fail before the collection ends; what the budget asks to wait for is no failure."""
COMMIT_EVERY_S = 2.0
_LONGEST_PAUSE_S = 60.0

_Answer = TypeVar("_Answer")
Advance: TypeAlias = Callable[[int, int], None]
"""Called for each page: how many ms it covered, how many rows it had."""


@dataclass(frozen=True, slots=True)
class _Page:
    files: SeriesFiles
    table: Any
    span: TimeSpan


def plan(history: MarketHistory, files: SeriesFiles, span: TimeSpan, now_ms: int) -> list[TimeSpan]:
    """Return what of a span must be asked for, in pieces of a page. Raises `HistoryRefused`."""
    series = files.series
    history.check(series.kind, series.timeframe)
    step = series.step_ms or 1
    # An unfinished bar is none yet.
    end = min(span.end, now_ms) // step * step
    begin = -(-span.begin // step) * step
    missing = subtract(TimeSpan(begin, end), files.covered) if begin < end else []
    reach = history.reach.get(series.kind)
    if reach is not None and missing and missing[0].begin < now_ms - reach[0]:
        raise HistoryRefused(reach[1])
    size = history.page_span_ms(series.kind, series.timeframe)
    return [TimeSpan(at, min(at + size, each.end)) for each in missing for at in range(each.begin, each.end, size)]


def collect(
    history: MarketHistory,
    pieces: Sequence[tuple[SeriesFiles, TimeSpan]],
    *,
    now_ms: int,
    clock: Clock,
    advance: Advance,
) -> None:
    """Fetch pieces and commit them. Raises what the venue answered once it does not help to ask again.

    What came before that is written in every case.
    """
    pages: queue.Queue[_Page | BaseException | None] = queue.Queue(4 * WORKERS)
    is_over = threading.Event()

    def fetch(files: SeriesFiles, piece: TimeSpan) -> None:
        try:
            for page in _pages_of(history, files, piece, now_ms, clock, is_over):
                pages.put(page)
        except (VenueError, FrameError) as error:
            pages.put(error)
        finally:
            pages.put(None)

    written_s = clock.monotonic_s()
    every_s = COMMIT_EVERY_S
    touched: dict[int, SeriesFiles] = {}
    with ThreadPoolExecutor(WORKERS, thread_name_prefix="history") as pool:
        futures = [pool.submit(fetch, files, piece) for files, piece in pieces]
        left = len(pieces)
        try:
            while left:
                page = pages.get()
                if page is None:
                    left -= 1
                elif isinstance(page, BaseException):
                    raise page
                else:
                    page.files.add(page.table, page.span)
                    touched[id(page.files)] = page.files
                    advance(page.span.end - page.span.begin, len(page.table))
                if clock.monotonic_s() - written_s >= every_s:
                    begun_s = clock.monotonic_s()
                    _commit(touched, now_ms)
                    written_s = clock.monotonic_s()
                    # A large file is written less often, so that writing stays a small part of the time.
                    every_s = max(COMMIT_EVERY_S, 10 * (written_s - begun_s))
        finally:
            is_over.set()
            pool.shutdown(wait=False, cancel_futures=True)
            for page in _rest_of(pages, futures):
                page.files.add(page.table, page.span)
                touched[id(page.files)] = page.files
            _commit(touched, now_ms)


def _commit(touched: dict[int, SeriesFiles], now_ms: int) -> None:
    for files in touched.values():
        files.commit(now_ms)
    touched.clear()


def _rest_of(pages: queue.Queue[_Page | BaseException | None], futures: Sequence[Future[None]]) -> Iterator[_Page]:
    """Yield what was on its way when the collection ended."""
    while True:
        # Looked at first: what a worker has put is there when it is done.
        are_done = all(future.done() for future in futures)
        try:
            page = pages.get_nowait() if are_done else pages.get(timeout=0.05)
        except queue.Empty:
            if are_done:
                return
            continue
        if isinstance(page, _Page):
            yield page


def _pages_of(
    history: MarketHistory, files: SeriesFiles, piece: TimeSpan, now_ms: int, clock: Clock, is_over: threading.Event
) -> Iterator[_Page]:
    series = files.series
    rest: TimeSpan | None = piece
    while rest is not None and not is_over.is_set():
        asked = rest
        question = partial(history.page, series.symbol, series.kind, series.timeframe, asked)
        page = ask(question, clock, is_over)
        if page is None:
            return
        rest = page.rest
        table = to_table(series, page.rows)
        covered = asked
        if rest is not None:
            covered = TimeSpan(asked.begin, rest.begin) if rest.end == asked.end else TimeSpan(rest.end, asked.end)
        elif asked.end > now_ms - HOUR_MS:
            # The newest rows may not be published yet: what lies behind the last one is asked for again.
            last = int(table.column(0)[-1].value) if len(table) else asked.begin - 1
            covered = TimeSpan(asked.begin, min(asked.end, last + (series.step_ms or 1)))
        yield _Page(files, table, covered)


def ask(question: Callable[[], _Answer], clock: Clock, is_over: threading.Event) -> _Answer | None:
    """Ask until there is an answer, as seldom as the venue wishes; None once the collection is over.

    Raises `VenueUnavailable` where it does not answer again and again.
    """
    failures, pause_s = 0, 1.0
    while not is_over.is_set():
        try:
            return question()
        except VenueUnavailable as error:
            if not error.retry_after_s:
                failures += 1
                if failures >= MAX_FAILURES:
                    raise
            wait_s = error.retry_after_s or pause_s
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            deadline = clock.monotonic_s() + wait_s
            while clock.monotonic_s() < deadline and not is_over.is_set():
                clock.sleep(min(0.1, wait_s))
    return None
