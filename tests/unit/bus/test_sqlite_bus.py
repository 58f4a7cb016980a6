"""What only the SQLite bus has to fear: full disks, foreign files, dead members, long paths, idle processor time."""

from __future__ import annotations

import ctypes
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from libs.bus.api import BusError, BusFull, BusLost, BusUnavailable, NewRecord, TopicPartition, TopicSpec, UnknownTopic
from libs.bus.sqlite import SqliteBus
from libs.bus.sqlite_log import _Checkpointer
from tests.kit.waiting import eventually

A0 = TopicPartition("a", 0)
REPOSITORY = Path(__file__).resolve().parents[3]


def write(bus: SqliteBus, *values: bytes) -> None:
    producer = bus.producer("p")
    producer.begin()
    producer.send(NewRecord("a", b"k", value) for value in values)
    try:
        producer.commit()
    finally:
        producer.close()


def noise(seed: int, size: int) -> bytes:
    """Return bytes that cannot be compressed."""
    return random.Random(seed).randbytes(size)


def fill(bus: SqliteBus, size: int) -> int:
    """Commit transactions of two records until the bus is full; return how many were acknowledged."""
    for done in range(10_000):
        try:
            write(bus, b"x" + noise(done, size), b"y" + noise(done, size))
        except BusFull as full:
            assert "has no room left" in str(full) and "nothing of the transaction was committed" in str(full)
            assert str(bus._log.path) in str(full) and "free space" in str(full)
            return done
    raise AssertionError("it never was full")


