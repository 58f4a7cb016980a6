"""The watch beside the service: file and variable reach the control topic, and a bus out of reach stops the process."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libs.bus.api import Bus, NewRecord, TopicSpec
from libs.bus.open import open_bus
from libs.domain.control import ControlAction, ControlCommand
from libs.runtime.records import read_topic
from libs.runtime.settings import PlatformSettings
from libs.wire import decode, encode
from libs.wire.topics import CONTROL_COMMANDS
from services.risk.settings import RiskSettings
from services.risk.watching import KillSwitchWatch
from tests.kit.builders import a_control
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


def test_a_bus_out_of_reach_stops_the_process(tmp_path: Path) -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: told.append(number))
    try:
        nowhere = PlatformSettings(bus=f"sqlite:{tmp_path / 'file' / 'bus.db'}")
        (tmp_path / "file").write_text("")
        watch = KillSwitchWatch(nowhere, RiskSettings(halt="1"))
        watch.start()
        eventually(lambda: told == [signal.SIGTERM])
        watch.stop()
    finally:
        signal.signal(signal.SIGTERM, before)
