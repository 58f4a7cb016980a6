"""Follows two venues and ten symbols at once, in real time, and says what that took: `make two-venues`.

The frames are those of the recorded capture of BTCUSDT (65,000 best quotes in six minutes), or of the simulated market
where there is no capture, played under each symbol from another minute on, in Binance's words and in Bybit's. Ingestion
and bars run as processes of their own on a SQLite log. It fails where a bar is not that of its trades, a gap is not
filled, or a frame was quarantined.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from libs.bus.api import Bus, TopicPartition
from libs.bus.open import open_bus
from libs.domain.bars import Bar, BarRevision
from libs.domain.market import ClockTick, Gap, GapState
from libs.runtime.placement import ONE_PARTITION
from libs.runtime.records import read_topic
from libs.wire import decode_any
from libs.wire.topics import BARS_CLOSED, BARS_REVISED, MARKET_EVENTS, dead_topic
from tests.kit.fake_venues import FakeVenues, serve_venues
from tests.kit.platform import ROOT, SHARED
from tests.kit.played_market import MINUTE_MS, MarketRecording, PlayedMarket, find_wrong_bars, recorded_market
from tests.kit.played_market import simulated_market as simulated_recording
from tests.kit.waiting import eventually

CAPTURE = SHARED / "data" / "market" / "capture" / "binance_um_BTCUSDT_20240808.ns-jsonl.gz"
VENUES = ("BINANCE", "BYBIT")
SYMBOLS = ("BTCUSDT", "ETHUSDT", "XRPUSDT", "SOLUSDT", "DOGEUSDT")
_PUBLISH_EVERY_S = 0.01
_LOOK_EVERY_S = 5.0


class Process:
    """A service, and how much memory and processor time it took."""

    def __init__(self, service: str, folder: Path, settings: Mapping[str, str]) -> None:
        self.service = service
        self.log = folder / f"{service}.log"
        self.memory_mb: list[float] = []
        own = {name: value for name, value in os.environ.items() if not name.startswith("PERPFLOW_")}
        platform = {"PERPFLOW_BUS": f"sqlite:{folder / 'bus.db'}", "PERPFLOW_RUN_DIR": str(folder / "run")}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", f"services.{service}.main"],
                cwd=folder,
                stdout=log,
                stderr=log,
                env={**own, "PYTHONPATH": str(ROOT), **platform, **settings},
            )

    def look(self) -> None:
        """Note the memory; fails where the process has ended."""
        assert self.process.poll() is None, self.log.read_text()[-3000:]
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        self.memory_mb.append(int(status.partition("VmRSS:")[2].split()[0]) / 1024)

    def cpu_s(self) -> float:
        """Return the processor time."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it, if it has not ended."""
        self.process.terminate()
        self.process.wait(60)


