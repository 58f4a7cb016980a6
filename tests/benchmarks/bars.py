"""Measures bars and the simulated market: `python -m tests.benchmarks.bars [capture]`. Fails below a floor.

Without a capture the events are an hour of the simulated market.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from libs.domain.bars import TIMEFRAMES
from libs.domain.events import DeadInput
from libs.domain.market import BestQuote, DepthDelta, MarketEvent, Trade
from libs.venues.binance_frames import decode_frame, open_frame
from services.backtest.trade_bars import bars_of_trades
from services.bars.core import BarsCore
from services.exchange.core import SimulatedMarket, generate_events
from services.exchange.core.frames import INSTRUMENT, format_lines
from services.ingestion.core import Normaliser
from services.ingestion.feed import Pacer
from services.ingestion.recorded import RecordedSource

MINUTES = 60
DAY_AT_MOST_S = 5.0
FLOORS = {"bars, events/s": 50_000.0, "simulated market, rows/s": 200_000.0, "simulated market, lines/s": 20_000.0}


def load_events(capture: str) -> list[MarketEvent]:
    """Return the events of a capture, or of an hour of the simulated market."""
    if not capture:
        normaliser = Normaliser(INSTRUMENT)
        return [item for event in generate_events(7, minutes=MINUTES) for item in normaliser.accept(event)]
    source = RecordedSource(Path(capture), instrument=INSTRUMENT, pacer=Pacer(0))
    source.open(None)
    events: list[MarketEvent] = []
    while not source.is_finished:
        events.extend(event for event in source.read(5000, 100) if not isinstance(event, DeadInput))
    return events


def rate(count: int, run: Callable[[], object], rounds: int = 3) -> float:
    """Return the best rate of a few rounds, per second."""
    best = 0.0
    for _ in range(rounds):
        started = time.perf_counter()
        run()
        best = max(best, count / (time.perf_counter() - started))
    return best


def play(events: list[MarketEvent]) -> BarsCore:
    """Run events through a fresh core."""
    core = BarsCore()
    for event in events:
        core.handle(event)
    return core


def read_lines(lines: list[str]) -> None:
    """Decode and normalise capture lines."""
    normaliser = Normaliser(INSTRUMENT)
    for line in lines:
        received, _, payload = line.partition(" ")
        frame = open_frame(payload.encode())
        if frame is not None:
            event = decode_frame(frame, received_time=int(received), fallback_time=0, symbol="BTCUSDT")
            if event is not None:
                normaliser.accept(event)


def measure_day(trades: int = 2_000_000) -> float:
    """Return the seconds from a Parquet file of a day of trades to its bars of every timeframe."""
    generator = np.random.default_rng(7)
    times = np.sort(generator.integers(0, 86_400_000, trades)) + 1_767_225_600_000
    prices = np.round(60_000 + np.cumsum(generator.normal(0, 0.5, trades)), 1)
    with tempfile.TemporaryDirectory(prefix="perpflow-bench-") as folder:
        path = Path(folder) / "trades.parquet"
        columns = {
            "time": pa.array(times).cast(pa.timestamp("ms", "UTC")),
            "price": prices,
            "qty": np.round(generator.exponential(0.05, trades) + 0.001, 3),
            "is_buyer_maker": generator.random(trades) < 0.5,
            "id": np.arange(trades),
        }
        pq.write_table(pa.table(columns), path, compression="zstd")
        started = time.process_time()
        bars = list(bars_of_trades(path, "BTCUSDT.BINANCE", list(TIMEFRAMES)))
        used = time.process_time() - started
    assert sum(bar.timeframe == "1m" for bar in bars) == 1438
    return used


def main() -> int:
    """Print the table; the answer is 1 where a floor is not reached."""
    events = load_events(sys.argv[1] if len(sys.argv) > 1 else "")
    play(events[:1000])
    rates = {"bars, events/s": rate(len(events), lambda: play(events))}
    for kind in (Trade, BestQuote, DepthDelta):
        some = [event for event in events if isinstance(event, kind)]
        if some:
            rates[f"bars, {kind.__name__} alone, events/s"] = rate(len(some), lambda some=some: play(some))
    market = SimulatedMarket(7)
    started = time.perf_counter()
    minutes = [market.next_minute() for _ in range(MINUTES)]
    rates["simulated market, rows/s"] = sum(len(minute.rows) for minute in minutes) / (time.perf_counter() - started)
    lines = [line for minute in minutes[:10] for line in format_lines(minute)]
    rates["simulated market, lines/s"] = rate(len(lines), lambda: [format_lines(minute) for minute in minutes[:10]])
    rates["reading capture lines, lines/s"] = rate(len(lines), lambda: read_lines(lines))
    size = len(play(events).snapshot())
    for name, value in rates.items():
        floor = FLOORS.get(name)
        print(f"{name:<44}{value:>14,.0f}" + (f"   floor {floor:,.0f}" if floor else ""))
    print(f"{'bars, snapshot in bytes':<44}{size:>14,}")
    day_s = measure_day()
    print(f"{'a day of 2,000,000 trades to bars, CPU s':<44}{day_s:>14.2f}   at most {DAY_AT_MOST_S:.0f}")
    return 1 if any(rates[name] < floor for name, floor in FLOORS.items()) or day_s > DAY_AT_MOST_S else 0


if __name__ == "__main__":
    raise SystemExit(main())
