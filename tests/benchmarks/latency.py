"""From a market event's publication to the order's command: fused and spread, with the real cores and with empty ones.

`python -m tests.benchmarks.latency [sqlite|kafka] [--seconds N] [--speed N]` prints two tables for each bus: the whole
way, p50 and p99, beside its floor, and where a transaction's time goes. The floor is the same records through the same
shells: an empty core answers an event with what the real one answered, looked up. At speed 40 the simulated market
brings some 500 events a second, as busy a flow as a recorded one of BTCUSDT. Quiet machines only: it says the load.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import pickle
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from libs.bus.api import Bus, Producer, Record, TopicPartition
from libs.bus.open import open_bus
from libs.clock import SystemClock
from libs.domain.events import DeadInput, Event
from libs.domain.market import MarketEvent
from libs.runtime.chain import ChainedCore, ChainShell
from libs.runtime.lag import read_lags
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import ONE_PARTITION, Task
from libs.runtime.records import commit_records, read_stamps, read_topic, stamped_record
from libs.runtime.shell import CoreShell
from libs.wire import decode_any, encode
from libs.wire.topics import COMMANDS, CORE_SERVICES
from services.backtest.inputs import open_simulation
from services.backtest.pipeline import Pipeline, Stage
from services.chain.building import SERVICES, build_cores
from tests.kit.kafka import NoKafka, find_kafka

STRATEGY = '[{"path": "tests.benchmarks.latency:EveryBar"}]'
PARTS = ("wake-up", "poll", "decode", "handle", "encode", "commit")
_SPAWN = multiprocessing.get_context("spawn")
_LEFT_OUT = 10


class EveryBar:
    """Wants the other side at every bar, so that each minute of the market leads to an order."""

    name = "every_bar"

    def __init__(self) -> None:
        self._side = 1

    def on_bar(self, bar: Any, _view: Any) -> list[Any]:
        """Turn around."""
        from decimal import Decimal

        from services.strategy import TargetPosition

        if bar.timeframe != "1m" or bar.is_history:
            return []
        self._side = -self._side
        return [TargetPosition(bar.instrument, Decimal(400) * self._side, "every bar")]

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


class TimedCore:
    """A core whose time is kept."""

    def __init__(self, core: Any, spent: Counter[str]) -> None:
        self._core = core
        self._spent = spent

    def handle(self, event: Event) -> Sequence[Event]:
        """Handle and count."""
        begun = time.perf_counter()
        made: Sequence[Event] = self._core.handle(event)
        self._spent["handle"] += time.perf_counter() - begun  # type: ignore[assignment]
        return made

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


class TimedBus:
    """A bus whose polls and commits are timed; a poll that waited counts from its wake-up, which is not known, so it is
    left out of `poll` and shows in `wake-up`: from a record's making to its poll."""

    def __init__(self, bus: Bus, spent: Counter[str]) -> None:
        self._bus = bus
        self._spent = spent

    def __getattr__(self, name: str) -> Any:
        return getattr(self._bus, name)

    def consumer(self, *arguments: Any, **named: Any) -> Any:
        """Open a consumer whose polls are timed."""
        consumer = self._bus.consumer(*arguments, **named)
        poll, spent = consumer.poll, self._spent

        def timed_poll(max_records: int, timeout_ms: int) -> Sequence[Record]:
            begun = time.perf_counter()
            records = poll(max_records, 0)
            if records:
                spent["poll"] += time.perf_counter() - begun  # type: ignore[assignment]
            else:
                records = poll(max_records, timeout_ms)
            if records:
                stamps = read_stamps(records[-1].headers)
                if stamps is not None:
                    spent["wake-up"] += (time.time_ns() - stamps.made_at) / 1e9  # type: ignore[assignment]
            return records

        with suppress(AttributeError):
            consumer.poll = timed_poll  # type: ignore[method-assign]
        return consumer

    def producer(self, transactional_id: str) -> Producer:
        """Open a producer whose transactions are timed."""
        producer = self._bus.producer(transactional_id)
        begin, commit, spent = producer.begin, producer.commit, self._spent

        def timed_begin() -> None:
            spent["begun"] = time.perf_counter()  # type: ignore[assignment]
            begin()

        def timed_commit() -> None:
            commit()
            spent["commit"] += time.perf_counter() - spent["begun"]  # type: ignore[assignment]
            spent["transactions"] += 1

        producer.begin, producer.commit = timed_begin, timed_commit  # type: ignore[method-assign]
        return producer


def make_market(seconds: int, speed: int) -> list[MarketEvent]:
    """Return the market events of so many seconds at a speed."""
    minutes = -(-seconds * speed // 60)
    events = open_simulation(7, minutes=minutes, history_bars=60).events
    return [event for event in events if not isinstance(event, DeadInput)]


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
    address: str, prefix: str, services: Sequence[str], answers: Path | None, stop: Any, ready: Any, told: Any
) -> None:
    """Run services in this process, fused where they are several, until told to stop; tell what the time went into."""
    spent: Counter[str] = Counter()
    table = None if answers is None else pickle.loads(answers.read_bytes())

    def timed_decode(topic: str, value: bytes) -> Any:
        begun = time.perf_counter()
        event = decode_any(topic, value)
        spent["decode"] += time.perf_counter() - begun  # type: ignore[assignment]
        return event

    with open_bus(address, prefix=prefix) as bus:
        timed = TimedBus(bus, spent)
        built = build_cores(ONE_PARTITION, [Task(name) for name in services])
        cores = [
            ChainedCore(each.task, TimedCore(core, spent), each.inputs)
            for each in built
            for core in [each.core if table is None else EmptyCore(table[each.task.service])]
        ]
        metrics = ServiceMetrics(services[0])
        logger = configure_logging(services[0], level="error")
        shell: CoreShell | ChainShell
        if len(services) > 1:
            shell = ChainShell(
                "chain",
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
                services[0],
                only.core,
                only.inputs,
                timed,
                metrics,
                logger,
                clock=SystemClock(),
                decode=timed_decode,
            )
        shell.open()
        ready.release()
        spent.clear()
        begun = time.process_time()
        while not stop.is_set():
            shell.step(50)
        cpu_s = time.process_time() - begun
        whole = metrics.registry.get_sample_value(
            "perpflow_handle_seconds_sum", {"service": "chain" if len(services) > 1 else services[0]}
        )
        spent["encode"] = (whole or 0.0) - spent["decode"] - spent["handle"]  # type: ignore[assignment]
        told.put(("chain" if len(services) > 1 else services[0], cpu_s, dict(spent)))
        shell.release()


