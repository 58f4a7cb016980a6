"""Measures a bus: `python -m tests.benchmarks.bus [sqlite|memory|kafka]`, by default sqlite. Prints one table.

Throughput is one producer and one reader in a process each. Latency is a source, four processes that each read,
transform and write in transactions, and a sink, from the source's `send` to the sink's `poll`. Idle cost is a reader's
CPU time with nothing to read. The memory bus lives in one process, so its hops are threads.
"""

from __future__ import annotations

import os
import secrets
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from libs.bus.api import Bus, NewRecord, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from tests.kit.kafka import LONG_LIFE, find_kafka

HOPS = 4
STREAM_RECORDS = 300_000
STREAM_BATCH = 1_000
VALUE = b"v" * 200
IDLE_S = 5.0
LATENCY_S = 10.0
_SPAWN = get_context("spawn")


def write_stream(url: str, prefix: str) -> None:
    """Write the stream in transactions of one batch."""
    with open_bus(url, prefix=prefix) as bus:
        producer = bus.producer("stream")
        batch = [NewRecord("stream", b"BTCUSDT", VALUE, {"sent": b"12345678"}) for _ in range(STREAM_BATCH)]
        for _ in range(STREAM_RECORDS // STREAM_BATCH):
            producer.begin()
            producer.send(batch)
            producer.commit()


def read_stream(bus: Bus) -> float:
    """Read the stream and return records per second from the first record on."""
    reader = bus.consumer(["stream"])
    reader.assign({TopicPartition("stream", 0): 0})
    seen = len(reader.poll(1, 60_000))
    started = time.perf_counter()
    while seen < STREAM_RECORDS:
        seen += len(reader.poll(5_000, 1_000))
    return STREAM_RECORDS / (time.perf_counter() - started)


def relay(url: str, prefix: str, hop: int, stop: Event) -> None:
    """Copy one hop's topic to the next until told to stop."""
    with open_bus(url, prefix=prefix) as bus:
        producer = bus.producer(f"hop-{hop}")
        consumer = bus.consumer([f"hop{hop}"], group=f"hop-{hop}", member_id="0")
        place, target = TopicPartition(f"hop{hop}", 0), f"hop{hop + 1}"
        while not stop.is_set():
            records = consumer.poll(500, 200)
            if records:
                producer.begin()
                producer.send(NewRecord(target, each.key, each.value, each.headers) for each in records)
                producer.send_offsets(consumer, {place: records[-1].offset + 1})
                producer.commit()


def write_ticks(url: str, prefix: str, per_s: int, count: int, go: Event) -> None:
    """Write `count` records, each at its time, whatever is due in one transaction."""
    with open_bus(url, prefix=prefix) as bus:
        producer = bus.producer("source")
        go.wait()
        start, sent = time.perf_counter(), 0
        while sent < count:
            due = min(count, int((time.perf_counter() - start) * per_s) + 1)
            if due > sent:
                now = b"%d" % time.monotonic_ns()
                producer.begin()
                producer.send(NewRecord("hop0", b"k", VALUE, {"sent": now}) for _ in range(due - sent))
                producer.commit()
                sent = due
            else:
                time.sleep(max(0.0, start + sent / per_s - time.perf_counter()))


def read_ticks(bus: Bus, count: int) -> list[float]:
    """Read the last hop and return each record's latency in ms."""
    reader = bus.consumer([f"hop{HOPS}"])
    reader.assign({TopicPartition(f"hop{HOPS}", 0): 0})
    latencies: list[float] = []
    while len(latencies) < count:
        records = reader.poll(500, 30_000)
        if not records:
            raise SystemExit(f"only {len(latencies)} of {count} records came through")
        now = time.monotonic_ns()
        latencies += [(now - int(each.headers["sent"])) / 1e6 for each in records]
    return latencies


def idle(url: str, prefix: str, result: Any) -> None:
    """Wait for records that never come and report the share of a core it took."""
    with open_bus(url, prefix=prefix) as bus:
        consumer = bus.consumer(["idle"], group="idle", member_id="0")
        consumer.poll(1, 500)
        used, started = time.process_time(), time.perf_counter()
        while time.perf_counter() - started < IDLE_S:
            consumer.poll(100, 1_000)
        result.put((time.process_time() - used) / (time.perf_counter() - started))


def start(kind: str, target: Callable[..., None], *args: Any) -> Any:
    """Run a part beside this one: a process, on the memory bus a thread."""
    made: Any = (
        threading.Thread(target=target, args=args, daemon=True)
        if kind == "memory"
        else _SPAWN.Process(target=target, args=args, daemon=True)
    )
    made.start()
    return made


def measure_hops(kind: str, url: str, prefix: str, bus: Bus, per_s: int) -> list[float]:
    """Return the latencies over all hops at a rate, the first second left out."""
    bus.create_topics(TopicSpec(f"hop{hop}") for hop in range(HOPS + 1))
    stop, go = _SPAWN.Event(), _SPAWN.Event()
    count = int(per_s * LATENCY_S)
    parts = [start(kind, relay, url, prefix, hop, stop) for hop in range(HOPS)]
    parts.append(start(kind, write_ticks, url, prefix, per_s, count, go))
    warm_up = bus.producer("warm-up")
    sink = bus.consumer([])
    sink.assign({TopicPartition(f"hop{HOPS}", 0): 0})
    warm_up.begin()
    warm_up.send([NewRecord("hop0", b"k", VALUE, {"sent": b"0"})])
    warm_up.commit()
    sink.poll(1, 60_000)
    go.set()
    latencies = read_ticks(bus, count + 1)[per_s:]
    stop.set()
    for part in parts:
        part.join(20)
    return latencies


def main() -> None:
    """Measure the bus that the first argument names."""
    os.environ |= LONG_LIFE
    kind = sys.argv[1] if len(sys.argv) > 1 else "sqlite"
    with tempfile.TemporaryDirectory() as directory:
        prefix = f"bench{secrets.token_hex(3)}."
        if kind == "kafka":
            url = f"kafka:{find_kafka().address}"
        elif kind in ("sqlite", "memory"):
            url = f"{kind}:{Path(directory) / 'bus.db'}"
        else:
            raise SystemExit(f"unknown bus {kind!r}: use sqlite, memory or kafka")
        with open_bus(url, prefix=prefix) as bus:
            bus.create_topics([TopicSpec("stream"), TopicSpec("idle")])
            results = _SPAWN.Queue()
            reader = start(kind, idle, url, prefix, results)
            share = results.get(timeout=60)
            reader.join(20)
            writer = start(kind, write_stream, url, prefix)
            per_s = read_stream(bus)
            writer.join(60)
            rows = [("idle reader, % of a core", f"{share * 100:.2f}"), ("one hop, records/s", f"{per_s:,.0f}")]
            rates = [100] if kind == "kafka" else [100, 1_000]
            for rate in rates:
                latencies = measure_hops(kind, url, prefix + f"{rate}.", open_bus(url, prefix=f"{prefix}{rate}."), rate)
                cuts = statistics.quantiles(latencies, n=100)
                rows.append((f"four hops at {rate}/s, ms", f"p50 {cuts[49]:.2f}  p99 {cuts[98]:.2f}"))
    print(f"bus: {kind}")
    for name, value in rows:
        print(f"  {name:<28} {value}")


if __name__ == "__main__":
    main()
