"""Who may command, and what reaches the bus."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from libs.bus.api import BusUnavailable
from libs.bus.memory import MemoryBus
from libs.domain.control import ControlAction, ControlCommand
from libs.runtime.records import read_topic
from libs.wire import decode
from libs.wire.topics import CONTROL_COMMANDS
from services.monitoring.control import (
    ControlDesk,
    ControlRequest,
    Refusal,
    check_host,
    check_may_command,
    read_control_request,
)
from services.monitoring.settings import MonitoringSettings
from tests.unit.monitoring import builders as make

HOST = {"host": "127.0.0.1:8420", "content-type": "application/json"}
LOCAL = MonitoringSettings()


def refusal_of(headers: dict[str, str], settings: MonitoringSettings = LOCAL) -> Refusal:
    with pytest.raises(Refusal) as caught:
        check_may_command(headers, settings)
    return caught.value


def test_a_program_on_this_machine_may_command() -> None:
    check_may_command(HOST, LOCAL)


def test_this_page_may_command() -> None:
    check_may_command({**HOST, "origin": "http://127.0.0.1:8420", "sec-fetch-site": "same-origin"}, LOCAL)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_another_page_may_not_command(site: str) -> None:
    assert refusal_of({**HOST, "sec-fetch-site": site}).status == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9999", "null"])
def test_another_origin_may_not_command(origin: str) -> None:
    assert refusal_of({**HOST, "origin": origin}).status == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_may_not_command(kind: str) -> None:
    assert refusal_of({**HOST, "content-type": kind}).status == 415


def test_token_is_demanded_where_one_is_set() -> None:
    settings = MonitoringSettings(token=SecretStr("s3cret"))
    assert refusal_of(HOST, settings).status == 401
    assert refusal_of({**HOST, "x-perpflow-token": "wrong"}, settings).status == 401
    check_may_command({**HOST, "x-perpflow-token": "s3cret"}, settings)


def test_commands_over_a_network_need_a_token() -> None:
    refusal = refusal_of(HOST, MonitoringSettings(host="0.0.0.0"))
    assert refusal.status == 403
    assert "PERPFLOW_MONITORING_TOKEN" in refusal.fault


@pytest.mark.parametrize("host", ["127.0.0.1:8420", "localhost:8420", "[::1]:8420"])
def test_own_names_are_known(host: str) -> None:
    check_host(host, LOCAL)


@pytest.mark.parametrize("host", ["evil.example:8420", "", None])
def test_a_strangers_host_name_is_refused(host: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        check_host(host, LOCAL)
    assert caught.value.status == 421
    assert "PERPFLOW_MONITORING_ALLOWED_HOSTS" in caught.value.fault


def test_allowed_host_is_known() -> None:
    check_host("trade.example", MonitoringSettings(host="0.0.0.0", allowed_hosts=("trade.example",)))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "the body"),
        (b"not json", "the body"),
        (b'{"action":"explode","account":"paper","reason":"x"}', "action"),
        (b'{"action":"halt","account":"a b","reason":"x"}', "account"),
        (b'{"action":"halt","account":"paper","reason":""}', "reason"),
        (b'{"action":"halt","account":"paper","reason":"x","force":true}', "force"),
    ],
)
def test_bad_body_is_refused_with_its_field(body: bytes, field: str) -> None:
    with pytest.raises(Refusal, match=field) as caught:
        read_control_request(body)
    assert caught.value.status == 422


def test_command_is_on_the_bus_when_send_returns() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    desk = ControlDesk(lambda: bus, clock_ns=lambda: 42)
    sent = desk.send(ControlRequest(action="flatten", account="paper", reason="test"))
    (record,) = read_topic(bus, CONTROL_COMMANDS)
    command = decode(CONTROL_COMMANDS, record.value)
    assert isinstance(command, ControlCommand)
    assert command == sent
    assert (command.action, command.issued_by, command.event_time) == (ControlAction.FLATTEN, "monitoring", 42)
    assert record.key == b"paper"


def test_two_commands_have_two_ids() -> None:
    bus = MemoryBus()
    make.create_topics(bus)
    desk = ControlDesk(lambda: bus, clock_ns=lambda: 42)
    wanted = ControlRequest(action="halt", account="*", reason="test")
    assert desk.send(wanted).event_id != desk.send(wanted).event_id


def test_bus_that_is_away_is_said_with_another_way_to_halt() -> None:
    buses = [MemoryBus()]
    make.create_topics(buses[0])

    def open_bus() -> MemoryBus:
        if not buses:
            raise BusUnavailable("bus.db cannot be opened")
        return buses.pop()

    away = ControlDesk(lambda: (_ for _ in ()).throw(BusUnavailable("bus.db cannot be opened")))
    with pytest.raises(Refusal, match="use perpflow halt") as caught:
        away.send(ControlRequest(action="halt", account="paper", reason="x"))
    assert caught.value.status == 503
    assert ControlDesk(open_bus).send(ControlRequest(action="halt", account="paper", reason="x")).account == "paper"
