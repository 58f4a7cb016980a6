"""The recorder's loop over a log in memory: order of write and commit, outages, undecodable payloads, the end."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import pytest
import structlog

from libs.bus.api import Bus, Consumer, NewRecord, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from libs.clock import SimulatedClock
from libs.runtime.errors import BadInput
from libs.runtime.metrics import ServiceMetrics
from libs.store import MigrationMismatch, StoreError, StoreUnavailable, Undecodable
from libs.wire import decode_any, encode
from services.recorder.loop import RecorderLoop
from services.recorder.settings import RecorderSettings
from services.simulation.store import EventRows, read_events
from tests.kit.builders import a_bar, a_trade, an_intent

TOPICS = ("market.events.v1", "bars.closed.v1", "strategy.intents.v1", "dead.market.events.v1")
MARKET = TopicPartition(TOPICS[0], 0)


class MemoryStore:
    """Keeps rows by (topic, partition, offset), as the tables do. `outage` makes it fail."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int, int], Any] = {}
        self.batches: list[tuple[str, int]] = []
        self.migrations = 0
        self.outage: Exception | None = None
        self.fails_on_topic = ""

    def migrate(self) -> Sequence[int]:
        if self.outage is not None and not self.fails_on_topic:
            raise self.outage
        self.migrations += 1
        return (1,)

    def insert_batch(self, batch: EventRows) -> int:
        if self.outage is not None and self.fails_on_topic in ("", batch.topic):
            raise self.outage
        self.rows |= batch.events
        self.batches.append((batch.topic, batch.row_count))
        return batch.row_count


class Clock(SimulatedClock):
    """A clock that only moves when told, and whose pauses move it."""

    def __init__(self) -> None:
        super().__init__(0)
        self.pauses: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        super().sleep(seconds)


class Bench:
    """A recorder on its log and store."""

    def __init__(self, bus: Bus, **settings: Any) -> None:
        self.bus = bus
        self.store = MemoryStore()
        self.clock = Clock()
        self.metrics = ServiceMetrics("recorder")
        self.settings = RecorderSettings(**{"flush_interval_ms": 500, **settings})
        self.loop = self.new_loop()

    def new_loop(self, number: int = 0) -> RecorderLoop[EventRows]:
        self.metrics = ServiceMetrics("recorder")
        loop = RecorderLoop(
            lambda: self.consumer(number),
            self.store,
            partial(read_events, decode_any),
            self.settings,
            self.metrics,
            structlog.get_logger(),
            clock=self.clock,
        )
        loop.open()
        return loop

    def consumer(self, number: int = 0) -> Consumer:
        return self.bus.consumer(TOPICS, group="recorder", member_id=f"recorder-{number}")

    def write(self, *events: Any) -> None:
        self.write_raw(*((each.topic, each.key, each.payload) for each in map(encode, events)))

    def write_raw(self, *records: tuple[str, bytes, bytes]) -> None:
        producer = self.bus.producer("writer")
        producer.begin()
        producer.send(NewRecord(topic, key, value) for topic, key, value in records)
        producer.commit()
        producer.close()

    def run(self, seconds: float = 1.0) -> None:
        """Step, move the clock, step again."""
        self.loop.step(0)
        self.clock.advance(seconds)
        self.loop.step(0)

    def committed(self) -> int | None:
        return self.bus.committed("recorder", [MARKET])[MARKET]


@pytest.fixture
def bus() -> Iterator[Bus]:
    with open_bus(f"memory:{secrets.token_hex(6)}") as opened:
        opened.create_topics(TopicSpec(topic) for topic in TOPICS)
        yield opened


@pytest.fixture
def bench(bus: Bus) -> Bench:
    return Bench(bus)


def test_records_of_all_topics_are_written_and_then_committed(bench: Bench) -> None:
    bench.write(a_trade(1), a_bar(0), an_intent(1), a_trade(2))
    bench.run()
    assert bench.store.rows == {
        (TOPICS[0], 0, 0): a_trade(1),
        (TOPICS[0], 0, 1): a_trade(2),
        (TOPICS[1], 0, 0): a_bar(0),
        (TOPICS[2], 0, 0): an_intent(1),
    }
    assert bench.committed() == 2


