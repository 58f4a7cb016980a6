"""Offsets are looked up, and old records removed, across restarts of the broker, by a process that lives on."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterable

import pytest

from libs.bus.api import NewRecord, TopicPartition, TopicSpec
from libs.bus.kafka import KafkaBus
from tests.kit.kafka import NoKafka, a_kafka
from tests.kit.waiting import eventually

RESTARTS = 3
PARTITIONS = 6
# The client's defects abort the process: it is one of its own, and says at each round what it was told.
ASKER = """
import sys
from libs.bus.api import BusUnavailable, TopicPartition
from libs.bus.kafka import KafkaBus

places = [TopicPartition("a", partition) for partition in range(int(sys.argv[2]))]
with KafkaBus(sys.argv[1], connect_timeout_s=60) as bus:
    while True:
        try:
            first, end = bus.beginning_offsets(places), bus.end_offsets(places)
            behind_all = bus.end_offsets(places, with_uncommitted=True)
            by_time = bus.offsets_for_times({at: 0 for at in places})
            bus.delete_before({at: 1 for at in places})
        except BusUnavailable:
            # A broker may take longer to start than an answer is waited for.
            continue
        # A broker that is killed may forget what was removed last: its oldest records come back.
        told = {(end[at], behind_all[at], first[at] in (0, 1), by_time[at] in (0, 1)) for at in places}
        print(*told, flush=True)
"""

pytestmark = pytest.mark.timeout(900)


def collect(lines: Iterable[str], answers: list[str]) -> None:
    for line in lines:
        answers.append(line)


def await_rounds(asker: subprocess.Popen[str], answers: list[str]) -> None:
    """Wait for twenty more rounds, or for its end, which fails the test with what it said."""
    wanted = len(answers) + 20
    eventually(lambda: asker.poll() is not None or len(answers) > wanted, within_s=90.0)
    assert asker.stderr is not None
    assert asker.poll() is None, f"ended with {asker.returncode}: {asker.stderr.read()[-2000:]}"


def test_offsets_are_looked_up_across_restarts_of_the_broker() -> None:
    try:
        with a_kafka() as broker:
            with KafkaBus(broker.address) as bus:
                bus.create_topics([TopicSpec("a", PARTITIONS)])
                producer = bus.producer("p")
                producer.begin()
                places = [TopicPartition("a", partition) for partition in range(PARTITIONS)]
                producer.send(NewRecord("a", b"k", b"v", partition=at.partition) for at in places for _ in range(2))
                producer.commit()
                producer.close()
                eventually(lambda: set(bus.end_offsets(places).values()) == {3}, within_s=60.0)
                bus.delete_before(dict.fromkeys(places, 1))
            asker = subprocess.Popen(
                [sys.executable, "-c", ASKER, broker.address, str(PARTITIONS)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            assert asker.stdout is not None and asker.stderr is not None
            answers: list[str] = []
            reader = threading.Thread(target=collect, args=(asker.stdout, answers))
            reader.start()
            try:
                for _ in range(RESTARTS):
                    await_rounds(asker, answers)
                    broker.kill()
                    broker.start()
                await_rounds(asker, answers)
                assert set(answers) == {"(3, 3, True, True)\n"}
            finally:
                asker.kill()
                reader.join()
                asker.stdout.close()
                asker.stderr.close()
                asker.wait()
    except NoKafka as reason:
        pytest.skip(str(reason))