def publish(address: str, prefix: str, events: Sequence[MarketEvent], speed: int) -> None:
    """Publish events at their own pace, each in a transaction of its own; history at once."""
    pause = threading.Event()
    with open_bus(address, prefix=prefix) as bus:
        producer = bus.producer("ingestion")
        first = next(event.received_time for event in events if not getattr(event, "is_history", False))
        begun = time.perf_counter()
        for event in events:
            wait = begun + (event.received_time - first) / 1e9 / speed - time.perf_counter()
            if wait > 0:
                pause.wait(wait)
            commit_records(producer, [stamped_record(encode(event), "ingestion", time.time_ns())])
        producer.close()


class Measured:
    """What one run came to."""

    def __init__(self, delays: Sequence[float], told: Mapping[str, tuple[float, Mapping[str, float]]]) -> None:
        warm = np.asarray(sorted(delays[_LEFT_OUT:]) or [float("nan")])
        self.p50, self.p99 = (float(np.percentile(warm, share)) for share in (50, 99))
        self.orders = len(delays)
        self.told = told
        self.cpu_s = sum(cpu_s for cpu_s, _ in told.values())
        self.handle_s = sum(spent.get("handle", 0.0) for _, spent in told.values())


def measure(address: str, layout: str, events: Sequence[MarketEvent], answers: Path | None, speed: int) -> Measured:
    """Run the market through a layout, with empty cores where there are `answers`."""
    prefix = f"bench-{time.time_ns()}."
    groups = [tuple(CORE_SERVICES)] if layout == "fused" else [(name,) for name in CORE_SERVICES]
    stop, ready, told = _SPAWN.Event(), _SPAWN.Semaphore(0), _SPAWN.Queue()
    with open_bus(address, prefix=prefix) as bus:
        bus.create_topics(ONE_PARTITION.topics())
        processes = [
            _SPAWN.Process(target=run_cores, args=(address, prefix, group, answers, stop, ready, told), daemon=True)
            for group in groups
        ]
        for process in processes:
            process.start()
        for _ in processes:
            if not ready.acquire(timeout=180):
                raise SystemExit("a process was not ready after 180 s")
        publish(address, prefix, events, speed)
        until = time.monotonic() + 120
        while any(read_lags(bus, CORE_SERVICES).values()) and time.monotonic() < until:
            threading.Event().wait(0.2)
        stop.set()
        found = {name: (cpu_s, spent) for name, cpu_s, spent in (told.get(timeout=60) for _ in processes)}
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
    """Print the whole way beside its floor, then the parts of a transaction."""
    print(
        f"\n{kind:<8}{'cores':<8}{'orders':>7}{'p50 ms':>9}{'p99 ms':>9}{'CPU µs/event':>14}"
        f"{'of it cores':>13}  p50 to floor"
    )
    for layout in ("fused", "spread"):
        floor = runs[layout, "empty"]
        for cores in ("empty", "real"):
            run = runs[layout, cores]
            work = f"{run.p50 / floor.p50:.2f}" if cores == "real" else "(floor)"
            print(
                f"{layout:<8}{cores:<8}{run.orders:>7}{run.p50:>9.2f}{run.p99:>9.2f}{run.cpu_s / events * 1e6:>14.0f}"
                f"{run.handle_s / events * 1e6:>13.0f}  {work}"
            )
    print(f"\n{'µs per transaction':<20}" + "".join(f"{part:>10}" for part in PARTS) + f"{'number':>10}")
    for layout in ("fused", "spread"):
        for name, (_, spent) in runs[layout, "real"].told.items():
            count = max(1.0, spent.get("transactions", 0))
            print(
                f"{layout} {name:<{19 - len(layout)}}"
                + "".join(f"{spent.get(part, 0.0) / count * 1e6:>10.0f}" for part in PARTS)
                + f"{count:>10.0f}"
            )


def main() -> None:
    """Measure the buses that are asked for, both by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("buses", nargs="*", choices=["sqlite", "kafka", []], default=[])
    parser.add_argument("--seconds", type=int, default=90)
    parser.add_argument("--speed", type=int, default=40)
    chosen = parser.parse_args()
    os.environ |= {
        "PERPFLOW_STRATEGY_STRATEGIES": STRATEGY,
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
                addresses: dict[tuple[str, str], str] = defaultdict(lambda: f"kafka:{find_kafka().address}")
                runs = {}
                for layout in ("fused", "spread"):
                    for cores in ("empty", "real"):
                        path = Path(folder) / f"{layout}-{cores}.db"
                        address = f"sqlite:{path}" if kind == "sqlite" else addresses[layout, cores]
                        table = answers if cores == "empty" else None
                        runs[layout, cores] = measure(address, layout, events, table, chosen.speed)
            except NoKafka as reason:
                print(f"{kind}: not measured: {reason}")
                continue
            print_tables(kind, runs, len(events))
            print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
