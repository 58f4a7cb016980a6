"""Retention over running services, on the memory and the SQLite bus: what goes, what stays, what is said of it."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import structlog

from libs.bus.api import Bus, BusError, NewRecord, OffsetGone, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from libs.clock import SimulatedClock, SystemClock
from libs.domain.accounts import AccountState
from libs.domain.control import Alert, AuditEntry, ControlAction, ControlCommand, ControlState, Severity
from libs.domain.events import Event
from libs.runtime.handler import Input
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import ONE_PARTITION, Task
from libs.runtime.records import commit_records, read_last, read_topic
from libs.runtime.retention import Removal, RetentionPass, RetentionThread, RetentionTimes, SizedBus, apply_within
from libs.runtime.shell import CoreShell
from libs.runtime.snapshots import group_topics, partitions_of
from libs.runtime.verify import find_start, verify_service
from libs.wire import decode, decode_any, encode, topics
from libs.wire.records import SourceCursor, decode_core_snapshot, decode_source_cursor, encode_source_cursor
from tests.kit.builders import a_trade
from tests.kit.golden import examples
from tests.kit.waiting import eventually

_NAMES = itertools.count()
ACCOUNT_STATE = next(event for event in examples().values() if isinstance(event, AccountState))
MARKET = TopicPartition(topics.MARKET_EVENTS, 0)
ACCOUNTS = TopicPartition(topics.ACCOUNTS, 0)
JOURNAL = TopicPartition(topics.journal_topic("risk"), 0)
STATE = TopicPartition(topics.state_topic("risk"), 0)
INPUTS = tuple(Input(topic) for topic in group_topics("risk"))
A_YEAR_MS = 365 * topics.DAY_MS


class SummingCore:
    """Alerts with a running sum that depends on every input and its order."""

    def __init__(self) -> None:
        self.total = 1

    def handle(self, event: Event) -> Sequence[Event]:
        self.total = (self.total * 31 + len(event.event_id) + int(event.event_id.rpartition("-")[2])) % 1_000_003
        text = str(self.total)
        return [Alert(f"sum/{event.event_id}", event.event_time, "risk", "sum", Severity.INFO, True, text)]

    def snapshot(self) -> bytes:
        return str(self.total).encode()

    def restore(self, state: bytes) -> None:
        self.total = int(state)


@pytest.fixture(params=["memory", "sqlite"])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    address = f"memory:retention-{next(_NAMES)}" if request.param == "memory" else f"sqlite:{tmp_path / 'bus.db'}"
    with open_bus(address) as opened:
        opened.create_topics(TopicSpec(name) for name in topics.TOPICS)
        yield opened


def publish(bus: Bus, *events: Event) -> None:
    producer = bus.producer("test")
    producer.begin()
    for event in events:
        encoded = encode(event)
        producer.send([NewRecord(encoded.topic, encoded.key, encoded.payload, {"k": encoded.kind.encode()})])
    producer.commit()
    producer.close()


def publish_round(bus: Bus, number: int, size: int = 20) -> None:
    first = 1 + number * size
    numbers = range(first, first + size)
    trades = [replace(a_trade(number), event_id=f"t-{number}") for number in numbers]
    publish(bus, *trades, *(replace(ACCOUNT_STATE, event_id=f"a-{number}") for number in numbers))


class SilentCore:
    """Takes everything and says nothing."""

    def handle(self, _event: Event) -> Sequence[Event]:
        return []

    def snapshot(self) -> bytes:
        return b""

    def restore(self, state: bytes) -> None:
        pass


def a_shell(
    bus: Bus,
    service: str = "risk",
    *,
    snapshot_every: int = 10,
    snapshot_every_s: float = 3600.0,
    clock: SimulatedClock | None = None,
) -> CoreShell:
    shell = CoreShell(
        service,
        SummingCore() if service == "risk" else SilentCore(),
        [Input(topic) for topic in group_topics(service)],
        bus,
        ServiceMetrics(service),
        configure_logging(service, level="critical"),
        batch_max_records=7,
        snapshot_every_records=snapshot_every,
        snapshot_every_s=snapshot_every_s,
        clock=clock or SimulatedClock(0),
    )
    shell.open()
    return shell


def run_dry(shell: CoreShell) -> None:
    idle = 0
    while idle < 2:
        idle = 0 if shell.step(0) else idle + 1


def kill(shell: CoreShell) -> None:
    """End it as kill -9 does: nothing more is written."""
    shell.release()


def run_the_others(bus: Bus) -> None:
    """Let every service but risk, and the recorder, handle all there is."""
    for service in topics.CORE_SERVICES:
        if service != "risk":
            shell = a_shell(bus, service)
            run_dry(shell)
            shell.close()
    record_everything(bus)


def record_everything(bus: Bus) -> None:
    places = partitions_of(bus, group_topics("recorder"))
    recorder = bus.consumer([at.topic for at in places], group="recorder", member_id="recorder-0")
    # On Kafka a member commits only once it has joined.
    eventually(recorder.assignment, step=lambda: recorder.poll(1, 10), within_s=120.0)
    recorder.commit(bus.end_offsets(places))
    recorder.close()


def retain(bus: Bus) -> Removal:
    """Apply retention as if everything in the topics were over age, except what is kept for ever."""
    return RetentionPass(bus, in_ms(A_YEAR_MS)).apply()


def in_ms(ms: int) -> SimulatedClock:
    return SimulatedClock(time.time_ns() + ms * 1_000_000)


def begin_of(bus: Bus, at: TopicPartition) -> int:
    return bus.beginning_offsets([at])[at]


@pytest.mark.slow
def test_a_service_recovers_exactly_from_a_kill_after_any_number_of_retention_passes(bus: Bus) -> None:
    verified_from: dict[str, Any] | None = None
    for number in range(6):
        shell = a_shell(bus)
        publish_round(bus, number)
        while shell.step(0):
            pass
        kill(shell)
        # Each round is verified before it passes retention, from where the last one was cut or earlier.
        verified = verify_service("risk", SummingCore(), INPUTS, bus)
        assert verified.difference is None
        assert verified.outputs >= 20
        verified_from = verified.verified_from
        run_the_others(bus)
        retain(bus)
    assert verified_from is not None
    assert begin_of(bus, MARKET) >= 80
    assert begin_of(bus, ACCOUNTS) >= 80
    again = a_shell(bus)
    again.close()


@pytest.mark.slow
def test_journal_and_snapshots_are_bounded_by_the_inputs_that_survive(bus: Bus) -> None:
    lengths = []
    for number in range(8):
        publish_round(bus, number)
        shell = a_shell(bus)
        run_dry(shell)
        kill(shell)
        run_the_others(bus)
        retain(bus)
        ends = bus.end_offsets([JOURNAL, STATE])
        lengths.append((ends[JOURNAL] - begin_of(bus, JOURNAL), ends[STATE] - begin_of(bus, STATE)))
    assert max(lengths[2:]) <= max(lengths[:3])


def test_nothing_goes_that_a_group_has_not_read(bus: Bus) -> None:
    publish_round(bus, 0)
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    run_the_others(bus)
    publish_round(bus, 1)
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    removal = retain(bus)
    assert begin_of(bus, MARKET) <= 20
    assert begin_of(bus, ACCOUNTS) <= 20
    assert removal.held[MARKET].startswith(("group", "the newest snapshot"))


def test_what_a_group_that_never_read_was_to_read_stays(bus: Bus) -> None:
    publish_round(bus, 0)
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    removal = retain(bus)
    assert removal.begins == {}
    assert len(list(read_topic(bus, topics.MARKET_EVENTS))) == 20


def test_what_follows_the_newest_snapshot_stays_however_old(bus: Bus) -> None:
    publish_round(bus, 0)
    shell = a_shell(bus, snapshot_every=10_000)
    run_dry(shell)
    shell.close()
    publish_round(bus, 1)
    shell = a_shell(bus, snapshot_every=10_000)
    run_dry(shell)
    kill(shell)
    run_the_others(bus)
    removal = retain(bus)
    assert (begin_of(bus, MARKET), begin_of(bus, ACCOUNTS)) == (20, 20)
    assert removal.held[MARKET] == "the newest snapshot of risk"
    again = a_shell(bus)
    again.close()


def test_without_a_snapshot_everything_stays(bus: Bus) -> None:
    publish_round(bus, 0)
    shell = a_shell(bus, snapshot_every=10_000)
    run_dry(shell)
    kill(shell)
    run_the_others(bus)
    removal = retain(bus)
    assert begin_of(bus, MARKET) == begin_of(bus, JOURNAL) == 0
    assert "risk, which has no snapshot yet" in removal.held.values()


def test_a_service_that_does_not_run_keeps_nothing_that_it_would_write(bus: Bus) -> None:
    publish_round(bus, 0)
    alert = Alert("alert/1", 1, "monitoring", "stale", Severity.INFO, True, "")
    publish(bus, alert, replace(alert, event_id="alert/2"))
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    run_the_others(bus)
    assert retain(bus).begins[TopicPartition(topics.ALERTS, 0)] > 0


def test_snapshots_stay_as_long_as_what_another_service_holds_back(bus: Bus) -> None:
    for number in range(2):
        publish_round(bus, number)
        shell = a_shell(bus)
        run_dry(shell)
        shell.close()
        if number == 0:
            run_the_others(bus)
    record_everything(bus)
    # The others have not read the second round: all of it stays, and with it what risk is verified by.
    retain(bus)
    verified = verify_service("risk", SummingCore(), INPUTS, bus)
    assert verified.difference is None
    assert verified.outputs >= 40


def test_topics_kept_for_ever_keep_everything_and_the_newest_record_of_others_stays(bus: Bus) -> None:
    publish_round(bus, 0)
    publish(bus, next(event for event in examples().values() if isinstance(event, ControlState)))
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    run_the_others(bus)
    retain(bus)
    retain(bus)
    assert [name for name, topic in topics.TOPICS.items() if topic.retention_ms == 0 and _is_data(name)]
    for name, topic in topics.TOPICS.items():
        at = TopicPartition(name, 0)
        if topic.retention_ms == 0 and _is_data(name):
            assert begin_of(bus, at) == 0, name
        elif bus.end_offsets([at])[at] and not name.startswith("journal."):
            assert list(read_topic(bus, name)), name


def _is_data(name: str) -> bool:
    return not name.startswith(("journal.", "state."))


def test_ages_are_kept_and_can_be_shortened(bus: Bus) -> None:
    publish_round(bus, 0)
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    run_the_others(bus)
    in_a_day = in_ms(topics.DAY_MS)
    assert RetentionPass(bus, in_a_day).apply().begins == {}
    assert RetentionPass(bus, in_a_day, max_age_ms=topics.HOUR_MS).apply().begins[MARKET] == 19


def test_a_pass_knows_snapshots_that_came_after_the_last_one(bus: Bus) -> None:
    retention = RetentionPass(bus, in_ms(A_YEAR_MS))
    begins = []
    for number in range(4):
        publish_round(bus, number)
        shell = a_shell(bus)
        run_dry(shell)
        shell.close()
        run_the_others(bus)
        retention.apply()
        begins.append(begin_of(bus, MARKET))
    assert begins == [19, 39, 59, 79]


def test_a_source_keeps_its_last_cursor(bus: Bus) -> None:
    state = TopicPartition(topics.state_topic("ingestion"), 0)
    producer = bus.producer("ingestion")
    for number in range(5):
        cursor = encode_source_cursor(SourceCursor("ingestion", b"%d" % number))
        commit_records(producer, [NewRecord(state.topic, b"0", cursor, {}, 0)])
    retain(bus)
    last = read_last(bus, state.topic)
    assert begin_of(bus, state) == 4
    assert last is not None and decode_source_cursor(last.value).cursor == b"4"


def test_replay_starts_at_the_beginning_while_all_of_it_survives(bus: Bus) -> None:
    publish_round(bus, 0)
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    assert find_start(bus, Task("risk")).snapshot is None
    verified = verify_service("risk", SummingCore(), INPUTS, bus)
    assert (verified.difference, verified.verified_from, verified.outputs) == (None, None, 40)


def test_replay_says_from_where_it_could_verify(bus: Bus) -> None:
    for number in range(2):
        publish_round(bus, number)
        shell = a_shell(bus)
        run_dry(shell)
        shell.close()
    run_the_others(bus)
    bus.delete_before({MARKET: 10})
    start = find_start(bus, Task("risk"))
    assert start.snapshot is not None
    verified = verify_service("risk", SummingCore(), INPUTS, bus)
    assert verified.difference is None and verified.verified_from is not None
    assert verified.verified_from["inputs"][f"{topics.MARKET_EVENTS}/0"] >= 10
    assert 0 < verified.outputs < 80


@pytest.mark.parametrize("removed", [{MARKET: 5, ACCOUNTS: 5}, {TopicPartition(topics.ALERTS, 0): 5}])
def test_replay_starts_over_where_retention_removes_what_it_reads(bus: Bus, removed: dict[TopicPartition, int]) -> None:
    for number in range(2):
        publish_round(bus, number)
        shell = a_shell(bus)
        run_dry(shell)
        shell.close()
    waiting = [removed]

    def decode_and_retain(topic: str, payload: bytes) -> Any:
        if topic == JOURNAL.topic and waiting:
            bus.delete_before(waiting.pop())
        return decode_any(topic, payload)

    verified = verify_service("risk", SummingCore(), INPUTS, bus, decode=decode_and_retain)
    assert verified.difference is None and verified.verified_from is not None
    assert 0 < verified.outputs < 80


def test_replay_from_a_snapshot_still_finds_a_difference_and_a_surplus(bus: Bus) -> None:
    publish_round(bus, 0)
    shell = a_shell(bus)
    run_dry(shell)
    bus.delete_before({MARKET: 5})
    shell.close()

    class OtherCore(SummingCore):
        def handle(self, event: Event) -> Sequence[Event]:
            self.total += event.event_id == "t-18"
            return super().handle(event)

    assert verify_service("risk", OtherCore(), INPUTS, bus).difference is not None
    stray = encode(Alert("stray", 1, "risk", "sum", Severity.INFO, True, "7"))
    producer = bus.producer("someone")
    commit_records(producer, [NewRecord(stray.topic, stray.key, stray.payload, {"p": b"risk"})])
    surplus = verify_service("risk", SummingCore(), INPUTS, bus).difference
    assert surplus is not None and surplus.replayed == "nothing"


def test_replay_that_can_start_nowhere_says_why(bus: Bus) -> None:
    publish_round(bus, 0)
    shell = a_shell(bus, snapshot_every=10_000)
    run_dry(shell)
    kill(shell)
    bus.delete_before({MARKET: 5})
    with pytest.raises(BusError, match="risk cannot be replayed from anywhere"):
        verify_service("risk", SummingCore(), INPUTS, bus)


def test_inputs_removed_before_they_were_handled_stop_the_service(bus: Bus) -> None:
    publish_round(bus, 0)
    shell = a_shell(bus)
    run_dry(shell)
    shell.close()
    publish_round(bus, 1)
    bus.delete_before({MARKET: 30})
    with pytest.raises(OffsetGone, match=r"market.events.v1/0 was to be read from offset 20, .* offset 30"):
        a_shell(bus)


def test_inputs_removed_that_the_journal_names_stop_the_service(bus: Bus) -> None:
    publish_round(bus, 0)
    shell = a_shell(bus, snapshot_every=10_000)
    run_dry(shell)
    kill(shell)
    bus.delete_before({MARKET: 5})
    with pytest.raises(OffsetGone, match=r"market.events.v1/0 was to be read from offset 0"):
        a_shell(bus)


def test_a_snapshot_is_due_by_time_as_well_as_by_count(bus: Bus) -> None:
    clock = SimulatedClock(0)
    shell = a_shell(bus, snapshot_every=10_000, snapshot_every_s=60.0, clock=clock)
    publish_round(bus, 0)
    run_dry(shell)
    assert read_last(bus, STATE.topic) is None
    clock.advance(61)
    run_dry(shell)
    last = read_last(bus, STATE.topic)
    assert last is not None and decode_core_snapshot(last.value).positions[MARKET.topic, 0] == 20
    clock.advance(200)
    # Nothing was handled since: the last one says it all.
    run_dry(shell)
    assert bus.end_offsets([STATE])[STATE] == 1
    shell.close()


def test_recovery_handles_only_what_came_after_the_newest_snapshot(bus: Bus) -> None:
    for number in range(5):
        publish_round(bus, number)
    shell = a_shell(bus, snapshot_every=30)
    run_dry(shell)
    kill(shell)
    again = a_shell(bus)
    # At most a snapshot's distance and the batch that was in hand when it came due.
    assert 0 < again._snapshots.records <= 30 + 7
    again.close()


def test_a_log_over_its_bound_lets_records_go_at_a_younger_age(tmp_path: Path) -> None:
    with open_bus(f"sqlite:{tmp_path / 'bus.db'}") as bus:
        bus.create_topics(TopicSpec(name) for name in topics.TOPICS)
        publish(bus, *(a_trade(number, event_id="x" * 400 + f"-{number}") for number in range(3000)))
        run_the_others(bus)
        shell = a_shell(bus)
        run_dry(shell)
        shell.close()
        assert isinstance(bus, SizedBus)
        size = bus.size_bytes()
        retention = RetentionPass(bus, in_ms(topics.HOUR_MS))
        assert apply_within(retention, bus, size)[0].begins == {}
        removal, over = apply_within(retention, bus, size // 2)
        assert over == 0
        assert removal.begins[MARKET] > 0
        assert bus.size_bytes() <= size // 2


def test_what_is_needed_stays_though_the_log_is_over_its_bound(tmp_path: Path) -> None:
    with open_bus(f"sqlite:{tmp_path / 'bus.db'}") as bus:
        bus.create_topics(TopicSpec(name) for name in topics.TOPICS)
        publish(bus, *(a_trade(number, event_id="x" * 400 + f"-{number}") for number in range(3000)))
        assert isinstance(bus, SizedBus)
        removal, over = apply_within(RetentionPass(bus, in_ms(topics.HOUR_MS)), bus, bus.size_bytes() // 2)
        assert over > 0
        assert removal.begins == {}
        assert MARKET in removal.held


def test_a_log_that_outgrows_its_bound_halts_trading_once(tmp_path: Path) -> None:
    address = f"sqlite:{tmp_path / 'bus.db'}"
    with open_bus(address) as bus:
        bus.create_topics(ONE_PARTITION.topics())
        publish(bus, *(a_trade(number, event_id="x" * 400 + f"-{number}") for number in range(3000)))
        assert isinstance(bus, SizedBus)
        times = RetentionTimes(every_s=0.02, max_bytes=bus.size_bytes() // 2)
        metrics = ServiceMetrics("recorder")
        thread = RetentionThread(
            "recorder", lambda: open_bus(address), SystemClock(), times, metrics, structlog.get_logger()
        )

        def passes() -> float:
            return metrics.registry.get_sample_value("perpflow_retention_passes_total", {"service": "recorder"}) or 0.0

        with thread:
            eventually(lambda: passes() >= 3, within_s=60)
        (command,) = (decode(topics.CONTROL_COMMANDS, each.value) for each in read_topic(bus, topics.CONTROL_COMMANDS))
        (entry,) = (decode(topics.AUDIT, each.value) for each in read_topic(bus, topics.AUDIT))
    assert isinstance(command, ControlCommand)
    assert (command.account, command.action, command.issued_by) == ("*", ControlAction.HALT, "recorder")
    assert "over its bound and everything in it is still needed" in command.reason
    assert isinstance(entry, AuditEntry)
    assert entry.command_id == command.event_id