def test_a_bus_past_its_bound_refuses_whole_transactions_and_goes_on_with_room(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    with SqliteBus(path, max_bytes=1_000_000) as bus:
        bus.create_topics([TopicSpec("a")])
        done = fill(bus, 30_000)
        assert done > 5
        assert bus.end_offsets([A0]) == {A0: 2 * done}
    with SqliteBus(path) as bus:
        assert bus.end_offsets([A0]) == {A0: 2 * done}
        write(bus, b"again")
        assert bus.end_offsets([A0]) == {A0: 2 * done + 1}


def test_a_commit_refused_for_room_can_be_repeated_when_there_is_some(tmp_path: Path) -> None:
    with SqliteBus(tmp_path / "bus.db", max_bytes=1_000_000) as bus:
        bus.create_topics([TopicSpec("a"), TopicSpec("ballast")])
        ballast = bus.producer("ballast")
        ballast.begin()
        ballast.send([NewRecord("ballast", b"k", noise(1, 600_000))])
        ballast.commit()
        producer = bus.producer("p")
        producer.begin()
        producer.send([NewRecord("a", b"k", noise(2, 600_000))])
        with pytest.raises(BusFull):
            producer.commit()
        bus.delete_topics(["ballast"])
        producer.commit()
        assert bus.end_offsets([A0]) == {A0: 1}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of two megabytes."""
    place = tmp_path / "small"
    place.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if not sys.platform.startswith("linux") or libc.mount(b"tmpfs", bytes(place), b"tmpfs", 0, b"size=2m") != 0:
        pytest.skip("cannot mount a small file system here: needs Linux and root")
    yield place
    libc.umount2(bytes(place), 2)


def test_a_full_disk_refuses_whole_transactions_and_loses_nothing(small_disk: Path) -> None:
    path = small_disk / "bus.db"
    with SqliteBus(path) as bus:
        bus.create_topics([TopicSpec("a")])
        done = fill(bus, 30_000)
        assert done > 5
        assert bus.end_offsets([A0]) == {A0: 2 * done}
        reader = bus.consumer([])
        reader.assign({A0: 0})
        assert [each.value[:1] for each in reader.poll(10_000, 0)] == [b"x", b"y"] * done


def test_a_full_disk_refuses_a_new_bus(small_disk: Path) -> None:
    (small_disk / "ballast").write_bytes(b"")
    with pytest.raises(OSError), (small_disk / "ballast").open("r+b", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 4096)
    with pytest.raises(BusFull, match="free space"):
        SqliteBus(small_disk / "bus.db").create_topics([TopicSpec("a")])


def test_a_file_that_is_no_bus_is_refused(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("these are notes, longer than a header of a database would be " * 20)
    with pytest.raises(BusError, match=r"notes\.txt is not a bus file.*name another path"):
        SqliteBus(text)
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    with pytest.raises(BusError, match="is not a bus file of format 2"):
        SqliteBus(foreign)
    assert text.read_text().startswith("these are notes")


def test_a_path_that_cannot_hold_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(BusUnavailable, match="folder cannot be used"):
        SqliteBus(tmp_path / "folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(BusUnavailable, match=r"file/bus\.db cannot be used"):
        SqliteBus(tmp_path / "file" / "bus.db")


def test_what_was_committed_is_there_after_opening_again(tmp_path: Path) -> None:
    with SqliteBus(tmp_path / "bus.db") as bus:
        bus.create_topics([TopicSpec("a")])
        write(bus, b"1", b"2")
    with SqliteBus(tmp_path / "bus.db") as bus:
        assert bus.end_offsets([A0]) == {A0: 2}


def test_a_long_path_still_has_wakeup_sockets(tmp_path: Path) -> None:
    path = tmp_path / ("long" * 40) / "bus.db"
    with SqliteBus(path) as bus, SqliteBus(path) as other:
        bus.create_topics([TopicSpec("a")])
        reader = other.consumer([])
        reader.assign({A0: 0})
        write(bus, b"1")
        assert reader._wakeup.wait(1_000)
        assert [each.value for each in reader.poll(10, 0)] == [b"1"]
        assert not Path(f"{path}-wakeups").exists()


def test_a_bus_that_was_moved_wakes_its_readers_at_its_new_place(tmp_path: Path) -> None:
    with SqliteBus(tmp_path / "old" / "bus.db") as bus:
        bus.create_topics([TopicSpec("a")])
    (tmp_path / "old").rename(tmp_path / "new")
    (tmp_path / "link").symlink_to(tmp_path / "new")
    with SqliteBus(tmp_path / "new" / "bus.db") as bus, SqliteBus(tmp_path / "link" / "bus.db") as other:
        reader = other.consumer([])
        reader.assign({A0: 0})
        write(bus, b"1")
        assert reader._wakeup.wait(1_000)
    assert not (tmp_path / "old").exists()


def test_a_topic_deleted_under_its_reader_and_writer_is_named(tmp_path: Path) -> None:
    with SqliteBus(tmp_path / "bus.db") as bus, SqliteBus(tmp_path / "bus.db") as other:
        bus.create_topics([TopicSpec("a")])
        reader = bus.consumer([])
        reader.assign({A0: 0})
        producer = bus.producer("p")
        producer.begin()
        producer.send([NewRecord("a", b"k", b"v")])
        other.delete_topics(["a"])
        with pytest.raises(UnknownTopic, match="was deleted"):
            reader.poll(1, 0)
        with pytest.raises(UnknownTopic, match="was deleted"):
            producer.commit()


MEMBER = """
import sys
from libs.bus.sqlite import SqliteBus
bus = SqliteBus(sys.argv[1])
consumer = bus.consumer(["a"], group="g", member_id=sys.argv[2] or None)
consumer.poll(1, 0)
print(len(consumer.assignment()), flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("member_id", "at_least_s"), [("", 0.0), pytest.param("static", 4.0, marks=pytest.mark.slow)])
def test_a_killed_members_partitions_pass_on(tmp_path: Path, member_id: str, at_least_s: float) -> None:
    path = tmp_path / "bus.db"
    with SqliteBus(path) as bus:
        bus.create_topics([TopicSpec("a", 4)])
        process = subprocess.Popen(
            [sys.executable, "-c", MEMBER, str(path), member_id],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        with process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"4\n"
            consumer = bus.consumer(["a"], group="g")
            assert len(consumer.assignment()) == 2
            process.kill()
            process.wait(timeout=20)
            killed = time.monotonic()
            eventually(lambda: len(consumer.assignment()) == 4, within_s=60.0, step=lambda: consumer.poll(1, 100))
        assert time.monotonic() - killed >= at_least_s


@pytest.mark.slow
def test_an_idle_reader_costs_little(tmp_path: Path) -> None:
    with SqliteBus(tmp_path / "bus.db") as bus:
        bus.create_topics([TopicSpec(f"topic-{n}") for n in range(20)])
        consumer = bus.consumer([f"topic-{n}" for n in range(20)], group="g", member_id="m")
        consumer.poll(1, 100)
        used = time.process_time()
        consumer.poll(1, 2_000)
        assert time.process_time() - used < 0.02


def test_a_lost_wakeup_is_made_up_for_by_the_next_look(tmp_path: Path) -> None:
    with SqliteBus(tmp_path / "bus.db") as bus, SqliteBus(tmp_path / "bus.db") as writer:
        bus.create_topics([TopicSpec("a")])
        reader = bus.consumer([])
        reader.assign({A0: 0})
        reader._wakeup._path.unlink()
        write(writer, b"unheard")
        started = time.monotonic()
        assert [each.value for each in reader.poll(1, 10_000)] == [b"unheard"]
        assert time.monotonic() - started < 3


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_file_removed_or_replaced_while_in_use_is_noticed_by_readers_and_writers(
    tmp_path: Path, *, is_replaced: bool
) -> None:
    path = tmp_path / "bus.db"
    with SqliteBus(path) as bus:
        bus.create_topics([TopicSpec("a")])
        producer, reader = bus.producer("writer"), bus.consumer(["a"], group="g", member_id="g-0")
        bus.ping()
        producer.begin()
        producer.send([NewRecord("a", b"k", b"v")])
        path.unlink()
        if is_replaced:
            path.write_bytes(b"")
        what = "was replaced" if is_replaced else "was removed"
        with pytest.raises(BusLost, match=what):
            producer.commit()
        with pytest.raises(BusLost, match=what):
            eventually(lambda: False, step=lambda: reader.poll(10, 100), within_s=30)
        with pytest.raises(BusLost, match=what):
            bus.ping()
    assert path.exists() == is_replaced


def test_a_write_ahead_log_removed_while_in_use_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    with SqliteBus(path) as bus:
        bus.create_topics([TopicSpec("a")])
        Path(f"{path}-wal").unlink()
        with pytest.raises(BusLost, match=r"bus\.db-wal was removed"):
            bus.ping()


def test_a_checkpoint_does_not_bring_back_a_file_that_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    with SqliteBus(path) as bus:
        bus.create_topics([TopicSpec("a")])
        path.unlink()
        with pytest.raises(sqlite3.OperationalError, match="unable to open"):
            _Checkpointer(path)._checkpoint()
    assert not path.exists()


def test_waiting_for_a_lock_that_somebody_holds_is_declared(tmp_path: Path) -> None:
    waits: list[str] = []

    @contextmanager
    def waiting() -> Iterator[None]:
        waits.append("began")
        held.release()
        yield
        waits.append("ended")

    with SqliteBus(tmp_path / "bus.db") as other, SqliteBus(tmp_path / "bus.db", waiting=waiting) as bus:
        other.create_topics([TopicSpec("a")])
        held = HeldLock(other)
        bus.create_topics([TopicSpec("b")])
    assert waits == ["began", "ended"]


class HeldLock:
    """Holds a bus's writer lock until released."""

    def __init__(self, bus: SqliteBus) -> None:
        self._stack = ExitStack()
        self._stack.enter_context(bus._log._writer_lock())

    def release(self) -> None:
        self._stack.close()
