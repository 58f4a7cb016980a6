"""Compile the hot cores ahead, so that no service compiles while a market waits: made-up bars and a minute of simulated
market through the very cores that the services run. numba keeps the result beside the modules (or under
``NUMBA_CACHE_DIR``), for the processor it ran on: another one compiles its own beside it.

`python -m infra.local.compile [PART ...]` compiles parts side by side, a process each; without a name all of them.
``market`` stands for those without which no price moves. A part imports what it compiles and nothing else: an image has
one service's code.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from libs.domain.market import BestQuote, ClockTick, DepthDelta, DepthSnapshot, MarketEvent, Trade

NS = 1_000_000_000


def compile_exchange() -> None:
    """Compile the simulated market and what its orders are matched on."""
    from services.exchange.core import generate_events, generate_history

    compile_matching()
    for _ in (*generate_history(seed=1, minutes=90), *generate_events(seed=1, minutes=2)):
        pass


def compile_matching() -> None:
    """Compile the order book that orders are matched on."""
    from libs.matching.ladder import compile_ahead

    compile_ahead()


def compile_bars() -> None:
    """Compile order book and bars."""
    from services.bars.core import BarsCore
    from services.bars.settings import BarsSettings

    settings = BarsSettings()
    bars = BarsCore(settings.timeframes, settings.instruments, grace_ms=settings.grace_ms)
    for event in _one_bar("BTCUSDT.BINANCE"):
        bars.handle(event)
    one = np.ones(1, np.int64)
    bars.pass_trades("BTCUSDT.BINANCE", one * bars.deadline("BTCUSDT.BINANCE") - 1, one, one, np.ones(1, np.bool_))


def _one_bar(instrument: str) -> Iterator[MarketEvent]:
    one = 100_000_000
    start = 1_700_000_040 * NS
    yield DepthSnapshot(instrument, "s", start, start, 1, (99 * one,), (one,), (101 * one,), (one,))
    yield DepthDelta(instrument, "d", start, start, 2, 2, 1, (98 * one,), (one,), (102 * one,), (one,))
    yield BestQuote(instrument, "q", start, start, 3, 99 * one, one, 101 * one, one)
    yield Trade(instrument, "t", start, start, 100 * one, one, False, 1)
    for second in range(130):
        at = start + second * NS
        yield ClockTick(instrument, f"c{second}", at, at)


def compile_features() -> None:
    """Compile the indicators for streams."""
    from libs.indicators.warm import compile_stream

    compile_stream()


def compile_features_and_research() -> None:
    """Compile the indicators for streams and arrays; in one process, so that what they share is analysed once."""
    from libs.indicators.warm import compile_batch, compile_stream

    compile_stream()
    compile_batch()


def compile_recorder() -> None:
    """Compile the reading of payloads into columns."""
    from libs.wire import encode
    from libs.wire.columns import ColumnReader
    from libs.wire.topics import MARKET_EVENTS, TOPICS

    declared = TOPICS[MARKET_EVENTS]
    reader = ColumnReader(declared, [each.type for each in declared.carries])
    reader.read([encode(event).payload for event in _one_bar("BTCUSDT.BINANCE")])


def compile_passing() -> None:
    """Compile the loops that a backtest passes ticks in."""
    from libs.domain.market_columns import columns_of, look_over
    from libs.matching.book import Book
    from libs.matching.passing import pass_events
    from services.bars.core import BarsCore

    instrument = "BTCUSDT.BINANCE"
    events = [event for event in _one_bar(instrument) if not isinstance(event, DepthSnapshot | ClockTick)]
    columns, bars, book = columns_of(instrument, events), BarsCore(), Book()
    bars.handle(events[0])
    bars.pass_events(columns, 0, len(columns))
    look_over(columns, 0, len(columns), 0, is_quoted=False)
    pass_events(book, [], columns, 0, len(columns), bound=2 * events[0].event_time, opened=0)


# The longest first, so that the last to start is a short one.
PARTS: dict[str, Callable[[], None]] = {
    "indicators": compile_features_and_research,
    "features": compile_features,
    "exchange": compile_exchange,
    "bars": compile_bars,
    "matching": compile_matching,
    "recorder": compile_recorder,
    "passing": compile_passing,
}
MARKET = ("exchange", "bars")
EVERYTHING = ("indicators", "exchange", "bars", "recorder", "passing")
"""Without those that are part of another."""


def _chosen(names: Sequence[str]) -> list[str]:
    wanted = {part for name in names or EVERYTHING for part in (MARKET if name == "market" else (name,))}
    unknown = sorted(wanted - PARTS.keys())
    if unknown:
        raise SystemExit(f"unknown part {', '.join(unknown)}: use market, {', '.join(PARTS)}")
    return [name for name in PARTS if name in wanted]


def main() -> None:
    """Compile the parts named on the command line and say how long it took."""
    started = time.perf_counter()
    parts = _chosen(sys.argv[1:])
    with multiprocessing.get_context("spawn").Pool(min(len(parts), os.cpu_count() or 1)) as pool:
        for done in [pool.apply_async(PARTS[name]) for name in parts]:
            done.get()
    sys.stderr.write(f"compiled {', '.join(parts)} in {time.perf_counter() - started:.1f} s\n")


if __name__ == "__main__":
    main()
