"""Limits of the settings are put on record by commands: all at the first start, what changed at later ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import structlog
from structlog.testing import capture_logs

from libs.bus.api import Bus, NewRecord, TopicSpec
from libs.bus.open import open_bus
from libs.domain.control import ControlAction, ControlCommand
from libs.domain.events import Event
from libs.domain.instruments import INSTRUMENTS
from libs.runtime.errors import BadInput
from libs.runtime.records import producer_of, read_topic
from libs.runtime.settings import PlatformSettings
from libs.wire import decode, encode
from libs.wire.topics import CONTROL_COMMANDS
from services.risk.core import RiskCore, RiskLimits
from services.risk.settings import RiskSettings
from services.risk.settings_record import record_limits
from tests.kit.builders import a_control
from tests.unit.risk.builders import D


@pytest.fixture
def platform(tmp_path: Path) -> PlatformSettings:
    settings = PlatformSettings(bus=f"sqlite:{tmp_path / 'bus.db'}")
    with open_bus(settings.bus) as bus:
        bus.create_topics([TopicSpec(CONTROL_COMMANDS)])
    return settings


def start(platform: PlatformSettings, **limits: object) -> list[dict[str, object]]:
    """Do what a start with these limits does and return what it logs."""
    with capture_logs() as logs:
        record_limits(platform, RiskSettings(**limits), structlog.get_logger("risk"))  # type: ignore[arg-type]
    return [dict(entry) for entry in logs]


def recorded(platform: PlatformSettings) -> list[ControlCommand]:
    with open_bus(platform.bus) as bus:
        events = [decode(CONTROL_COMMANDS, record.value) for record in read_topic(bus, CONTROL_COMMANDS)]
    return [event for event in events if isinstance(event, ControlCommand)]


def append(bus: Bus, event: Event) -> None:
    encoded = encode(event)
    producer = bus.producer("test")
    producer.begin()
    producer.send([NewRecord(encoded.topic, encoded.key, encoded.payload)])
    producer.commit()
    producer.close()


def command(platform: PlatformSettings, number: int = 1, account: str = "*", **arguments: str) -> None:
    with open_bus(platform.bus) as bus:
        append(bus, a_control(ControlAction.SET_LIMITS, number, account=account, arguments=arguments))


def in_force(platform: PlatformSettings, handed_in: RiskLimits | None = None) -> RiskLimits:
    core = RiskCore(handed_in or RiskLimits(), INSTRUMENTS, "paper")
    for event in recorded(platform):
        core.handle(event)
    return core.limits


def test_the_first_start_records_every_limit(platform: PlatformSettings) -> None:
    assert start(platform, max_leverage=D(2)) == []
    (first,) = recorded(platform)
    assert (first.account, first.action, first.issued_by) == ("paper", ControlAction.SET_LIMITS, "settings")
    assert first.arguments == dict(sorted(RiskLimits(max_leverage=D(2)).as_strings().items()))
    with open_bus(platform.bus) as bus:
        # Not stamped as risk's: a replay must not expect the core to have made it.
        assert [producer_of(record.headers) for record in read_topic(bus, CONTROL_COMMANDS)] == ["risk-settings"]
    assert in_force(platform, RiskLimits(max_leverage=D(9))) == RiskLimits(max_leverage=D(2))


def test_a_restart_with_the_same_settings_records_nothing(platform: PlatformSettings) -> None:
    start(platform)
    assert start(platform) == []
    assert len(recorded(platform)) == 1


@pytest.mark.parametrize("now", ["2", "4"])
def test_a_limit_changed_in_the_settings_is_set_by_a_command_that_says_so(platform: PlatformSettings, now: str) -> None:
    start(platform)
    (logged,) = start(platform, max_leverage=D(now))
    assert (logged["log_level"], logged["limit"], logged["before"], logged["now"]) == (
        "warning", "max_leverage", "3", now
    )  # fmt: skip
    assert recorded(platform)[1].arguments == {"max_leverage": now}
    assert recorded(platform)[1].reason == f"changed in the settings: max_leverage={now}"
    assert in_force(platform) == RiskLimits(max_leverage=D(now))
    assert start(platform, max_leverage=D(now)) == []


def test_a_limit_set_by_a_command_stays_over_a_restart_and_is_named(platform: PlatformSettings) -> None:
    start(platform)
    command(platform, max_leverage="1.5")
    (logged,) = start(platform)
    assert logged["event"] == "limit in force is not that of the settings, a command has set it"
    assert (logged["limit"], logged["in_force"], logged["settings"]) == ("max_leverage", "1.5", "3")
    assert len(recorded(platform)) == 2
    # Another limit changed in the settings leaves it alone.
    start(platform, max_open_orders=7)
    assert in_force(platform) == RiskLimits(max_leverage=D("1.5"), max_open_orders=7)


def test_a_later_change_of_the_settings_goes_before_an_earlier_command(platform: PlatformSettings) -> None:
    start(platform)
    command(platform, max_leverage="1.5")
    assert [entry["now"] for entry in start(platform, max_leverage=D(2))] == ["2"]
    assert in_force(platform).max_leverage == 2


def test_commands_to_others_and_those_that_were_refused_do_not_count(platform: PlatformSettings) -> None:
    start(platform)
    command(platform, 1, "other", max_leverage="1")
    command(platform, 2, "paper", max_leverage="-1")
    (logged,) = start(platform)
    assert logged["event"] == "a command to set limits was refused"
    assert in_force(platform) == RiskLimits()


def test_an_unreadable_command_does_not_stand_in_the_way(platform: PlatformSettings) -> None:
    with open_bus(platform.bus) as bus:
        producer = bus.producer("test")
        producer.begin()
        producer.send([NewRecord(CONTROL_COMMANDS, b"*", b"\xff\xff")])
        producer.commit()
        producer.close()
        record_limits(platform, RiskSettings(), structlog.get_logger("risk"))
        assert len(list(read_topic(bus, CONTROL_COMMANDS))) == 2


def test_changed_limits_that_do_not_go_with_those_in_force_are_refused_by_name(platform: PlatformSettings) -> None:
    start(platform)
    command(platform, soft_drawdown_fraction="0.15")
    with pytest.raises(BadInput, match=r"soft_drawdown_fraction: 0\.15 exceeds hard_drawdown_fraction 0\.12"):
        start(platform, hard_drawdown_fraction=D("0.12"))
    assert len(recorded(platform)) == 2