def test_tables_are_made_once_before_the_first_row(bench: Bench) -> None:
    bench.loop.step(0)
    bench.write(a_trade(1))
    bench.run()
    assert bench.store.migrations == 1


def test_rows_wait_for_the_interval_and_go_together(bench: Bench) -> None:
    bench.loop.step(0)
    for number in range(5):
        bench.write(a_trade(number))
        bench.loop.step(0)
    assert bench.store.batches == []
    assert bench.committed() is None
    bench.clock.advance(0.5)
    bench.loop.step(0)
    assert bench.store.batches == [(TOPICS[0], 5)]
    assert bench.committed() == 5


def test_full_batch_does_not_wait(bus: Bus) -> None:
    bench = Bench(bus, batch_rows=3)
    bench.loop.step(0)
    bench.write(*(a_trade(number) for number in range(3)))
    bench.loop.step(0)
    assert bench.store.batches == [(TOPICS[0], 3)]


def test_nothing_is_committed_before_it_is_written(bench: Bench) -> None:
    bench.write(a_trade(1))
    bench.store.outage = StoreUnavailable("down")
    bench.run()
    assert bench.committed() is None
    with pytest.raises(StoreUnavailable, match="1 rows are held"):
        bench.loop.check_store()
    assert bench.metrics.registry.get_sample_value("perpflow_store_up", {"service": "recorder"}) == 0.0
    assert bench.metrics.registry.get_sample_value("perpflow_buffered_rows", {"service": "recorder"}) == 1.0


def test_outage_is_borne_with_growing_pauses_and_nothing_is_lost(bus: Bus) -> None:
    bench = Bench(bus, retry_min_ms=200, retry_max_ms=800)
    bench.run()
    bench.store.outage = StoreUnavailable("down")
    failures: list[float] = []
    original = bench.store.insert_batch

    def insert_batch(batch: EventRows) -> int:
        failures.append(bench.clock.monotonic_s())
        return original(batch)

    bench.store.insert_batch = insert_batch  # type: ignore[method-assign]
    for number in range(60):
        bench.write(a_trade(number))
        bench.loop.step(0)
        bench.clock.advance(0.1)
    waits = [later - earlier for earlier, later in itertools.pairwise(failures)]
    # Steps are 0.1 s apart, so each wait may be that much longer than asked for.
    for wait, asked in zip(waits, [0.2, 0.4, *[0.8] * len(waits)], strict=False):
        assert asked - 0.001 <= wait <= asked + 0.101
    assert len(waits) >= 4
    bench.store.outage = None
    bench.run(1.0)
    assert bench.committed() == 60
    assert len(bench.store.rows) == 60
    bench.loop.check_store()


def test_reading_stops_when_the_buffer_is_full_and_goes_on_afterwards(bus: Bus) -> None:
    bench = Bench(bus, max_buffered_rows=10, poll_max_records=5)
    bench.run()
    bench.store.outage = StoreUnavailable("down")
    bench.write(*(a_trade(number) for number in range(40)))
    for _ in range(8):
        bench.loop.step(100)
    assert bench.metrics.registry.get_sample_value("perpflow_buffered_rows", {"service": "recorder"}) == 10
    assert bench.clock.pauses
    bench.store.outage = None
    for _ in range(12):
        bench.clock.advance(1)
        bench.loop.step(100)
    assert len(bench.store.rows) == 40
    assert bench.committed() == 40


def test_outage_between_two_topics_repeats_only_what_was_not_written(bench: Bench) -> None:
    bench.loop.step(0)
    bench.write(a_trade(1), a_bar(0))
    bench.store.outage = StoreUnavailable("down")
    bench.store.fails_on_topic = TOPICS[1]
    bench.run()
    assert bench.committed() is None
    bench.store.outage = None
    bench.run(2.0)
    assert sorted(bench.store.batches) == [(TOPICS[1], 1), (TOPICS[0], 1)]
    assert bench.committed() == 1


