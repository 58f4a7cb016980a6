"""From a market event's publication to the order's command, by way of a forecast: fused and spread, with the real cores
and with empty ones.

`python -m tests.benchmarks.latency [sqlite|kafka] [--seconds N] [--speed N]` prints two tables for each bus: the whole
way, p50 and p99, beside its floor, and where the time of those transactions goes that lie on the way. The floor is the
same records through the same shells: an empty core answers an event with what the real one answered, looked up. The
simulated market is thinned, so that at speed 100 it brings some 400 events a second, as busy a flow as a recorded one
of BTCUSDT, and a bar every 0.6 s. Quiet machines only: it says the load.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import tempfile
import threading
import time
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from libs.bus.api import NO_FOOTPRINT, Bus, Footprint, NewRecord, Producer, Record, TopicPartition
from libs.bus.open import open_bus
from libs.clock import SystemClock
from libs.domain.events import DeadInput, Event
from libs.domain.market import BestQuote, MarketEvent, Trade
from libs.runtime.chain import ChainedCore, ChainShell
from libs.runtime.lag import read_lags
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import ONE_PARTITION, Task
from libs.runtime.records import commit_records, read_stamps, read_topic, stamped_record
from libs.runtime.shell import CoreShell
from libs.wire import decode_any, encode
from libs.wire.topics import BARS_CLOSED, COMMANDS, CORE_SERVICES, FEATURE_VECTORS, FORECASTS, INTENTS, VERDICTS
from services.backtest.inputs import open_simulation
from services.backtest.pipeline import Pipeline, Stage
from services.chain.building import SERVICES, build_cores
from tests.kit.kafka import LONG_LIFE, NoKafka, find_kafka

STRATEGY = '[{"path": "tests.benchmarks.latency:EveryForecast"}]'
PARTS = ("wake-up", "poll", "decode", "handle", "encode", "commit")
# What a transaction on the way from a market event to the order's command publishes.
WAY = frozenset({BARS_CLOSED, FEATURE_VECTORS, FORECASTS, INTENTS, VERDICTS, COMMANDS})
_SPAWN = multiprocessing.get_context("spawn")
_LEFT_OUT = 5
# Of the events that come several times a second, one in so many is kept.
_THINNED = 8


class EveryForecast:
    """Wants the other side at every forecast, so that each minute of the market leads to an order."""

    name = "every_forecast"

    def __init__(self) -> None:
        self._side = 1

    def on_forecast(self, forecast: Any, _view: Any) -> list[Any]:
        """Turn around."""
        from decimal import Decimal

        from services.strategy import TargetPosition

        self._side = -self._side
        return [TargetPosition(forecast.instrument, Decimal(400) * self._side, "every forecast")]

    def snapshot(self) -> dict[str, Any]:
        """Return the side."""
        return {"side": self._side}

    def restore(self, state: dict[str, Any]) -> None:
        """Take the side."""
        self._side = state["side"]


class EmptyCore:
    """Answers an event as the real core did, without working it out."""

    def __init__(self, answers: Mapping[str, Sequence[Event]]) -> None:
        self._answers = answers

    def handle(self, event: Event) -> Sequence[Event]:
        """Look the answer up."""
        return self._answers.get(event.event_id, ())

    def snapshot(self) -> bytes:
        """There is nothing to keep."""
        return b""

    def restore(self, state: bytes) -> None:
        """There is nothing to take."""


class Stopwatch:
    """Times the transactions of a process in their parts, in s; keeps those that lie on the way to an order.

    The wake-up is counted from the making of the record that was polled last, so the commit of who made it is in it.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []
        self._parts = dict.fromkeys(PARTS, 0.0)
        self._at = 0.0
        self._is_on_way = False

    def add(self, part: str, begun: float) -> None:
        """Add the time since `begun` to a part."""
        self._parts[part] += time.perf_counter() - begun

    def note_poll(self, begun: float, made_at_ns: int | None) -> None:
        """Begin a transaction with a poll that found something."""
        self._parts = dict.fromkeys(PARTS, 0.0)
        self._at = time.perf_counter()
        self._parts["poll"] = self._at - begun
        if made_at_ns is not None:
            self._parts["wake-up"] = max(0.0, (time.time_ns() - made_at_ns) / 1e9 - self._parts["poll"])
        self._is_on_way = False

    def note_begin(self) -> None:
        """The outputs are made."""
        now = time.perf_counter()
        self._parts["encode"] = max(0.0, now - self._at - self._parts["decode"] - self._parts["handle"])
        self._at = now

    def note_sent(self, topics: Iterable[str]) -> None:
        """Note what is published."""
        self._is_on_way = self._is_on_way or not WAY.isdisjoint(topics)

    def note_commit(self) -> None:
        """End the transaction."""
        self.add("commit", self._at)
        if self._is_on_way:
            self.rows.append(tuple(self._parts[part] for part in PARTS))
        self._is_on_way = False