def publish_in_real_time(venues: FakeVenues, stopping: threading.Event) -> None:
    """Let the markets' time pass as ours does."""
    while not stopping.is_set():
        venues.publish(time.time_ns() // 1_000_000)
        stopping.wait(_PUBLISH_EVERY_S)


def check(bus: Bus, venues: FakeVenues, end_ms: int) -> tuple[list[str], list[str]]:
    """Return lines that describe what came, and what is wrong with it."""
    events: Counter[str] = Counter()
    gaps: dict[str, Gap] = {}
    lags_ms: list[int] = []
    for record in read_topic(bus, MARKET_EVENTS):
        event = decode_any(MARKET_EVENTS, record.value)
        events[event.instrument] += 1
        if isinstance(event, Gap):
            gaps[event.gap_id] = event
        elif not isinstance(event, ClockTick) and len(events) == len(venues.markets):
            lags_ms.append(record.append_time_ms - event.event_time // 1_000_000)
    bars: dict[str, list[Bar | BarRevision]] = {}
    for topic in (BARS_CLOSED, BARS_REVISED):
        for record in read_topic(bus, topic):
            bar = decode_any(topic, record.value)
            bars.setdefault(bar.instrument, []).append(bar)
    dead = sum(
        bus.end_offsets([TopicPartition(dead_topic(topic), 0) for topic in (MARKET_EVENTS, BARS_CLOSED)]).values()
    )
    wrong = [f"{dead} dead letters"] if dead else []
    open_gaps = [gap for gap in gaps.values() if gap.state in (GapState.OPEN, GapState.LOST)]
    wrong += [f"{gap.gap_id} is {gap.state.name}: {gap.reason}" for gap in open_gaps]
    lines = ["| instrument | events | bars of 1m | equal to its trades | gaps filled |", "|---|---:|---:|---:|---:|"]
    for market in venues.markets.values():
        own = bars.get(market.instrument, [])
        found = find_wrong_bars(market, own, end_ms)
        wrong += found
        minutes = len({bar.open_time for bar in own if bar.timeframe == "1m"})
        filled = sum(gap.instrument == market.instrument for gap in gaps.values())
        equal = "yes" if not found else f"{len(found)} differences"
        lines.append(f"| {market.instrument} | {events[market.instrument]:,} | {minutes} | {equal} | {filled} |")
    lags_ms.sort()
    at = {share: lags_ms[int(len(lags_ms) * share)] for share in (0.5, 0.99, 0.999)}
    told = ", ".join(f"p{100 * share:g} {value} ms" for share, value in at.items())
    lines.append(f"from the venue's time to the log: {told}, at most {lags_ms[-1]} ms ({len(lags_ms):,} events)")
    return lines, wrong


def run(minutes: int, recording: MarketRecording, folder: Path) -> list[str]:
    """Follow the markets, print what came; return what is wrong."""
    names = [f"{symbol}.{venue}" for venue in VENUES for symbol in SYMBOLS]
    # The markets were there before: what happened since goes out as history.
    start_ms = (time.time_ns() // 1_000_000 // MINUTE_MS - 2) * MINUTE_MS
    markets = [PlayedMarket(name, recording, start_ms, number) for number, name in enumerate(names)]
    stopping = threading.Event()
    with ExitStack() as stack:
        venues = stack.enter_context(serve_venues(markets))
        venues.publish(time.time_ns() // 1_000_000)
        player = threading.Thread(target=publish_in_real_time, args=(venues, stopping))
        player.start()
        stack.callback(player.join)
        stack.callback(stopping.set)
        bus = stack.enter_context(open_bus(f"sqlite:{folder / 'bus.db'}"))
        bus.create_topics(ONE_PARTITION.topics())
        settings = {
            "PERPFLOW_INGESTION_MARKET": "live",
            "PERPFLOW_INGESTION_INSTRUMENTS": json.dumps(names),
            "PERPFLOW_INGESTION_REST_URLS": json.dumps(dict.fromkeys(VENUES, venues.rest_url)),
            "PERPFLOW_INGESTION_STREAM_URLS": json.dumps(dict.fromkeys(VENUES, venues.stream_url)),
        }
        processes = [Process(service, folder, settings) for service in ("ingestion", "bars")]
        for process in processes:
            stack.callback(process.stop)

        def look() -> None:
            for process in processes:
                process.look()

        eventually(lambda: venues.connections >= 15, step=look, within_s=120)
        begun_s, cpu_s, sent = time.monotonic(), [process.cpu_s() for process in processes], venues.sent
        first_ms = (time.time_ns() // 1_000_000 // MINUTE_MS + 1) * MINUTE_MS
        end_ms = first_ms + minutes * MINUTE_MS

        def are_there() -> bool:
            # One minute more than is compared: by then what came late to the last of those has been added to it.
            behind_ms = end_ms + MINUTE_MS
            if time.time_ns() // 1_000_000 < behind_ms:
                return False
            bars = (decode_any(BARS_CLOSED, record.value) for record in read_topic(bus, BARS_CLOSED))
            last = {bar.instrument for bar in bars if bar.timeframe == "1m" and bar.close_time == behind_ms * 1_000_000}
            return len(last) == len(names)

        eventually(are_there, every_s=_LOOK_EVERY_S, step=look, within_s=minutes * 60 + 300)
        wall_s, sent = time.monotonic() - begun_s, venues.sent - sent
        used = [process.cpu_s() - before for process, before in zip(processes, cpu_s, strict=True)]
        for process in processes:
            process.stop()
        stopping.set()
        player.join()
        lines, wrong = check(bus, venues, end_ms)
    print("\n".join(lines))
    print(f"{sent:,} frames in {wall_s:.0f} s, {sent / wall_s:,.0f} a second")
    for process, spent_s in zip(processes, used, strict=True):
        early, late = process.memory_mb[len(process.memory_mb) // 4], process.memory_mb[-1]
        print(
            f"{process.service}: {spent_s:.0f} CPU-s, memory {early:.0f} MiB after a quarter, {late:.0f} at the end, "
            f"{max(process.memory_mb):.0f} at most"
        )
    return wrong


def main() -> int:
    """Run it; the answer is 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=10)
    options = parser.parse_args()
    is_recorded = CAPTURE.exists()
    print(f"frames of {CAPTURE.name if is_recorded else 'the simulated market, seed 7'}, {options.minutes} minutes")
    recording = recorded_market(CAPTURE) if is_recorded else simulated_recording(7, 5)
    with tempfile.TemporaryDirectory(prefix="perpflow-venues-") as folder:
        wrong = run(options.minutes, recording, Path(folder))
    for each in wrong:
        sys.stderr.write(f"{each}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
