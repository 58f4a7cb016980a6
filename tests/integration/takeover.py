"""How long a task stands still when the replica that runs it is killed (-9), with a standby or with its slot restarted.

``python -m tests.integration.takeover [--kafka]`` (`make takeover`). Two replicas of bars share two tasks of a market
that never pauses. The time is from the kill to the first transaction of the dead replica's task; the exit code is 1
where a standby took longer than the session timeout and a second. Features on Kafka are not measured: Faust takes its
partitions from its own group, whose members know no standby. Not part of the suite: it measures.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from libs.bus.api import Bus, Consumer, TopicPartition
from libs.bus.groups import STATIC_MEMBER_GRACE_MS
from libs.bus.open import open_bus
from libs.runtime.placement import Placement
from libs.runtime.records import commit_records, read_stamps, stamped_record
from libs.wire import encode
from libs.wire.topics import journal_topic
from tests.kit.builders import BTC, a_trade
from tests.kit.kafka import NoKafka, a_kafka
from tests.kit.platform import ROOT
from tests.kit.waiting import eventually

_ETH = "ETHUSDT.BINANCE"
_PLACEMENT = Placement(2, {BTC: 0, _ETH: 1})
# The replica of the higher number has the second task.
_TASK = TopicPartition(journal_topic("bars"), 1)
_PATIENCE_S = 120.0
_EVERY_S = 0.02


def main() -> int:
    """Measure both ways; return 1 where a standby is too late, 3 where there is no Kafka."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.takeover", description=__doc__)
    parser.add_argument("--kafka", action="store_true", help="on a real Kafka, not on SQLite")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="perpflow-takeover-")))
        address = f"sqlite:{folder / 'bus.db'}"
        if parser.parse_args().kafka:
            try:
                address = f"kafka:{stack.enter_context(a_kafka()).address}"
            except NoKafka as error:
                print(f"takeover: {error}", file=sys.stderr)
                return 3
        bus = stack.enter_context(open_bus(address, partitioner=_PLACEMENT.choose))
        bus.create_topics(_PLACEMENT.topics())
        stack.enter_context(_a_market(address))
        by_standby = _measure(bus, address, folder / "standby", restarts=False)
        restarted = _measure(bus, address, folder / "restarted", restarts=True)
    limit = STATIC_MEMBER_GRACE_MS / 1000 + 1
    print(f"{address.partition(':')[0]}: a standby goes on {by_standby:.2f} s after the kill, {limit:g} at most")
    print(f"a slot that is restarted at once goes on after {restarted:.2f} s, the start of its process included")
    return 0 if by_standby <= limit else 1


@contextlib.contextmanager
def _a_market(address: str) -> Iterator[None]:
    """Publish a trade of both instruments over and over."""
    ended = threading.Event()

    def publish() -> None:
        with open_bus(address, partitioner=_PLACEMENT.choose) as bus:
            producer = bus.producer("ingestion")
            number = 0
            while not ended.wait(_EVERY_S):
                number += 1
                events = [
                    replace(a_trade(number, seconds=number / 50), instrument=name, event_id=f"{name}/{number}")
                    for name in (BTC, _ETH)
                ]
                commit_records(producer, [stamped_record(encode(each), "ingestion", time.time_ns()) for each in events])

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _measure(bus: Bus, address: str, folder: Path, *, restarts: bool) -> float:
    folder.mkdir()
    with contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(_a_replica(address, folder, number)) for number in (0, 1)]
        # Both are there and share the tasks once each has announced itself.
        eventually(lambda: len(_running(folder)) == len(replicas), within_s=_PATIENCE_S)
        journal = stack.enter_context(contextlib.closing(bus.consumer([_TASK.topic])))
        journal.assign(dict(bus.end_offsets([_TASK])))
        _first_after(journal, time.time_ns())
        replicas[1].kill()
        replicas[1].wait()
        killed_at = time.time_ns()
        if restarts:
            stack.enter_context(_a_replica(address, folder, 1))
        return (_first_after(journal, killed_at) - killed_at) / 1e9


def _first_after(journal: Consumer, time_ns: int) -> int:
    """Wait for a transaction of the task that was made after a time; return when it was."""
    found: list[int] = []

    def look() -> bool:
        for record in journal.poll(1_000, 50):
            stamps = read_stamps(record.headers)
            if stamps is not None and stamps.made_at > time_ns:
                found.append(stamps.made_at)
        return bool(found)

    eventually(look, within_s=_PATIENCE_S)
    return found[0]


def _running(folder: Path) -> list[Path]:
    return [each for each in folder.glob("*.json") if json.loads(each.read_text()).get("state") == "running"]


@contextlib.contextmanager
def _a_replica(address: str, folder: Path, number: int) -> Iterator[subprocess.Popen[bytes]]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PERPFLOW_")},
        "PERPFLOW_BUS": address,
        "PERPFLOW_PARTITIONS": str(_PLACEMENT.partitions),
        "PERPFLOW_INSTRUMENTS": json.dumps(dict(_PLACEMENT.instruments)),
        "PERPFLOW_REPLICA": str(number),
        "PERPFLOW_STANDBY": "true",
        "PERPFLOW_RUN_DIR": str(folder),
        "PYTHONPATH": str(ROOT),
    }
    with (folder / f"bars-{number}.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.bars.main"], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    raise SystemExit(main())