class TimedCore:
    """A core whose time is kept."""

    def __init__(self, core: Any, stopwatch: Stopwatch) -> None:
        self._core = core
        self._stopwatch = stopwatch

    def handle(self, event: Event) -> Sequence[Event]:
        """Handle and count."""
        begun = time.perf_counter()
        made: Sequence[Event] = self._core.handle(event)
        self._stopwatch.add("handle", begun)
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


class TimedBus:
    """A bus whose polls and commits are timed. A poll that waited counts as a wake-up up to its last look."""

    def __init__(self, bus: Bus, stopwatch: Stopwatch) -> None:
        self._bus = bus
        self._stopwatch = stopwatch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def consumer(self, *arguments: Any, **named: Any) -> Any:
        """Open a consumer whose polls are timed."""
        consumer = self._bus.consumer(*arguments, **named)
        poll, stopwatch = consumer.poll, self._stopwatch

        def timed_poll(max_records: int, timeout_ms: int) -> Sequence[Record]:
            begun = time.perf_counter()
            records = poll(max_records, 0)
            if not records:
                records = poll(max_records, timeout_ms)
                begun = time.perf_counter()
            if records:
                stamps = read_stamps(records[-1].headers)
                stopwatch.note_poll(begun, None if stamps is None else stamps.made_at)
            return records

        consumer.poll = timed_poll  # type: ignore[method-assign]
        return consumer

    def producer(self, transactional_id: str, footprint: Footprint = NO_FOOTPRINT, /) -> Producer:
        """Open a producer whose transactions are timed."""
        producer = self._bus.producer(transactional_id, footprint)
        begin, send, commit, stopwatch = producer.begin, producer.send, producer.commit, self._stopwatch

        def timed_begin() -> None:
            stopwatch.note_begin()
            begin()

        def timed_send(records: Sequence[NewRecord]) -> None:
            stopwatch.note_sent(record.topic for record in records)
            send(records)

        def timed_commit() -> None:
            commit()
            stopwatch.note_commit()

        producer.begin, producer.send, producer.commit = timed_begin, timed_send, timed_commit  # type: ignore[method-assign,assignment]
        return producer


