"""The watch beside the service: file, variable and unreadable commands halt, a bus out of reach stops the process."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libs.bus.api import Bus, BusError, BusUnavailable, NewRecord, TopicPartition, TopicSpec
from libs.bus.open import open_bus
from libs.domain.control import ControlAction, ControlCommand
from libs.domain.orders import IntentAction, OrderApproved, Origin, verdict_id_of
from libs.runtime.records import read_topic, stamped_record
from libs.runtime.settings import PlatformSettings
from libs.wire import decode, encode
from libs.wire.topics import CONTROL_COMMANDS
from services.risk.settings import RiskSettings
from services.risk.watching import WHERE, KillSwitchWatch
from tests.kit.builders import a_control, an_intent
from tests.kit.waiting import eventually


@pytest.fixture
def platform(tmp_path: Path) -> PlatformSettings:
    settings = PlatformSettings(bus=f"sqlite:{tmp_path / 'bus.db'}")
    with open_bus(settings.bus) as bus:
        bus.create_topics([TopicSpec(CONTROL_COMMANDS)])
    return settings


def commands(bus: Bus) -> list[ControlCommand]:
    decoded = [decode(CONTROL_COMMANDS, record.value) for record in read_topic(bus, CONTROL_COMMANDS)]
    return [command for command in decoded if isinstance(command, ControlCommand)]


@pytest.fixture
def watch_of(platform: PlatformSettings) -> Iterator[Callable[[RiskSettings], KillSwitchWatch]]:
    started: list[KillSwitchWatch] = []

    def start(settings: RiskSettings) -> KillSwitchWatch:
        watch = KillSwitchWatch(platform, settings)
        watch.start()
        started.append(watch)
        return watch

    yield start
    for watch in started:
        watch.stop()


def test_a_file_that_appears_halts_once_and_again_after_it_was_removed(
    platform: PlatformSettings, watch_of: Callable[[RiskSettings], KillSwitchWatch], tmp_path: Path
) -> None:
    switch = tmp_path / "halt"
    watch = watch_of(RiskSettings(kill_switch_file=str(switch)))
    with open_bus(platform.bus) as bus:
        switch.touch()
        eventually(lambda: len(commands(bus)) == 1)
        assert commands(bus)[0].action is ControlAction.HALT
        assert str(switch) in commands(bus)[0].reason
        switch.unlink()
        eventually(lambda: not watch.is_thrown)
        switch.touch()
        eventually(lambda: len(commands(bus)) == 2)


def test_a_resume_while_the_switch_is_thrown_is_answered_by_another_halt(
    platform: PlatformSettings, watch_of: Callable[[RiskSettings], KillSwitchWatch], tmp_path: Path
) -> None:
    switch = tmp_path / "halt"
    switch.touch()
    watch = watch_of(RiskSettings(kill_switch_file=str(switch)))
    with open_bus(platform.bus) as bus:
        eventually(lambda: watch.is_thrown)
        resume = encode(a_control(ControlAction.RESUME))
        producer = bus.producer("console")
        producer.begin()
        producer.send([NewRecord(resume.topic, resume.key, resume.payload)])
        producer.commit()
        producer.close()
        expected = [ControlAction.HALT, ControlAction.RESUME, ControlAction.HALT]
        eventually(lambda: [command.action for command in commands(bus)] == expected)
        assert len({command.event_id for command in commands(bus)}) == 3


def test_the_variable_halts_from_the_start(
    platform: PlatformSettings, watch_of: Callable[[RiskSettings], KillSwitchWatch]
) -> None:
    watch_of(RiskSettings(halt="1"))
    with open_bus(platform.bus) as bus:
        eventually(lambda: len(commands(bus)) == 1)


def append(bus: Bus, topic: str, value: bytes, group: str = "") -> None:
    """Append a record; with a group, one that it has handled."""
    producer = bus.producer("test")
    producer.begin()
    producer.send([NewRecord(topic, b"*", value)])
    consumer = bus.consumer([topic], group=group) if group else None
    where = TopicPartition(topic, 0)
    if consumer is not None:
        producer.send_offsets(consumer, {where: bus.end_offsets([where])[where] + 1})
    producer.commit()
    producer.close()
    if consumer is not None:
        consumer.close()


def test_a_file_that_is_there_before_the_start_halts_before_anything_is_judged(
    platform: PlatformSettings, tmp_path: Path
) -> None:
    switch = tmp_path / "halt"
    switch.touch()
    watch = KillSwitchWatch(platform, RiskSettings(kill_switch_file=str(switch)))
    watch.start()
    with open_bus(platform.bus) as bus:
        # Not eventually: the HALT is on the topic when start returns.
        assert [command.action for command in commands(bus)] == [ControlAction.HALT]
    watch.stop()


def test_a_resume_that_waited_while_the_process_was_dead_does_not_outlast_the_switch(
    platform: PlatformSettings, watch_of: Callable[[RiskSettings], KillSwitchWatch], tmp_path: Path
) -> None:
    switch = tmp_path / "halt"
    switch.touch()
    with open_bus(platform.bus) as bus:
        append(bus, CONTROL_COMMANDS, encode(a_control(ControlAction.RESUME)).payload)
        watch_of(RiskSettings(kill_switch_file=str(switch)))
        assert [command.action for command in commands(bus)] == [ControlAction.RESUME, ControlAction.HALT]


def test_a_command_that_cannot_be_read_halts(
    platform: PlatformSettings, watch_of: Callable[[RiskSettings], KillSwitchWatch]
) -> None:
    with open_bus(platform.bus) as bus:
        watch_of(RiskSettings())
        append(bus, CONTROL_COMMANDS, b"\xff\xff\xff")
        eventually(lambda: bus.end_offsets([WHERE])[WHERE] == 2)
        halt = decode(CONTROL_COMMANDS, list(read_topic(bus, CONTROL_COMMANDS))[1].value)
        assert isinstance(halt, ControlCommand)
        assert halt.action is ControlAction.HALT
        assert halt.reason.startswith("the command at offset 0 cannot be read, it may have been a halt: ")


def test_an_unreadable_command_that_came_while_the_process_was_dead_halts_at_the_start(
    platform: PlatformSettings, watch_of: Callable[[RiskSettings], KillSwitchWatch]
) -> None:
    with open_bus(platform.bus) as bus:
        append(bus, CONTROL_COMMANDS, b"\xff\xff\xff", group="risk")
        append(bus, CONTROL_COMMANDS, b"\xff\xff\xfe")
        watch_of(RiskSettings())
        # The first was handled before the process died; only the second is news.
        assert bus.end_offsets([WHERE])[WHERE] == 3
        halt = decode(CONTROL_COMMANDS, list(read_topic(bus, CONTROL_COMMANDS))[2].value)
        assert isinstance(halt, ControlCommand)
        assert "offset 1 cannot be read" in halt.reason


def approval(*, reduce_only: bool = False, action: IntentAction = IntentAction.PLACE) -> list[NewRecord]:
    intent = an_intent(1, reduce_only=reduce_only, action=action, target_client_order_id="pf-x")
    verdict = OrderApproved(
        verdict_id_of(intent.event_id), intent.event_time, "paper", intent.instrument, intent.event_id, intent,
        Origin.STRATEGY, 1, (),
    )  # fmt: skip
    return [stamped_record(encode(verdict), "risk", 1), stamped_record(encode(a_control()), "risk", 1)]


def test_new_risk_approved_by_a_process_that_was_stopped_is_held_back_and_the_halt_is_sent(
    platform: PlatformSettings, tmp_path: Path
) -> None:
    switch = tmp_path / "halt"
    # Its thread does not run: it has not been given the processor yet.
    watch = KillSwitchWatch(platform, RiskSettings(kill_switch_file=str(switch)))
    watch.check_outputs(approval())
    switch.touch()
    with open_bus(platform.bus) as bus:
        watch.check_outputs(approval(reduce_only=True))
        watch.check_outputs(approval(action=IntentAction.CANCEL))
        assert commands(bus) == []
        with pytest.raises(BusError, match=f"it approves an order while kill switch file {switch} is there"):
            watch.check_outputs(approval())
        assert [command.action for command in commands(bus)] == [ControlAction.HALT]


def test_a_bus_out_of_reach_lets_nothing_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    nowhere = PlatformSettings(bus=f"sqlite:{tmp_path / 'file' / 'bus.db'}")
    with pytest.raises(BusUnavailable):
        KillSwitchWatch(nowhere, RiskSettings()).start()


@pytest.fixture
def told() -> Iterator[list[int]]:
    signals: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: signals.append(number))
    yield signals
    signal.signal(signal.SIGTERM, before)


def test_a_control_topic_that_goes_away_stops_the_process(platform: PlatformSettings, told: list[int]) -> None:
    watch = KillSwitchWatch(platform, RiskSettings())
    watch.start()
    with open_bus(platform.bus) as bus:
        bus.delete_topics([CONTROL_COMMANDS])
    eventually(lambda: told == [signal.SIGTERM])
    watch.stop()


def test_a_fault_nobody_thought_of_stops_the_process(
    platform: PlatformSettings, told: list[int], tmp_path: Path
) -> None:
    class FailingWatch(KillSwitchWatch):
        """Fails in the thread alone."""

        def _check(self) -> ControlCommand | None:
            if threading.current_thread() is not threading.main_thread():
                raise ValueError("embedded null byte")
            return super()._check()

    watch = FailingWatch(platform, RiskSettings(kill_switch_file=str(tmp_path / "halt")))
    watch.start()
    eventually(lambda: told == [signal.SIGTERM])
    watch.stop()
