"""Four hops through the shell, transactions, journal and all, each in a process of its own: market to verdict.

`python -m tests.benchmarks.shell [sqlite|kafka]` prints p50 and p99 from a trade's making to its verdict in the hands
of a reader. The floor beside it is one hop of the same shell.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from libs.bus.api import NewRecord, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from libs.clock import SystemClock
from libs.domain.events import Event
from libs.domain.orders import OrderRefused, verdict_id_of
from libs.runtime.handler import Input
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.records import read_stamps, stamp_headers
from libs.runtime.shell import CoreShell
from libs.wire import encode, topics
from tests.kit.builders import a_bar, a_forecast, a_trade, an_intent
from tests.kit.kafka import LONG_LIFE, NoKafka, find_kafka

HOPS = (
    ("bars", topics.MARKET_EVENTS, topics.BARS_CLOSED),
    ("inference", topics.BARS_CLOSED, topics.FORECASTS),
    ("strategy", topics.FORECASTS, topics.INTENTS),
    ("risk", topics.INTENTS, topics.VERDICTS),
)


class PassingCore:
    """Answers every event with one of the next topic's, numbered."""

    def __init__(self, target: str) -> None:
        self._target = target
        self._count = 0

    def handle(self, _event: Event) -> Sequence[Event]:
        self._count += 1
        if self._target == topics.BARS_CLOSED:
            return [a_bar(self._count)]
        if self._target == topics.FORECASTS:
            return [a_forecast(self._count)]
        intent = an_intent(self._count)
        if self._target == topics.INTENTS:
            return [intent]
        return [
            OrderRefused(
                verdict_id_of(intent.event_id),
                intent.event_time,
                "paper",
                intent.instrument,
                intent.event_id,
                intent,
                0,
                (),
                (),
            )
        ]

    def snapshot(self) -> bytes:
        return str(self._count).encode()

    def restore(self, state: bytes) -> None:
        self._count = int(state)


def run_hop(address: str, prefix: str, service: str, source: str, target: str, stop: object) -> None:
    """Run one hop until told to stop."""
    with open_bus(address, prefix=prefix) as bus:
        shell = CoreShell(
            service,
            PassingCore(target),
            (Input(source),),
            bus,
            ServiceMetrics(service),
            configure_logging(service, level="error"),
            clock=SystemClock(),
        )
        shell.open()
        while not stop.is_set():  # type: ignore[attr-defined]
            shell.step(50)
        shell.release()


def measure(address: str, hops: int, rate: int, seconds: float) -> tuple[float, float, int]:
    """Return p50 and p99 in ms and how many were measured, the first second left out."""
    prefix = f"bench-{time.time_ns()}."
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    chosen = HOPS[:hops]
    with open_bus(address, prefix=prefix) as bus:
        bus.create_topics(TopicSpec(name, 1) for name in topics.TOPICS)
        processes = [spawn.Process(target=run_hop, args=(address, prefix, *hop, stop), daemon=True) for hop in chosen]
        for process in processes:
            process.start()
        delays: list[float] = []
        last = chosen[-1][2]
        consumer = bus.consumer([last])
        consumer.assign({TopicPartition(last, 0): 0})
        total = int(rate * seconds)
        threading.Thread(target=publish, args=(address, prefix, rate, total), daemon=True).start()
        deadline = time.monotonic() + seconds + 60
        while len(delays) < total and time.monotonic() < deadline:
            records = consumer.poll(1000, 50)
            now = time.time_ns()
            for record in records:
                stamps = read_stamps(record.headers)
                assert stamps is not None
                delays.append((now - stamps.origin_made_at) / 1e6)
        stop.set()
        for process in processes:
            process.join(10)
        consumer.close()
    warm = np.asarray(delays[rate:])
    return float(np.percentile(warm, 50)), float(np.percentile(warm, 99)), len(warm)


def publish(address: str, prefix: str, rate: int, total: int) -> None:
    """Publish trades at a steady rate, each in a transaction of its own."""
    pause = threading.Event()
    with open_bus(address, prefix=prefix) as bus:
        producer = bus.producer("source")
        # The hops import, open and subscribe meanwhile.
        pause.wait(6.0)
        started = time.perf_counter()
        for number in range(1, total + 1):
            wait = started + number / rate - time.perf_counter()
            if wait > 0:
                pause.wait(wait)
            encoded = encode(a_trade(number))
            headers = stamp_headers(encoded.kind, "ingestion", time.time_ns(), None)
            producer.begin()
            producer.send([NewRecord(encoded.topic, encoded.key, encoded.payload, headers)])
            producer.commit()
        producer.close()


def main() -> None:
    """Measure the buses that are asked for, all by default."""
    os.environ |= LONG_LIFE
    wanted = sys.argv[1:] or ["sqlite", "kafka"]
    print("bus     hops  rate/s   p50 ms   p99 ms  target p50/p99")
    with tempfile.TemporaryDirectory() as folder:
        if "sqlite" in wanted:
            for hops in (1, 4):
                address = f"sqlite:{Path(folder) / f'bus{hops}.db'}"
                p50, p99, _ = measure(address, hops, 1000, 8)
                print(f"sqlite  {hops:>4} {1000:>7} {p50:>8.2f} {p99:>8.2f}  {'2 / 8' if hops == 4 else '(floor)'}")
        if "kafka" in wanted:
            try:
                address = f"kafka:{find_kafka().address}"
            except NoKafka as reason:
                print(f"kafka   not measured: {reason}")
                return
            for hops in (1, 4):
                p50, p99, _ = measure(address, hops, 100, 10)
                print(f"kafka   {hops:>4} {100:>7} {p50:>8.2f} {p99:>8.2f}  {'25 / -' if hops == 4 else '(floor)'}")


if __name__ == "__main__":
    main()
