"""Rows per second through the store: building columns, writing over HTTP to the local server, and the recorder's
loop beside a bare `insert_arrow` of the very batches that it writes.

Run as ``python -m tests.benchmarks.store``; prints one JSON object. Starts a server of its own.
"""

from __future__ import annotations

import gc
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import structlog

from libs.bus.api import Bus, NewRecord, Record, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.records import stamped_record
from libs.store import Store, StoredRow
from libs.store.batches import Batch, build_batch
from libs.store.tables import table_of
from libs.wire import encode
from services.recorder.loop import RecorderLoop
from services.recorder.settings import RecorderSettings
from tests.contract.store.local_server import LocalServer
from tests.kit.builders import a_quote, a_tick, a_trade

TOPIC = "market.events.v1"
RECORDS, BATCH = 100_000, 10_000
ROUNDS = 3


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="perpflow-bench-") as folder:
        server = LocalServer(Path(folder)).start()
        try:
            with server.store("bench") as store:
                store.migrate()
                figures = {
                    "build_rows_per_s": measure_building(),
                    "write_rows_per_s": {str(size): measure_writing(store, size) for size in (1_000, 10_000, 100_000)},
                    **measure_recorder(store, server, Path(folder)),
                }
        finally:
            server.close()
    print(json.dumps({"store": figures}, indent=2))


def measure_building() -> int:
    """Rows per second of columns built from domain events, one core."""
    rows = _trades(10_000)
    table = table_of(TOPIC, rows[0].event)
    started = time.process_time()
    for _ in range(10):
        table.arrow(TOPIC, rows)
    return round(10 * len(rows) / (time.process_time() - started))


def measure_writing(store: Store, size: int) -> int:
    """Rows per second acknowledged by the server, in batches of a size."""
    rows = _trades(size)
    batches = max(3, 200_000 // size // 4)
    started = time.perf_counter()
    for _ in range(batches):
        store.insert(TOPIC, rows)
    return round(batches * size / (time.perf_counter() - started))


def measure_recorder(store: Store, server: LocalServer, folder: Path) -> dict[str, Any]:
    """The recorder from a SQLite log, from poll to acknowledgement in batches of 10,000 rows, and the bare inserts."""
    with open_bus(f"sqlite:{folder / 'bus.db'}") as bus:
        bus.create_topics([TopicSpec(TOPIC)])
        producer = bus.producer("bench")
        producer.begin()
        producer.send(_records(RECORDS))
        producer.commit()
        batches = _batches(bus)
        # Compiled and warm; then in turns, so that both meet the same machine.
        record(bus, store, server, "warm")
        runs = [
            (record(bus, store, server, str(number)), _insert_bare(store, server, batches)) for number in range(ROUNDS)
        ]
    best = max((run for run, _ in runs), key=lambda run: run["recorder_records_per_s"])
    bare = max(bare for _, bare in runs)
    return {
        **best,
        "bare_insert_arrow_rows_per_s": bare,
        "recorder_share_of_bare_insert": round(best["recorder_records_per_s"] / bare, 2),
    }


def record(bus: Bus, store: Store, server: LocalServer, group: str) -> dict[str, Any]:
    """Record everything once more, as a group of its own."""
    loop = RecorderLoop(
        lambda: bus.consumer([TOPIC], group=group, member_id="recorder-0"),
        store,
        build_batch,
        RecorderSettings(batch_rows=BATCH),
        ServiceMetrics("recorder"),
        structlog.get_logger(),
    )
    loop.open()
    loop.flush()
    # As the service does.
    gc.freeze()
    cpu, server_cpu, started = time.process_time(), _cpu_seconds(server), time.perf_counter()
    at = TopicPartition(TOPIC, 0)
    while bus.committed(group, [at])[at] != RECORDS:
        loop.step(100)
    elapsed = time.perf_counter() - started
    used, server_used = time.process_time() - cpu, _cpu_seconds(server) - server_cpu
    loop.close()
    return {
        "recorder_records_per_s": round(RECORDS / elapsed),
        "recorder_core_share_at_5000_per_s": round(used / RECORDS * 5_000, 3),
        "server_core_share_at_5000_per_s": round(server_used / RECORDS * 5_000, 3),
    }


def _polled(bus: Bus) -> list[Record]:
    consumer = bus.consumer([TOPIC])
    consumer.assign({TopicPartition(TOPIC, 0): 0})
    found: list[Record] = []
    while len(found) < RECORDS:
        found += consumer.poll(BATCH, 1_000)
    consumer.close()
    return found


def _batches(bus: Bus) -> list[Batch]:
    records = _polled(bus)
    return [build_batch(TOPIC, records[first : first + BATCH]) for first in range(0, RECORDS, BATCH)]


def _insert_bare(store: Store, server: LocalServer, batches: list[Batch]) -> int:
    """Rows per second of `insert_arrow`, by clickhouse-connect alone."""
    client = server.client(database=store.database, compress=False)
    started = time.perf_counter()
    for batch in batches:
        for table, arrow in batch.tables:
            client.insert_arrow(table, arrow)
    elapsed = time.perf_counter() - started
    client.close()
    return round(sum(batch.row_count for batch in batches) / elapsed)


def _trades(count: int) -> list[StoredRow]:
    now_ms = time.time_ns() // 1_000_000
    return [StoredRow(0, n, b"BTCUSDT.BINANCE", now_ms, a_trade(n, seconds=n / 1000)) for n in range(count)]


def _records(count: int) -> list[NewRecord]:
    events = (a_trade(n) if n % 3 else a_quote(n) if n % 7 else a_tick(n) for n in range(count))
    return [stamped_record(encode(event), "bench", time.time_ns()) for event in events]


def _cpu_seconds(server: LocalServer) -> float:
    assert server.process is not None
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


if __name__ == "__main__":
    main()
