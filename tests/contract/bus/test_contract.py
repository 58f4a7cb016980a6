"""What every bus promises, held against the memory bus, the SQLite bus and a real Kafka."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from libs.bus.api import (
    BusError,
    Consumer,
    NewRecord,
    OffsetGone,
    ProducerFenced,
    Record,
    TopicPartition,
    TopicSpec,
    TransactionState,
    UnknownTopic,
    partition_of,
)
from tests.kit.waiting import eventually

Read = Callable[..., Sequence[Record]]

A0 = TopicPartition("a", 0)


def a_record(value: bytes = b"v", *, topic: str = "a", key: bytes = b"k", partition: int | None = None) -> NewRecord:
    return NewRecord(topic, key, value, partition=partition)


def a_reader(world: Any, *places: TopicPartition) -> Consumer:
    reader: Consumer = world.bus.consumer([place.topic for place in places])
    reader.assign(dict.fromkeys(places, 0))
    return reader


def test_records_come_back_in_order_and_whole(world: Any, read: Read) -> None:
    world.create("a")
    before_ms = time.time() * 1000
    world.write(NewRecord("a", b"k", b"1", {"h": b"\x00x", "": b""}), NewRecord("a", b"", b""))
    world.write(NewRecord("a", b"\xff", b"3"))
    records = read(a_reader(world, A0), 3)
    assert [(each.key, each.value, dict(each.headers)) for each in records] == [
        (b"k", b"1", {"h": b"\x00x", "": b""}),
        (b"", b"", {}),
        (b"\xff", b"3", {}),
    ]
    assert {(each.topic, each.partition) for each in records} == {("a", 0)}
    offsets = [each.offset for each in records]
    assert offsets[0] == 0 and offsets == sorted(set(offsets))
    assert all(before_ms - 2 <= each.append_time_ms <= time.time() * 1000 + 2 for each in records)


def test_a_key_decides_the_partition_and_keeps_its_order(world: Any, read: Read) -> None:
    world.create("a", partitions=4)
    world.write(*[a_record(b"%d" % n, key=b"key-%d" % (n % 10)) for n in range(200)])
    records = read(a_reader(world, *[TopicPartition("a", n) for n in range(4)]), 200)
    assert all(each.partition == partition_of(each.key, 4) for each in records)
    for n in range(10):
        mine = [int(each.value) for each in records if each.key == b"key-%d" % n]
        assert mine == list(range(n, 200, 10))


def test_a_partitioner_chooses_where_a_record_names_no_partition(world: Any, read: Read) -> None:
    world.create("a", partitions=3)
    bus = world.open(partitioner=lambda topic, key, count: {b"x": 2}.get(key, len(topic) % count))
    world.write(a_record(b"2", key=b"x"), a_record(b"1"), a_record(b"0", partition=0), producer=bus.producer("p"))
    records = read(a_reader(world, *[TopicPartition("a", n) for n in range(3)]), 3)
    assert {each.partition: each.value for each in records} == {0: b"0", 1: b"1", 2: b"2"}


def test_a_consumer_that_does_not_subscribe_reads_what_it_is_assigned_and_commits_for_its_group(
    world: Any, read: Read
) -> None:
    world.create("a", partitions=2)
    world.write(*[a_record(b"%d" % n, partition=n % 2) for n in range(4)])
    reader = world.bus.consumer(["a"], group="g", subscribes=False)
    assert reader.poll(10, 0) == []
    at = TopicPartition("a", 1)
    reader.assign({at: 0})
    assert [each.value for each in read(reader, 2)] == [b"1", b"3"]
    producer = world.bus.producer("g.1")
    producer.begin()
    producer.send_offsets(reader, {at: 2})
    producer.commit()
    assert world.bus.committed("g", [at, A0]) == {at: 2, A0: None}
    # No member: another reads the same partition for the same group, and only a transactional id keeps it out.
    second = world.open().consumer(["a"], group="g", subscribes=False)
    second.assign({at: 1})
    assert [each.value for each in read(second, 1)] == [b"3"]


def test_a_given_partition_is_kept_and_an_impossible_one_refused(world: Any, read: Read) -> None:
    world.create("a", partitions=2)
    world.write(a_record(b"zero", partition=0), a_record(b"one", partition=1))
    records = read(a_reader(world, A0, TopicPartition("a", 1)), 2)
    assert {each.partition: each.value for each in records} == {0: b"zero", 1: b"one"}
    producer = world.bus.producer("p")
    producer.begin()
    with pytest.raises(BusError, match="2 partitions"):
        producer.send([a_record(partition=2)])


def test_nothing_shows_before_commit(world: Any, read: Read) -> None:
    world.create("a", "b")
    reader = a_reader(world, A0, TopicPartition("b", 0))
    producer = world.bus.producer("p")
    producer.begin()
    producer.send([a_record(), a_record(topic="b")])
    assert not reader.poll(10, 300)
    assert world.bus.end_offsets([A0]) == {A0: 0}
    producer.commit()
    assert {each.topic for each in read(reader, 2)} == {"a", "b"}


def test_an_aborted_transaction_never_shows(world: Any, read: Read) -> None:
    world.create("a")
    producer = world.bus.producer("p")
    producer.begin()
    producer.send([a_record(b"dropped")])
    producer.abort()
    world.write(a_record(b"kept"), producer=producer)
    assert [each.value for each in read(a_reader(world, A0), 1)] == [b"kept"]


def test_closing_a_producer_aborts_what_is_open(world: Any, read: Read) -> None:
    world.create("a")
    producer = world.bus.producer("p")
    producer.begin()
    producer.send([a_record(b"dropped")])
    producer.close()
    world.write(a_record(b"kept"))
    assert [each.value for each in read(a_reader(world, A0), 1)] == [b"kept"]


def test_an_empty_transaction_commits(world: Any) -> None:
    world.create("a")
    world.write()
    assert world.bus.end_offsets([A0]) == {A0: 0}


def test_offsets_commit_with_the_outputs_or_not_at_all(world: Any, read: Read) -> None:
    world.create("a", "b")
    world.write(a_record(b"1"), a_record(b"2"))
    consumer = world.bus.consumer(["a"], group="g", member_id="m")
    first = read(consumer, 2)[0]
    producer = world.bus.producer("p")
    producer.begin()
    producer.send([a_record(topic="b")])
    producer.send_offsets(consumer, {A0: first.offset + 1})
    producer.abort()
    assert world.bus.committed("g", [A0]) == {A0: None}
    producer.begin()
    producer.send([a_record(topic="b")])
    producer.send_offsets(consumer, {A0: first.offset + 1})
    producer.commit()
    assert world.bus.committed("g", [A0]) == {A0: first.offset + 1}
    consumer.close()
    again = world.open().consumer(["a"], group="g", member_id="m")
    assert [each.value for each in read(again, 1)] == [b"2"]


def test_a_consumer_commits_by_itself(world: Any, read: Read) -> None:
    world.create("a")
    world.write(a_record(b"1"), a_record(b"2"))
    consumer = world.bus.consumer(["a"], group="g")
    first = read(consumer, 2)[0]
    consumer.commit({A0: first.offset + 1})
    assert world.bus.committed("g", [A0]) == {A0: first.offset + 1}
    assert world.bus.committed("other", [A0]) == {A0: None}


def test_a_newer_producer_fences_the_older(world: Any, read: Read) -> None:
    world.create("a")
    older = world.bus.producer("p")
    older.begin()
    older.send([a_record(b"zombie")])
    newer = world.open().producer("p")
    with pytest.raises(ProducerFenced, match="stop this process"):
        older.commit()
    world.write(a_record(b"kept"), producer=newer)
    assert [each.value for each in read(a_reader(world, A0), 1)] == [b"kept"]


def test_a_transaction_out_of_turn_is_refused(world: Any) -> None:
    world.create("a")
    producer = world.bus.producer("p")
    consumer = world.bus.consumer(["a"], group="g")
    for call in (
        producer.commit,
        producer.abort,
        lambda: producer.send([a_record()]),
        lambda: producer.send_offsets(consumer, {A0: 0}),
    ):
        with pytest.raises(TransactionState, match="begin"):
            call()
    producer.begin()
    with pytest.raises(TransactionState, match="commit or abort"):
        producer.begin()


def test_an_unknown_topic_is_named(world: Any) -> None:
    unknown = TopicPartition("missing", 0)
    producer = world.bus.producer("p")
    producer.begin()
    calls: tuple[Callable[[], object], ...] = (
        lambda: world.bus.consumer(["missing"]),
        lambda: producer.send([a_record(topic="missing")]),
        lambda: world.bus.end_offsets([unknown]),
        lambda: world.bus.beginning_offsets([unknown]),
        lambda: world.bus.committed("g", [unknown]),
    )
    for call in calls:
        with pytest.raises(UnknownTopic, match=r"missing.*create it first"):
            call()


def test_topics_are_created_once_and_listed(world: Any) -> None:
    world.create("a")
    world.bus.create_topics([TopicSpec("a"), TopicSpec("b", 3), TopicSpec("c", 1)])
    assert dict(world.bus.topics()) == {"a": 1, "b": 3, "c": 1}
    assert dict(world.open().topics()) == {"a": 1, "b": 3, "c": 1}
    with pytest.raises(BusError, match="exists with 3 partitions, not 2"):
        world.bus.create_topics([TopicSpec("b", 2)])
    with pytest.raises(BusError, match="at least one partition"):
        world.bus.create_topics([TopicSpec("d", 0)])


def test_removed_records_are_gone_and_offsets_go_on(world: Any, read: Read) -> None:
    world.create("a", "b")
    world.write(*[a_record(b"%d" % n) for n in range(10)], a_record(topic="b"))
    assert world.bus.beginning_offsets([A0]) == {A0: 0}
    world.bus.delete_before({A0: 4})
    world.bus.delete_before({A0: 4, TopicPartition("b", 0): 0})
    world.bus.delete_before({A0: 2})
    assert world.bus.beginning_offsets([A0, TopicPartition("b", 0)]) == {A0: 4, TopicPartition("b", 0): 0}
    reader = world.bus.consumer(["a"])
    reader.assign({A0: 4})
    assert [each.value for each in read(reader, 6)] == [b"%d" % n for n in range(4, 10)]
    # What was just committed may not be readable yet, but it is there.
    end = world.bus.end_offsets([A0], with_uncommitted=True)[A0]
    world.bus.delete_before({A0: end})
    assert world.bus.beginning_offsets([A0]) == {A0: end}
    eventually(lambda: world.bus.end_offsets([A0]) == {A0: end})
    assert world.bus.offsets_for_times({A0: 0}) == {A0: end}
    world.write(a_record(b"new"))
    (new,) = read(reader, 1)
    assert (new.value, new.offset) == (b"new", end)
    with pytest.raises(BusError, match="cannot be removed"):
        world.bus.delete_before({A0: end + 100})


def poll_to_the_end(reader: Consumer) -> None:
    for _ in range(100):
        assert reader.poll(10, 200) == []


def test_a_reader_before_the_oldest_record_is_told_and_skips_nothing(world: Any) -> None:
    world.create("a")
    world.write(*[a_record(b"%d" % n) for n in range(10)])
    world.bus.delete_before({A0: 5})
    reader = world.bus.consumer(["a"])
    reader.assign({A0: 3})
    with pytest.raises(OffsetGone, match="a/0 was to be read from offset 3"):
        poll_to_the_end(reader)


def test_a_group_that_fell_behind_what_is_kept_is_told_and_skips_nothing(world: Any, read: Read) -> None:
    world.create("a")
    world.write(*[a_record(b"%d" % n) for n in range(10)])
    member = world.bus.consumer(["a"], group="g", member_id="m")
    read(member, 10)
    member.commit({A0: 3})
    member.close()
    world.bus.delete_before({A0: 5})
    again = world.bus.consumer(["a"], group="g", member_id="m")
    with pytest.raises(OffsetGone, match="a/0 was to be read from offset 3"):
        poll_to_the_end(again)


def test_a_reader_of_an_emptied_partition_is_told(world: Any) -> None:
    world.create("a")
    world.write(*[a_record(b"%d" % n) for n in range(10)])
    world.bus.delete_before({A0: world.bus.end_offsets([A0], with_uncommitted=True)[A0]})
    with pytest.raises(OffsetGone):
        poll_to_the_end(a_reader(world, A0))


def test_an_open_transaction_holds_back_only_the_committed_end(world: Any) -> None:
    world.create("a")
    world.write(a_record(b"0"))
    held = world.bus.producer("held")
    held.begin()
    held.send([a_record(b"open")])
    world.write(a_record(b"1"))
    end = world.bus.end_offsets([A0])[A0]
    behind_all = world.bus.end_offsets([A0], with_uncommitted=True)[A0]
    held.commit()
    held.close()
    assert behind_all >= max(2, end)


def test_a_deleted_topic_is_gone_with_its_records(world: Any) -> None:
    world.create("a", "b")
    world.write(a_record())
    world.bus.delete_topics(["a", "never-was"])
    assert dict(world.bus.topics()) == {"b": 1}
    world.create("a")
    assert world.bus.end_offsets([A0]) == {A0: 0}


def test_latest_starts_behind_what_is_there(world: Any, read: Read) -> None:
    world.create("a")
    world.write(a_record(b"before"))
    consumer = world.bus.consumer(["a"], group="g", start="latest")
    for _ in range(50):
        assert not consumer.poll(10, 200)
        if consumer.assignment():
            break
    world.write(a_record(b"after"))
    assert [each.value for each in read(consumer, 1)] == [b"after"]


def test_assign_seek_and_position(world: Any, read: Read) -> None:
    world.create("a", "b")
    world.write(*[a_record(b"%d" % n) for n in range(5)])
    consumer = world.bus.consumer([])
    assert not consumer.assignment()
    assert not consumer.poll(1, 0)
    consumer.assign({A0: 2})
    assert consumer.assignment() == frozenset([A0])
    assert consumer.position(A0) == 2
    assert [each.value for each in read(consumer, 3)] == [b"2", b"3", b"4"]
    consumer.seek(A0, 1)
    assert consumer.position(A0) == 1
    assert read(consumer, 4)[0].value == b"1"
    other = TopicPartition("b", 0)
    for ask in (consumer.position, partial(consumer.seek, offset=0)):
        with pytest.raises(BusError, match=r"b\[0\] is not assigned"):
            ask(other)


def test_a_poll_returns_no_more_than_asked(world: Any, read: Read) -> None:
    world.create("a", "b")
    world.write(*[a_record(b"%d" % n) for n in range(10)], *[a_record(b"x", topic="b") for n in range(10)])
    reader = a_reader(world, A0, TopicPartition("b", 0))
    seen: list[Record] = []
    for _ in range(200):
        got = reader.poll(3, 100)
        assert len(got) <= 3
        seen += got
        if len(seen) == 20:
            break
    assert Counter(each.topic for each in seen) == {"a": 10, "b": 10}
    assert [each.value for each in seen if each.topic == "a"] == [b"%d" % n for n in range(10)]


def test_a_reader_of_everything_stands_at_the_end(world: Any, read: Read) -> None:
    world.create("a")
    world.write(a_record(), a_record())
    world.write(a_record())
    reader = a_reader(world, A0)
    read(reader, 3)
    end = world.bus.end_offsets([A0])[A0]
    for _ in range(50):
        if reader.position(A0) == end:
            break
        assert not reader.poll(1, 100)
    assert reader.position(A0) == end
    assert world.bus.beginning_offsets([A0]) == {A0: 0}


def test_offsets_by_time(world: Any, read: Read) -> None:
    world.create("a")
    world.write(a_record(b"1"), a_record(b"2"))
    wait_for_the_next_millisecond()
    middle_ms = time.time_ns() // 1_000_000
    world.write(a_record(b"3"))
    # A Kafka transaction can be read, and found by its time, only once its marker is written.
    assert len(read(a_reader(world, A0), 3)) == 3
    assert world.bus.offsets_for_times({A0: 0}) == {A0: 0}
    reader = a_reader(world, A0)
    reader.assign(world.bus.offsets_for_times({A0: middle_ms}))
    assert [each.value for each in read(reader, 1)] == [b"3"]
    assert world.bus.offsets_for_times({A0: middle_ms + 60_000}) == world.bus.end_offsets([A0])


def wait_for_the_next_millisecond() -> None:
    start_ms = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 < start_ms + 2:
        pass


def test_two_readers_without_a_group_read_everything_each(world: Any, read: Read) -> None:
    world.create("a")
    world.write(a_record(b"1"), a_record(b"2"))
    assert len(read(a_reader(world, A0), 2)) == len(read(a_reader(world, A0), 2)) == 2


def test_a_consumer_without_a_group_commits_nothing(world: Any) -> None:
    world.create("a")
    reader = a_reader(world, A0)
    producer = world.bus.producer("p")
    producer.begin()
    with pytest.raises(BusError, match="group"):
        producer.send_offsets(reader, {A0: 0})
    with pytest.raises(BusError, match="group"):
        reader.commit({A0: 0})
    with pytest.raises(BusError, match="group"):
        world.bus.consumer(["a"], member_id="m")


def poll_until(consumers: Sequence[Consumer], is_done: Callable[[], bool]) -> list[Record]:
    found: list[Record] = []

    def poll() -> None:
        for consumer in consumers:
            found.extend(consumer.poll(1_000, 20))

    eventually(is_done, within_s=60.0, step=poll)
    return found


def test_a_group_shares_partitions_and_hands_them_on(world: Any) -> None:
    world.create("a", partitions=4)
    places = frozenset(TopicPartition("a", n) for n in range(4))
    first = world.bus.consumer(["a"], group="g")
    poll_until([first], lambda: first.assignment() == places)
    second = world.open().consumer(["a"], group="g")
    poll_until([first, second], lambda: len(first.assignment()) == len(second.assignment()) == 2)
    assert first.assignment() | second.assignment() == places
    second.close()
    poll_until([first], lambda: first.assignment() == places)


def test_a_member_whose_place_was_taken_cannot_commit(world: Any, read: Read) -> None:
    world.create("a")
    world.write(a_record())
    zombie = world.bus.consumer(["a"], group="g", member_id="m")
    read(zombie, 1)
    successor = world.open().consumer(["a"], group="g", member_id="m")
    read(successor, 1)
    producer = world.open().producer("p")
    producer.begin()
    with pytest.raises(BusError):
        producer.send_offsets(zombie, {A0: 1})
        producer.commit()
    with pytest.raises(BusError):
        zombie.commit({A0: 1})
    assert world.bus.committed("g", [A0]) == {A0: None}
    with pytest.raises(BusError):
        poll_until([zombie, successor], lambda: False)
    successor.commit({A0: 1})
    assert world.bus.committed("g", [A0]) == {A0: 1}


def test_what_was_closed_says_so(world: Any) -> None:
    world.create("a")
    consumer = world.bus.consumer(["a"], group="g")
    producer = world.bus.producer("p")
    for closed in (consumer, producer, consumer, producer):
        closed.close()
    with pytest.raises(BusError, match="was closed"):
        consumer.poll(1, 0)
    with pytest.raises(BusError, match="was closed"):
        consumer.commit({A0: 1})
    with pytest.raises(TransactionState, match="was closed"):
        producer.begin()


def test_a_bus_lets_go_of_the_clients_that_were_closed(world: Any) -> None:
    world.bus.create_topics([TopicSpec("a")])
    reader, writer = world.bus.consumer(["a"]), world.bus.producer("w")
    closed = [weakref.ref(reader), weakref.ref(writer)]
    reader.close()
    writer.close()
    del reader, writer
    world.bus.consumer(["a"])
    gc.collect()
    assert [client() for client in closed] == [None, None]


def test_a_static_member_that_comes_back_takes_over_at_once(world: Any, read: Read) -> None:
    world.create("a", partitions=2)
    world.write(a_record(b"1", partition=0), a_record(b"2", partition=1))
    places = frozenset(TopicPartition("a", n) for n in range(2))
    first = world.open().consumer(["a"], group="g", member_id="m")
    records = read(first, 2)
    first.commit({TopicPartition("a", each.partition): each.offset + 1 for each in records})
    first.close()
    started = time.monotonic()
    again = world.open().consumer(["a"], group="g", member_id="m")
    poll_until([again], lambda: again.assignment() == places)
    assert time.monotonic() - started < 4
    world.write(a_record(b"3", partition=1))
    assert [each.value for each in read(again, 1)] == [b"3"]


def test_a_poll_waits_out_its_time_and_a_commit_wakes_it(world: Any, read: Read) -> None:
    world.create("a")
    reader = a_reader(world, A0)
    read_started = time.monotonic()
    assert not reader.poll(1, 300)
    assert time.monotonic() - read_started >= 0.29
    other = world.open().producer("other")
    writer = threading.Timer(0.3, lambda: world.write(a_record(b"ring"), producer=other))
    writer.start()
    started = time.monotonic()
    assert [each.value for each in reader.poll(1, 15_000)] == [b"ring"]
    assert 0.2 < time.monotonic() - started < 5
    writer.join()


def test_large_values_and_large_transactions(world: Any, read: Read) -> None:
    world.create("a")
    large = bytes(range(256)) * 12_000
    world.write(a_record(large), *[a_record(b"%d" % n) for n in range(20_000)])
    records = read(a_reader(world, A0), 20_001)
    assert records[0].value == large
    assert [int(each.value) for each in records[1:]] == list(range(20_000))


def test_prefixes_keep_sessions_apart(world: Any, read: Read) -> None:
    one, other = world.open(prefix=world.prefix + "one."), world.open(prefix=world.prefix + "other.")
    for bus in (one, other):
        bus.create_topics([TopicSpec("a")])
    producers = [one.producer("p"), other.producer("p")]
    for number, producer in enumerate(producers):
        producer.begin()
        producer.send([a_record(b"%d" % number)])
    for producer in producers:
        producer.commit()
    for number, bus in enumerate((one, other)):
        consumer = bus.consumer(["a"], group="g", member_id="m")
        records = read(consumer, 1)
        assert [(each.topic, each.value) for each in records] == [("a", b"%d" % number)]
        assert consumer.assignment() == frozenset([A0])
        assert dict(bus.topics()) == {"a": 1}
        consumer.commit({A0: 1})
        assert bus.committed("g", [A0]) == {A0: 1}
    assert world.bus.committed("g", []) == {}
