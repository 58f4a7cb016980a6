"""What Faust drives recovers exactly: from its last snapshot and the bars behind it, however old the others are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from libs.bus.api import Bus, NewRecord, OffsetGone, TopicPartition, TopicSpec
from libs.bus.memory import MemoryBus
from libs.bus.open import open_bus
from libs.clock import SimulatedClock
from libs.domain.bars import Bar
from libs.domain.events import Event
from libs.domain.features import FeatureVector
from libs.runtime.handler import CoreHandler, Input
from libs.runtime.placement import Task
from libs.runtime.records import commit_records, read_last, read_topic, stamped_record
from libs.runtime.verify import verify_service
from libs.wire import encode, topics
from services.features.recovery import PartitionCores, RecoveredCore
from tests.kit.builders import a_bar
from tests.kit.golden import examples

_NAMES = itertools.count()
BARS = TopicPartition(topics.BARS_CLOSED, 0)
STATE = TopicPartition(topics.state_topic("features"), 0)
INPUTS = (Input(topics.BARS_CLOSED),)
A_VECTOR = next(event for event in examples().values() if isinstance(event, FeatureVector))


class CountingCore:
    """Gives every bar a vector whose id depends on all the bars before it."""

    def __init__(self) -> None:
        self.count = 0

    def handle(self, event: Event) -> Sequence[Event]:
        assert isinstance(event, Bar)
        self.count = (self.count * 7 + 1) % 1_000
        return [replace(A_VECTOR, event_id=f"{event.event_id}/{self.count}", bar_id=event.event_id)]

    def snapshot(self) -> bytes:
        return b"%d" % self.count

    def restore(self, state: bytes) -> None:
        self.count = int(state)


@pytest.fixture(params=["memory", "sqlite"])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    address = f"memory:features-{next(_NAMES)}" if request.param == "memory" else f"sqlite:{tmp_path / 'bus.db'}"
    with open_bus(address) as opened:
        opened.create_topics(TopicSpec(name) for name in topics.TOPICS)
        yield opened


def publish_bars(bus: Bus, first: int, count: int) -> None:
    encoded = [encode(a_bar(number)) for number in range(first, first + count)]
    commit_records(bus.producer("bars"), [NewRecord(each.topic, each.key, each.payload) for each in encoded])


def a_core(bus: Bus, *, snapshot_every: int = 10) -> RecoveredCore:
    return RecoveredCore(
        CoreHandler("features", CountingCore(), INPUTS),
        Task("features"),
        bus,
        SimulatedClock(0),
        snapshot_every_records=snapshot_every,
        snapshot_every_s=3_600.0,
    )


def run_until_killed(bus: Bus, *, records: int, commit_every: int = 7, snapshot_every: int = 10) -> None:
    """Do what the Faust app does, for so many records: publish, now and then a snapshot, now and then an offset."""
    core = a_core(bus, snapshot_every=snapshot_every)
    core.recover()
    producer = bus.producer("features-faust")
    consumer = bus.consumer([BARS.topic], group="features", member_id="features-0")
    for number, record in enumerate(consumer.poll(records, 0), 1):
        handled = core.take(record)
        commit_records(producer, [stamped_record(each, "features", 1) for each in handled.outputs])
        if core.is_snapshot_due:
            commit_records(producer, [core.make_snapshot()])
        if number % commit_every == 0:
            consumer.commit({BARS: record.offset + 1})
    consumer.close()


def assert_verifies(bus: Bus) -> None:
    verified = verify_service("features", CountingCore(), INPUTS, bus)
    assert verified.difference is None


def test_a_crash_anywhere_changes_no_vector(bus: Bus) -> None:
    publish_bars(bus, 0, 100)
    for records in (5, 12, 9, 30, 23, 100):
        run_until_killed(bus, records=records)
    assert_verifies(bus)
    values = [record.value for record in read_topic(bus, topics.FEATURE_VECTORS)]
    assert len(set(values)) == 100


def test_a_crash_after_its_old_bars_were_removed_changes_no_vector(bus: Bus) -> None:
    publish_bars(bus, 0, 40)
    run_until_killed(bus, records=39)
    assert bus.committed("features", [BARS]) == {BARS: 35}
    bus.delete_before({BARS: 30})
    publish_bars(bus, 40, 20)
    run_until_killed(bus, records=60)
    assert_verifies(bus)
    assert verify_service("features", CountingCore(), INPUTS, bus).verified_from is not None


def test_a_snapshot_ahead_of_the_committed_offset_is_not_repeated(bus: Bus) -> None:
    publish_bars(bus, 0, 30)
    run_until_killed(bus, records=25, commit_every=100, snapshot_every=20)
    assert bus.committed("features", [BARS]) == {BARS: None}
    before = len(list(read_topic(bus, topics.FEATURE_VECTORS)))
    run_until_killed(bus, records=30)
    after = [record.value for record in read_topic(bus, topics.FEATURE_VECTORS)]
    # Bars 20 to 24 came again with the same vectors, those before the snapshot did not.
    assert (before, len(after), len(set(after))) == (25, 35, 30)
    assert_verifies(bus)


def test_bars_removed_that_recovery_needs_are_named(bus: Bus) -> None:
    publish_bars(bus, 0, 30)
    run_until_killed(bus, records=21, snapshot_every=1_000)
    bus.delete_before({BARS: 5})
    with pytest.raises(OffsetGone, match=r"bars.closed.v1/0 was to be read from offset 0"):
        a_core(bus).recover()
    bus.delete_before({BARS: 25})
    with pytest.raises(OffsetGone, match=r"bars.closed.v1/0 was to be read from offset 21"):
        a_core(bus).recover()


def test_a_late_start_begins_with_what_is_there(bus: Bus) -> None:
    publish_bars(bus, 0, 30)
    bus.delete_before({BARS: 12})
    assert a_core(bus).recover() == 12
    assert read_last(bus, STATE.topic) is None


def test_replicas_give_their_cores_up_at_a_rebalance_and_recover_them_where_another_went_on(bus: Bus) -> None:
    publish_bars(bus, 1, 20)
    records = list(read_topic(bus, topics.BARS_CLOSED))
    cores = PartitionCores(lambda _partition: a_core(bus), is_shared=True)
    first = cores.recover(0)
    before = [first.take(record).outputs for record in records[:5]]
    assert cores.get(0) is first
    # Another replica goes on, commits and leaves a snapshot.
    run_until_killed(bus, records=14)
    cores.note_rebalance()
    assert cores.get(0) is None
    again = cores.recover(0)
    after = [again.take(record) for record in records]
    repeats = sum(handled.is_repeat for handled in after)
    assert 5 < repeats <= 14
    alone = PartitionCores(lambda _partition: a_core_without_history(), is_shared=False)
    expected = alone.recover(0)
    whole = [expected.take(record).outputs for record in records]
    assert before == whole[:5]
    assert [handled.outputs for handled in after[repeats:]] == whole[repeats:]
    alone.note_rebalance()
    assert alone.get(0) is expected


def a_core_without_history() -> RecoveredCore:
    """A core on a bus of its own, which nobody has read anything of."""
    empty = MemoryBus()
    empty.create_topics(TopicSpec(name) for name in topics.TOPICS)
    return a_core(empty)