def make_market(seconds: int, speed: int) -> list[MarketEvent]:
    """Return the market events of so many seconds at a speed: one in `_THINNED` of the trades and quotes."""
    minutes = -(-seconds * speed // 60)
    events = open_simulation(7, minutes=minutes, history_bars=60).events
    return [
        event
        for number, event in enumerate(events)
        if not isinstance(event, DeadInput) and (not isinstance(event, Trade | BestQuote) or number % _THINNED == 0)
    ]


def record_answers(events: Sequence[MarketEvent]) -> dict[str, dict[str, list[Event]]]:
    """Return what each real core answers each event, by service and event id."""
    answers: dict[str, dict[str, list[Event]]] = {name: {} for name in SERVICES}

    class Recorded:
        def __init__(self, service: str, core: Any) -> None:
            self._service, self._core = service, core

        def handle(self, event: Event) -> Sequence[Event]:
            made: Sequence[Event] = self._core.handle(event)
            if made:
                answers[self._service][event.event_id] = list(made)
            return made

        def snapshot(self) -> bytes:
            return b""

        def restore(self, state: bytes) -> None:
            del state

    cores = build_cores(ONE_PARTITION, ONE_PARTITION.chain_tasks())
    stages = [Stage(each.task.service, Recorded(each.task.service, each.core), each.inputs) for each in cores]
    pipeline = Pipeline(stages, lambda _: None)
    for event in events:
        pipeline.feed(event)
    return answers


def run_cores(
    address: str, prefix: str, services: Sequence[str], answers: Path | None, stop: Any, ready: Any, results: Any
) -> None:
    """Run services in this process, fused where several, until asked to stop; hand over where the time went."""
    stopwatch = Stopwatch()
    table = None if answers is None else pickle.loads(answers.read_bytes())

    def timed_decode(topic: str, value: bytes) -> Any:
        begun = time.perf_counter()
        event = decode_any(topic, value)
        stopwatch.add("decode", begun)
        return event

    name = "chain" if len(services) > 1 else services[0]
    with open_bus(address, prefix=prefix) as bus:
        timed: Any = TimedBus(bus, stopwatch)
        cores = [
            ChainedCore(
                each.task,
                TimedCore(each.core if table is None else EmptyCore(table[each.task.service]), stopwatch),
                each.inputs,
            )
            for each in build_cores(ONE_PARTITION, [Task(service) for service in services])
        ]
        metrics = ServiceMetrics(name)
        logger = configure_logging(name, level="error")
        shell: CoreShell | ChainShell
        if len(services) > 1:
            shell = ChainShell(
                name,
                cores,
                timed,
                metrics,
                logger,
                clock=SystemClock(),
                choose=ONE_PARTITION.choose,
                decode=timed_decode,
            )
        else:
            (only,) = cores
            shell = CoreShell(
                name, only.core, only.inputs, timed, metrics, logger, clock=SystemClock(), decode=timed_decode
            )
        shell.open()
        ready.release()
        begun = time.process_time()
        while not stop.is_set():
            shell.step(50)
        results.put((name, time.process_time() - begun, stopwatch.rows))
        shell.release()


def publish(address: str, prefix: str, events: Sequence[MarketEvent], speed: int) -> None:
    """Publish events at their own pace as ingestion does, those that are due in one transaction; history at once."""
    pause = threading.Event()
    with open_bus(address, prefix=prefix) as bus:
        producer = bus.producer("ingestion")
        first = next(event.received_time for event in events if not getattr(event, "is_history", False))
        dues = [(event.received_time - first) / 1e9 / speed for event in events]
        begun, at = time.perf_counter(), 0
        while at < len(events):
            wait = begun + dues[at] - time.perf_counter()
            if wait > 0:
                pause.wait(wait)
            until = bisect_right(dues, time.perf_counter() - begun, at)
            now = time.time_ns()
            commit_records(producer, [stamped_record(encode(event), "ingestion", now) for event in events[at:until]])
            at = until
        producer.close()


class Measured:
    """What one run came to: ms from market to command, and by process its processor time and the parts of its
    transactions on the way."""

    def __init__(self, delays: Sequence[float], results: Mapping[str, tuple[float, Sequence[Sequence[float]]]]) -> None:
        warm = np.asarray(delays[_LEFT_OUT:] or [float("nan")])
        self.p50, self.p99 = (float(np.percentile(warm, share)) for share in (50, 99))
        self.orders = len(delays)
        self.cpu_s = sum(cpu_s for cpu_s, _ in results.values())
        self.parts = {
            name: np.asarray(rows[_LEFT_OUT:] or [[float("nan")] * len(PARTS)]) * 1e6
            for name, (_, rows) in results.items()
        }

    @property
    def cores_ms(self) -> float:
        """The time that the cores took on the way, p50 of each process."""
        return sum(float(np.median(parts[:, PARTS.index("handle")])) for parts in self.parts.values()) / 1e3


def measure(address: str, layout: str, events: Sequence[MarketEvent], answers: Path | None, speed: int) -> Measured:
    """Run the market through a layout, with empty cores where there are `answers`."""
    prefix = f"bench-{time.time_ns()}."
    groups = [tuple(CORE_SERVICES)] if layout == "fused" else [(name,) for name in CORE_SERVICES]
    stop, ready, results = _SPAWN.Event(), _SPAWN.Semaphore(0), _SPAWN.Queue()
    with open_bus(address, prefix=prefix) as bus:
        bus.create_topics(ONE_PARTITION.topics())
        processes = [
            _SPAWN.Process(target=run_cores, args=(address, prefix, group, answers, stop, ready, results), daemon=True)
            for group in groups
        ]
        for process in processes:
            process.start()
        for _ in processes:
            if not ready.acquire(timeout=180):
                raise SystemExit("a process was not ready after 180 s")
        publish(address, prefix, events, speed)
        until = time.monotonic() + 60
        while any(read_lags(bus, CORE_SERVICES).values()):
            if time.monotonic() > until:
                raise SystemExit(f"{layout} did not keep up with {len(events)} events at speed {speed}")
            threading.Event().wait(0.2)
        stop.set()
        found = {name: (cpu_s, rows) for name, cpu_s, rows in (results.get(timeout=60) for _ in processes)}
        for process in processes:
            process.join(30)
        delays = []
        for record in read_topic(bus, COMMANDS):
            stamps = read_stamps(record.headers)
            assert stamps is not None
            delays.append((stamps.made_at - stamps.origin_made_at) / 1e6)
        count_events(bus, len(events))
    return Measured(delays, found)


def count_events(bus: Bus, wanted: int) -> None:
    """Demand that all of the market was there."""
    at = TopicPartition("market.events.v1", 0)
    assert bus.end_offsets([at])[at] >= wanted


def print_tables(kind: str, runs: Mapping[tuple[str, str], Measured], events: int) -> None:
    """Print the whole way beside its floor, then the parts of the transactions on it."""
    print(
        f"\n{kind:<8}{'cores':<7}{'orders':>7}{'p50 ms':>8}{'p99 ms':>8}{'CPU µs/event':>14}{'cores ms':>10}"
        "  p50 to floor and cores"
    )
    for layout in ("fused", "spread"):
        floor = runs[layout, "empty"]
        for cores in ("empty", "real"):
            run = runs[layout, cores]
            ratio = "(floor)" if cores == "empty" else f"{run.p50 / (floor.p50 + run.cores_ms - floor.cores_ms):.2f}"
            print(
                f"{layout:<8}{cores:<7}{run.orders:>7}{run.p50:>8.2f}{run.p99:>8.2f}{run.cpu_s / events * 1e6:>14.0f}"
                f"{run.cores_ms:>10.2f}  {ratio}"
            )
    print(f"\n{'p50/p99 µs':<17}" + "".join(f"{part:>14}" for part in PARTS) + f"{'number':>8}")
    for (layout, cores), run in runs.items():
        ordered = sorted(run.parts, key=lambda name: CORE_SERVICES.index(name) if name in CORE_SERVICES else 0)
        for name in ordered if cores == "real" else ():
            cells = (f"{np.median(each):.0f}/{np.percentile(each, 99):.0f}" for each in run.parts[name].T)
            print(f"{layout} {name:<{16 - len(layout)}}" + "".join(f"{cell:>14}" for cell in cells), end="")
            print(f"{len(run.parts[name]):>8}")


def main() -> None:
    """Measure the buses that are asked for, both by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("buses", nargs="*", choices=["sqlite", "kafka", []], default=[])
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--speed", type=int, default=100)
    chosen = parser.parse_args()
    os.environ |= LONG_LIFE | {
        "PERPFLOW_STRATEGY_STRATEGIES": STRATEGY,
        # The model that ships.
        "PERPFLOW_INFERENCE_MARKET": "simulated",
        "PERPFLOW_RISK_MAX_CONSECUTIVE_LOSSES": "1000000",
        "PERPFLOW_RISK_MAX_INTENT_AGE_MS": "3600000",
        "PERPFLOW_RISK_MAX_MARKET_DATA_AGE_MS": "3600000",
        "PERPFLOW_RISK_MAX_VOLATILITY_RATIO": "1000",
        "OMP_NUM_THREADS": "1",
    }
    events = make_market(chosen.seconds, chosen.speed)
    load = os.getloadavg()[0]
    print(f"{len(events)} market events in {chosen.seconds} s; load {load:.1f} on {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory() as folder:
        answers = Path(folder) / "answers.pickle"
        answers.write_bytes(pickle.dumps(record_answers(events)))
        for kind in chosen.buses or ["sqlite", "kafka"]:
            try:
                runs = {}
                for layout in ("fused", "spread"):
                    for cores in ("empty", "real"):
                        path = Path(folder) / f"{layout}-{cores}.db"
                        address = f"sqlite:{path}" if kind == "sqlite" else f"kafka:{find_kafka().address}"
                        table = answers if cores == "empty" else None
                        runs[layout, cores] = measure(address, layout, events, table, chosen.speed)
            except NoKafka as reason:
                print(f"{kind}: not measured: {reason}")
                continue
            print_tables(kind, runs, len(events))
            print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
