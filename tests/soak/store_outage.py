"""Takes ClickHouse away from what is recorded, and counts: `make store-outage`, `make store-outage OUTAGE="--hour"`.

Without `--hour` a session trades while ClickHouse is gone for 62 s, and meanwhile every process is killed with
-9, one after the other; topics and tables must hold the same records. With `--hour` market time is faked: the recorder
meets an hour of events without ClickHouse, then catches up with it; its memory must stay flat.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import structlog

from libs.bus.api import NewRecord, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from libs.clock import Deadline, SimulatedClock
from libs.runtime.metrics import ServiceMetrics
from libs.store import Store, StoreUnavailable
from libs.store.batches import Batch, build_batch
from libs.wire import encode
from libs.wire.topics import MARKET_EVENTS
from services.recorder.loop import RecorderLoop
from services.recorder.settings import RecorderSettings
from tests.contract.store.local_server import VARIABLES, LocalServer
from tests.kit.builders import a_quote, a_trade
from tests.kit.platform import Platform, trading_platform
from tests.soak.run import KILLED

_HOUR_S = 3600


def kill_each(platform: Platform, ended: threading.Event) -> Counter[str]:
    """Kill every process of the session once, each when all are running again."""
    killed: Counter[str] = Counter()
    for name in KILLED:
        pid = None
        for _ in Deadline(60.0).attempts(0.1):
            states = platform.status()
            is_whole = bool(states) and all(each["state"] in ("running", "finished") for each in states.values())
            pid = states.get(name, {}).get("pid")
            if ended.is_set() or name not in states or is_whole:
                break
        if pid is not None and not ended.is_set():
            os.kill(pid, signal.SIGKILL)
            killed[name] += 1
            ended.wait(1.0)
    return killed


def trade_through_outage(folder: Path, outage_s: float) -> list[str]:
    """Run a session through an outage; return what is wrong with it."""
    server = LocalServer(folder / "server").start()
    port = server.port
    platform = trading_platform(folder, PERPFLOW_CLICKHOUSE=server.url, **VARIABLES)
    ended = threading.Event()
    facts: dict[str, Any] = {}

    def interfere() -> None:
        for _ in Deadline(300.0).attempts(0.2):
            states = platform.status()
            is_up = len(states) > 3 and all(each["state"] == "running" for each in states.values())
            if ended.is_set() or is_up:
                break
        ended.wait(15.0)
        server.kill()
        begun = time.monotonic()
        facts["kills"] = kill_each(platform, ended)
        ended.wait(max(0.0, outage_s - (time.monotonic() - begun)))
        server.start(port)
        facts["outage_s"] = round(time.monotonic() - begun, 1)

    interfering = threading.Thread(target=interfere)
    interfering.start()
    try:
        # Long enough that the session goes on after the outage: sessions of a slow machine are slower.
        market = ("--market", "simulated", "--seed", "7", "--speed", "20", "--span", "80m")
        outcome = platform.up(*market, "--layout", "spread", timeout_s=1500)
    finally:
        ended.set()
        interfering.join()
        server.close()
    topics, tables = outcome.summary.get("topics"), outcome.summary.get("tables")
    kills = facts.get("kills", Counter())
    print(f"without ClickHouse for {facts.get('outage_s')} s; kill -9: {dict(kills)}")
    print(f"exit {outcome.exit_code}, restarts {outcome.summary.get('restarts')}, fills {outcome.summary.get('fills')}")
    print(f"topics {topics}\ntables {tables}\ninvariants {outcome.summary.get('invariants')}")
    wrong = [] if outcome.exit_code == 0 else [f"the session ended with {outcome.exit_code}: {outcome.stderr[-2000:]}"]
    if not topics or topics != tables:
        wrong.append("topics and tables differ")
    if len(kills) < 8 or facts.get("outage_s", 0.0) < outage_s:
        wrong.append(f"killed {dict(kills)} during {facts.get('outage_s')} s: too little to tell anything")
    return wrong


class Switched:
    """A store that can be away."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.is_away = False

    def migrate(self) -> Sequence[int]:
        """Bring the tables up."""
        self._check()
        return self.store.migrate()

    def insert_batch(self, batch: Batch) -> int:
        """Write."""
        self._check()
        return self.store.insert_batch(batch)

    def _check(self) -> None:
        if self.is_away:
            raise StoreUnavailable("away")


def memory_mb() -> float:
    """Return what this process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def record_an_hour(folder: Path, rate: int) -> list[str]:
    """Record a faked hour without the store, then catch up; return what is wrong."""
    server = LocalServer(folder / "server").start()
    clock = SimulatedClock(0)
    where = TopicPartition(MARKET_EVENTS, 0)
    try:
        with server.store("session") as store, open_bus(f"sqlite:{folder / 'bus.db'}") as bus:
            bus.create_topics([TopicSpec(MARKET_EVENTS)])
            producer, switched = bus.producer("market"), Switched(store)
            loop = RecorderLoop(
                lambda: bus.consumer([MARKET_EVENTS], group="recorder", member_id="recorder-0"),
                switched,
                build_batch,
                RecorderSettings(),
                ServiceMetrics("recorder"),
                structlog.get_logger(),
                clock=clock,
            )
            loop.open()
            loop.flush()
            switched.is_away = True
            memory = [memory_mb()]
            for second in range(_HOUR_S):
                numbers = range(second * rate, (second + 1) * rate)
                events = [encode(a_trade(n, seconds=second) if n % 4 else a_quote(n)) for n in numbers]
                producer.begin()
                producer.send(NewRecord(each.topic, each.key, each.payload) for each in events)
                producer.commit()
                loop.step(0)
                clock.advance(1.0)
                if not (second + 1) % 600:
                    memory.append(memory_mb())
                    print(f"after {(second + 1) // 60} min: {memory[-1]:.0f} MiB", flush=True)
            end = bus.end_offsets([where])[where]
            lag = end - (bus.committed("recorder", [where])[where] or 0)
            switched.is_away = False
            clock.advance(60.0)
            begun, cpu = time.perf_counter(), time.process_time()
            while (bus.committed("recorder", [where])[where] or 0) < end:
                loop.step(0)
                clock.advance(1.0)
            took_s, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
            counted = store.count_rows()
            memory.append(memory_mb())
            loop.close()
    finally:
        server.close()
    print(f"an hour without ClickHouse: lag {lag:,} records of {end:,}; memory MiB {[round(each) for each in memory]}")
    print(f"caught up in {took_s:.1f} s ({end / took_s:,.0f} rows/s, {1e6 * cpu_s / end:.1f} us of CPU a row)")
    wrong = [] if counted == {MARKET_EVENTS: end} else [f"{counted} rows for {end} records"]
    if lag != end:
        wrong.append(f"the lag was {lag} where nothing was written of {end}")
    # The rows held are bounded, so from ten minutes on it does not grow.
    if max(memory[2:]) > memory[2] * 1.2:
        wrong.append(f"memory grew: {memory}")
    return wrong


def main() -> int:
    """Run one of them; the answer is 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--hour", action="store_true", help="an hour of faked market time, the recorder alone")
    parser.add_argument("--rate", type=int, default=300, help="events a second of the faked hour")
    parser.add_argument("--seconds", type=float, default=62.0, help="how long ClickHouse is away from a session")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="perpflow-outage-") as folder:
        path = Path(folder)
        wrong = record_an_hour(path, options.rate) if options.hour else trade_through_outage(path, options.seconds)
    for each in wrong:
        sys.stderr.write(f"{each}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
