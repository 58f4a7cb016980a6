"""kill -9 of a consume-transform-produce process: nothing is lost, half shown or repeated."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from libs.bus.api import NewRecord, TopicPartition
from tests.kit.buses import World, make_world, read_records
from tests.kit.waiting import eventually

REPOSITORY = Path(__file__).resolve().parents[3]
PARTITIONS = 3
INPUTS = 12_000


@contextmanager
def a_relay(world: World) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.kit.bus_relay", world.url, world.prefix, "50"]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.kill()
        process.wait(timeout=20)


def count_outputs(world: World) -> int:
    places = [TopicPartition("out", n) for n in range(PARTITIONS)]
    return sum(world.bus.end_offsets(places).values())


def await_outputs(world: World, count: int, within_s: float = 120.0) -> None:
    eventually(lambda: count_outputs(world) >= count, within_s=within_s, every_s=0.002)


@pytest.mark.parametrize(("kind", "kills"), [("sqlite", 5), ("kafka", 2)])
def test_counts_are_exact_after_kills(kind: str, kills: int, tmp_path: Path) -> None:
    world = make_world(kind, tmp_path)
    chance = random.Random(20_261_121)
    try:
        world.create("in", "out", "copy", partitions=PARTITIONS)
        inputs = [NewRecord("in", b"key-%d" % (n % 17), b"%d" % n, {"n": b"%d" % n}) for n in range(INPUTS)]
        # The rest is written after the last kill: it has work to do however late it comes.
        before = INPUTS * 3 // 4
        world.write(*inputs[:before])
        points = sorted(chance.sample(range(50, before), kills))
        for point in points:
            with a_relay(world) as process:
                await_outputs(world, point)
                assert process.poll() is None
                process.kill()
                process.wait(timeout=20)
        world.write(*inputs[before:])
        with a_relay(world):
            read = {topic: read_all(world, topic) for topic in ("out", "copy")}
    finally:
        world.close()
    for topic, values in read.items():
        assert len(values) == INPUTS, topic
        for partition in range(PARTITIONS):
            mine = [n for at, n in values if at == partition]
            assert mine == sorted(set(mine)), f"{topic}[{partition}] is out of order or repeats"
        assert {n for _, n in values} == set(range(INPUTS)), topic


def read_all(world: World, topic: str) -> list[tuple[int, int]]:
    reader = world.bus.consumer([topic])
    reader.assign({TopicPartition(topic, n): 0 for n in range(PARTITIONS)})
    records: list[Any] = list(read_records(reader, INPUTS, within_polls=200))
    records += reader.poll(1_000, 300)
    assert all(each.value == each.headers["n"] + b"!" for each in records)
    return [(each.partition, int(each.headers["n"])) for each in records]