def test_crash_between_write_and_commit_repeats_harmlessly(bench: Bench) -> None:
    bench.loop.step(0)
    bench.write(*(a_trade(number) for number in range(4)))
    bench.loop.step(0)
    assert bench.store.rows == {}
    # What a process that died before its commit had done.
    bench.store.insert_batch(EventRows(TOPICS[0], {(TOPICS[0], 0, n): a_trade(n) for n in range(4)}, []))
    bench.loop.release()
    bench.loop = bench.new_loop()
    bench.run()
    assert bench.committed() == 4
    assert len(bench.store.rows) == 4


def test_restart_goes_on_behind_what_was_committed(bench: Bench) -> None:
    bench.write(a_trade(1))
    bench.run()
    bench.loop.close()
    bench.write(a_trade(2))
    bench.loop = bench.new_loop()
    bench.run()
    assert bench.store.batches == [(TOPICS[0], 1), (TOPICS[0], 1)]
    assert bench.committed() == 2


def test_closing_writes_what_is_held(bench: Bench) -> None:
    bench.loop.step(0)
    bench.write(a_trade(1))
    bench.loop.step(0)
    assert bench.store.rows == {}
    bench.loop.close()
    assert len(bench.store.rows) == 1
    assert bench.committed() == 1


def test_closing_during_an_outage_leaves_the_rows_to_the_next_start(bench: Bench) -> None:
    bench.write(a_trade(1))
    bench.store.outage = StoreUnavailable("down")
    bench.run()
    bench.loop.close()
    bench.store.outage = None
    bench.loop = bench.new_loop()
    bench.run()
    assert len(bench.store.rows) == 1
    assert bench.committed() == 1


def test_undecodable_payload_is_kept_raw_and_counted(bench: Bench) -> None:
    bench.write_raw((TOPICS[0], b"BTC", b"\xff\xff"))
    bench.write(a_trade(1))
    bench.run()
    kept = bench.store.rows[TOPICS[0], 0, 0]
    assert isinstance(kept, Undecodable)
    assert kept.payload == b"\xff\xff"
    assert kept.reason
    assert bench.store.rows[TOPICS[0], 0, 1] == a_trade(1)
    counted = bench.metrics.registry.get_sample_value(
        "perpflow_dead_letters_total", {"service": "recorder", "topic": TOPICS[0]}
    )
    assert counted == 1.0
    assert bench.committed() == 2


def test_refusal_of_the_store_stops_the_process_uncommitted(bench: Bench) -> None:
    bench.loop.step(0)
    bench.write(a_trade(1))
    bench.store.outage = StoreError("refused")
    with pytest.raises(StoreError, match="refused"):
        bench.run()
    assert bench.committed() is None


def test_database_of_another_version_is_bad_input(bench: Bench) -> None:
    bench.store.outage = MigrationMismatch("0001_market.sql was changed")
    with pytest.raises(BadInput, match=r"0001_market\.sql was changed"):
        bench.loop.step(0)


def test_step_says_how_many_records_it_read(bench: Bench) -> None:
    bench.write(a_trade(1), a_trade(2))
    assert bench.loop.step(0) == 2
    assert bench.loop.step(0) == 0
    assert not bench.loop.is_finished


def test_replicas_share_the_partitions_and_what_one_held_when_they_did_is_recorded() -> None:
    with open_bus(f"memory:{secrets.token_hex(8)}", partitioner=lambda _topic, key, count: len(key) % count) as bus:
        bus.create_topics(TopicSpec(name, 2) for name in TOPICS)
        bench = Bench(bus)
        bench.write(*(a_trade(number) for number in range(5)), a_bar(1), an_intent(1))
        assert bench.loop.step(0) == 7
        # A second one takes half of the partitions before the first has written what it holds.
        second = bench.new_loop(number=1)
        bench.write(a_trade(5), a_bar(2), an_intent(2))
        for _ in range(3):
            for loop in (bench.loop, second):
                loop.step(0)
                bench.clock.advance(1.0)
        assert len(bench.store.rows) == 10
        places = [TopicPartition(topic, number) for topic in TOPICS for number in range(2)]
        committed = bus.committed("recorder", places)
        assert {at: offset or 0 for at, offset in committed.items()} == bus.end_offsets(places)
        assert sum(1 for offset in committed.values() if offset) >= 2
        bench.loop.close()
        second.close()
