"""Replicas share tasks: the same on the memory bus, the SQLite bus and a real Kafka, and no input lost or doubled."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import pytest

from libs.bus.api import Bus
from libs.clock import SystemClock
from libs.domain.bars import Bar
from libs.domain.events import Event
from libs.domain.features import FeatureVector
from libs.runtime.handler import Input
from libs.runtime.health import Heartbeat
from libs.runtime.hosting import TaskHost
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import Placement, Task, place_evenly
from libs.runtime.records import commit_records, read_topic, stamped_record
from libs.runtime.shell import CoreShell
from libs.runtime.verify import verify_service
from libs.wire import decode, encode, topics
from tests.kit.builders import a_bar
from tests.kit.buses import World
from tests.kit.golden import examples
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(300)

INSTRUMENTS = [f"COIN{number}USDT.BINANCE" for number in range(6)]
PLACEMENT = Placement(4, place_evenly(INSTRUMENTS, 4))
INPUTS = (Input(topics.BARS_CLOSED),)
LOGGER = configure_logging("features", level="critical")
A_VECTOR = next(event for event in examples().values() if isinstance(event, FeatureVector))


class NumberingCore:
    """Numbers the bars of its task, so that one that is lost, doubled or handled elsewhere shows in what follows."""

    def __init__(self) -> None:
        self.count = 0
        self.restores = 0

    def handle(self, event: Event) -> Sequence[Event]:
        assert isinstance(event, Bar)
        if event.trade_count == 666:
            raise RuntimeError("this bar cannot be handled")
        self.count += 1
        return [replace(A_VECTOR, event_id=f"{self.count}/{event.event_id}", instrument=event.instrument)]

    def snapshot(self) -> bytes:
        return b"%d" % self.count

    def restore(self, state: bytes) -> None:
        self.count = int(state)
        self.restores += 1


@contextmanager
def a_loop(
    task: Task, bus: Bus, on_progress: Callable[[], None], core: NumberingCore | None = None
) -> Iterator[CoreShell]:
    yield CoreShell(
        "features",
        core or NumberingCore(),
        INPUTS,
        bus,
        ServiceMetrics("features"),
        LOGGER,
        clock=SystemClock(),
        batch_max_records=5,
        snapshot_every_records=9,
        on_progress=on_progress,
        task=task,
    )


class Session:
    """Replicas of one service, stepped by the test, and what was published to them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.bus = world.open(partitioner=PLACEMENT.choose)
        self.bus.create_topics(
            spec
            for spec in PLACEMENT.topics()
            if spec.name.endswith(("bars.closed.v1", "features.v1", "features.vectors.v1"))
        )
        self.hosts: list[TaskHost] = []
        self.cores: dict[int, list[NumberingCore]] = defaultdict(list)
        self.published = 0

    @contextmanager
    def make_loop(self, task: Task, bus: Bus, on_progress: Callable[[], None]) -> Iterator[CoreShell]:
        core = NumberingCore()
        self.cores[task.partition].append(core)
        with a_loop(task, bus, on_progress, core) as loop:
            yield loop

    def add(self, member_id: str | None = None, *, has_standby: bool = False) -> TaskHost:
        host = TaskHost(
            "features",
            PLACEMENT,
            member_id,
            lambda _waiting: self.open_own(),
            self.make_loop,
            self.world.open(partitioner=PLACEMENT.choose),
            ServiceMetrics("features"),
            LOGGER,
            SystemClock(),
            on_progress=self.step,
            has_standby=has_standby,
        )
        host.open()
        self.hosts.append(host)
        return host

    def open_own(self) -> Bus:
        from libs.bus.open import open_bus

        return open_bus(self.world.url, prefix=self.world.prefix, partitioner=PLACEMENT.choose)

    def step(self) -> None:
        for host in self.hosts:
            host.step(1)

    def publish(self, each: int = 5) -> None:
        bars = [
            replace(a_bar(self.published + number), instrument=instrument, event_id=f"{instrument}/{number}")
            for number in range(self.published, self.published + each)
            for instrument in INSTRUMENTS
        ]
        self.published += each
        producer = self.bus.producer("bars")
        commit_records(producer, [stamped_record(encode(bar), "bars", 1) for bar in bars])
        producer.close()

    def vectors(self) -> list[str]:
        return [decode(record.topic, record.value).event_id for record in read_topic(self.bus, topics.FEATURE_VECTORS)]

    def await_all(self) -> None:
        eventually(
            lambda: len(self.vectors()) >= self.published * len(INSTRUMENTS), step=self.step, every_s=0.1, within_s=90.0
        )

    def await_shares(self, *shares: set[int]) -> None:
        eventually(
            lambda: sorted(sorted(host.partitions) for host in self.hosts) == sorted(map(sorted, shares)),
            step=self.step,
            within_s=60.0,
        )

    def check(self) -> None:
        """Every bar was numbered once, in its own task, and replay gives the same."""
        found = self.vectors()
        assert len(found) == len(set(found)) == self.published * len(INSTRUMENTS)
        numbers: dict[int, list[int]] = {}
        for event_id in found:
            number, instrument, _ = event_id.split("/")
            numbers.setdefault(PLACEMENT.instrument_partition(instrument), []).append(int(number))
        assert numbers == {
            partition: list(range(1, self.published * count + 1))
            for partition, count in Counter(PLACEMENT.instruments.values()).items()
        }
        for task in PLACEMENT.tasks("features"):
            verified = verify_service("features", NumberingCore(), INPUTS, self.bus, task)
            assert verified.difference is None
            assert verified.service == task.name
            assert verified.outputs == len(numbers[task.partition])


