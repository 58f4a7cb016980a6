"""The recorder as a process on a real log and a real server: killed, starved of ClickHouse, asked to stop."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.bus.api import Bus, NewRecord, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from libs.store import Store, StoreError
from libs.wire import encode
from libs.wire.topics import RECORDED_TOPICS
from tests.contract.store.events import FULL_EVENTS
from tests.contract.store.local_server import ROOT, VARIABLES, LocalServer
from tests.kit.builders import a_trade
from tests.kit.waiting import eventually

MARKET = "market.events.v1"


class Recorder:
    """A recorder process on its log."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bus_url = f"sqlite:{folder / 'bus.db'}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, server_url: str, database: str, *, replica: str = "", **settings: object) -> Recorder:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "PERPFLOW_BUS": self.bus_url,
            "PERPFLOW_CLICKHOUSE": server_url,
            "PERPFLOW_CLICKHOUSE_DATABASE": database,
            **VARIABLES,
            "PERPFLOW_RUN_DIR": str(self.folder / "run"),
            **({"PERPFLOW_REPLICA": replica} if replica else {}),
            **{f"PERPFLOW_RECORDER_{name.upper()}": str(value) for name, value in settings.items()},
        }
        with (self.folder / "recorder.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "services.recorder.main"], cwd=ROOT, stdout=log, stderr=log, env=environment
            )
        return self

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(30)

    def log(self) -> str:
        return (self.folder / "recorder.log").read_text()

    def close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = Recorder(tmp_path)
    yield made
    made.close()


@pytest.fixture
def bus(recorder: Recorder) -> Iterator[Bus]:
    with open_bus(recorder.bus_url) as opened:
        opened.create_topics(TopicSpec(topic) for topic in RECORDED_TOPICS)
        yield opened


def write(bus: Bus, events: list[Any]) -> None:
    producer = bus.producer("writer")
    producer.begin()
    producer.send(NewRecord(each.topic, each.key, each.payload) for each in map(encode, events))
    producer.commit()
    producer.close()


def has_read(announced: Path) -> bool:
    """Whether the process that announced itself there has read anything of the market."""
    port = json.loads(announced.read_text())["metrics_port"]
    metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
    found = re.search(rf'^perpflow_records_in_total{{.*topic="{re.escape(MARKET)}".*}} (\S+)', metrics, re.MULTILINE)
    return found is not None and float(found[1]) > 0


def count(store: Store) -> dict[str, int]:
    try:
        return store.count_rows()
    except StoreError:
        # Its database or tables are not made yet.
        return {}


def test_every_topic_lands_in_its_tables_and_counts_agree(
    recorder: Recorder, bus: Bus, server: LocalServer, database: str
) -> None:
    write(bus, list(FULL_EVENTS))
    recorder.start(server.url, database)
    ends = bus.end_offsets([TopicPartition(topic, 0) for topic in RECORDED_TOPICS])
    expected = {where.topic: end for where, end in ends.items() if end}
    with server.store(database) as store:
        eventually(lambda: count(store) == expected, within_s=60)
    announced = json.loads((recorder.folder / "run" / "recorder.json").read_text())
    assert announced["state"] == "running"
    assert recorder.end(signal.SIGTERM) == 0


def test_kill_9_again_and_again_loses_and_doubles_nothing(
    recorder: Recorder, bus: Bus, server: LocalServer, database: str
) -> None:
    total = 12_000
    write(bus, [a_trade(number) for number in range(total)])
    with server.store(database) as store:
        for part in (0, total // 4, total // 2):
            recorder.start(server.url, database, batch_rows=300, poll_max_records=100)
            eventually(lambda part=part: count(store).get(MARKET, 0) > part, within_s=180)
            recorder.end(signal.SIGKILL)
        recorder.start(server.url, database)
        eventually(lambda: count(store) == {MARKET: total}, within_s=180)
        assert recorder.end(signal.SIGTERM) == 0
        distinct = store.query("SELECT uniqExact(venue_trade_id) AS n, max(venue_trade_id) AS last FROM trades FINAL")
        assert distinct[0] == {"n": total, "last": total - 1}
    assert bus.committed("recorder", [TopicPartition(MARKET, 0)]) == {TopicPartition(MARKET, 0): total}


def test_replicas_share_the_partitions_and_a_killed_ones_move(
    recorder: Recorder, server: LocalServer, database: str, tmp_path: Path
) -> None:
    partitions, total = 4, 4_000
    (tmp_path / "other").mkdir()
    other = Recorder(tmp_path / "other")
    other.bus_url = recorder.bus_url
    places = [TopicPartition(MARKET, number) for number in range(partitions)]
    with open_bus(recorder.bus_url) as bus, server.store(database) as store:
        bus.create_topics(TopicSpec(topic, partitions=partitions) for topic in RECORDED_TOPICS)

        def write_half(first: int) -> None:
            encoded = [encode(a_trade(number)) for number in range(first, first + total // 2)]
            producer = bus.producer("writer")
            producer.begin()
            producer.send(
                NewRecord(each.topic, each.key, each.payload, partition=number % partitions)
                for number, each in enumerate(encoded)
            )
            producer.commit()
            producer.close()

        try:
            for number, each in enumerate((recorder, other)):
                each.start(server.url, database, replica=str(number), batch_rows=200, poll_max_records=50)
            announced = [tmp_path / "run" / "recorder.json", tmp_path / "other" / "run" / "recorder-1.json"]
            eventually(lambda: all(path.exists() and "running" in path.read_text() for path in announced), within_s=120)
            write_half(0)
            eventually(lambda: count(store).get(MARKET, 0) > total // 8 and has_read(announced[1]), within_s=180)
            other.end(signal.SIGKILL)
            write_half(total // 2)
            eventually(lambda: count(store) == {MARKET: total}, within_s=180)
            eventually(
                lambda: sum((bus.committed("recorder", places)[at] or 0) for at in places) == total, within_s=180
            )
            assert recorder.end(signal.SIGTERM) == 0
        finally:
            other.close()
        distinct = store.query("SELECT uniqExact(venue_trade_id) AS n FROM trades FINAL")
    assert distinct[0] == {"n": total}


def test_outage_of_clickhouse_is_borne(recorder: Recorder, bus: Bus, tmp_path: Path) -> None:
    own = LocalServer(tmp_path / "own")
    own.start()
    try:
        port = own.port
        own.kill()
        write(bus, [a_trade(number) for number in range(500)])
        recorder.start(own.url, "session", retry_max_ms=300)
        eventually(lambda: "store is down" in recorder.log(), within_s=30)
        own.start(port)
        with own.store("session") as store:
            eventually(lambda: count(store) == {MARKET: 500}, within_s=60)
            own.kill()
            write(bus, [a_trade(number) for number in range(500, 900)])
            eventually(lambda: recorder.log().count("store is down") == 2, within_s=30)
            own.start(port)
            eventually(lambda: count(store) == {MARKET: 900}, within_s=60)
        assert recorder.end(signal.SIGTERM) == 0
    finally:
        own.close()


def test_bad_setting_is_named_with_exit_2(recorder: Recorder, bus: Bus) -> None:
    recorder.start("http://127.0.0.1:1", "x", batch_rows="many")
    assert recorder.process is not None
    assert recorder.process.wait(30) == 2
    assert "PERPFLOW_RECORDER_BATCH_ROWS='many'" in recorder.log()