@pytest.fixture
def session(world: World) -> Iterator[Session]:
    made = Session(world)
    yield made
    for host in made.hosts:
        host.release()


def test_replicas_that_come_and_go_share_the_tasks_and_change_no_output(session: Session) -> None:
    first = session.add()
    assert first.partitions == {0, 1, 2, 3}
    session.publish()
    session.await_all()
    session.add()
    session.await_shares({0, 1}, {2, 3})
    session.publish()
    session.await_all()
    session.hosts.remove(first)
    first.close()
    session.await_shares({0, 1, 2, 3})
    session.publish()
    session.await_all()
    session.check()


def test_a_static_member_that_comes_back_has_its_tasks_again(session: Session) -> None:
    first, second = session.add("features-0"), session.add("features-1")
    session.await_shares({0, 1}, {2, 3})
    shares = {first: first.partitions, second: second.partitions}
    session.publish()
    session.hosts.remove(second)
    second.release()
    again = session.add("features-1")
    assert (first.partitions, again.partitions) == (shares[first], shares[second])
    session.await_all()
    session.check()


def test_a_standby_follows_the_tasks_of_others_and_goes_on_with_what_it_has(session: Session) -> None:
    first, second = session.add("features-0"), session.add("features-1", has_standby=True)
    session.await_shares({0, 1}, {2, 3})
    others = sorted(first.partitions)
    session.publish(12)
    session.await_all()

    def is_followed() -> bool:
        return all(session.cores[number][-1].count == session.cores[number][0].count for number in others)

    eventually(is_followed, step=session.step, within_s=60.0)
    standby = {number: (session.cores[number][-1], session.cores[number][-1].restores) for number in others}
    session.hosts.remove(first)
    first.release()
    session.await_shares({0, 1, 2, 3})
    # Neither made nor restored anew: it is the core that followed.
    assert {number: (session.cores[number][-1], session.cores[number][-1].restores) for number in others} == standby
    session.publish()
    session.await_all()
    session.check()
    assert second.partitions == {0, 1, 2, 3}


def test_an_owner_that_was_fenced_drops_its_task_and_takes_it_back_where_the_group_says_so(session: Session) -> None:
    host = session.add()
    session.publish()
    session.await_all()
    session.bus.producer("features.2").close()
    session.publish()
    eventually(lambda: host.partitions == {0, 1, 3}, step=session.step, within_s=30.0)
    session.await_all()
    session.check()


def test_a_task_that_fails_ends_its_replica(session: Session) -> None:
    host = session.add()
    producer = session.bus.producer("bars")
    commit_records(producer, [stamped_record(encode(replace(a_bar(1), trade_count=666)), "bars", 1)])
    session.hosts.remove(host)

    def fails() -> bool:
        try:
            host.step(10)
        except RuntimeError as error:
            return "cannot be handled" in str(error)
        return False

    eventually(fails, within_s=30.0)
    host.release()


def test_a_task_that_stands_still_keeps_its_replica_from_making_progress(session: Session) -> None:
    stuck = threading.Event()

    class StuckLoop:
        def follow(self, _timeout_ms: int) -> int:
            """There is nothing to follow."""
            return 0

        def open(self) -> None:
            """There is nothing to recover."""

        def step(self, _timeout_ms: int) -> int:
            return int(stuck.wait(60.0))

        def close(self) -> None:
            """There is nothing to close."""

        def release(self) -> None:
            """There is nothing to let go of."""

    @contextmanager
    def a_stuck_loop(_task: Task, _bus: Bus, _on_progress: Callable[[], None]) -> Iterator[StuckLoop]:
        yield StuckLoop()

    def make(task: Task, bus: Bus, on_progress: Callable[[], None]) -> AbstractContextManager[StuckLoop | CoreShell]:
        return a_stuck_loop(task, bus, on_progress) if task.partition == 1 else a_loop(task, bus, on_progress)

    heartbeat = Heartbeat(None, SystemClock())
    is_over = threading.Event()

    def run() -> None:
        with session.open_own() as bus:
            host = TaskHost(
                "features",
                PLACEMENT,
                None,
                lambda _waiting: session.open_own(),
                make,
                bus,
                ServiceMetrics("features"),
                LOGGER,
                SystemClock(),
            )
            host.open()
            while not is_over.is_set():
                host.step(1)
                heartbeat.beat()
            host.release()

    stepping = threading.Thread(target=run)
    stepping.start()
    eventually(lambda: heartbeat.age_s > 2.0, within_s=30.0)
    stuck.set()
    eventually(lambda: heartbeat.age_s < 1.0, within_s=30.0)
    is_over.set()
    stepping.join()
