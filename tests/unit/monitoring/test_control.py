"""Who may command, and what reaches the bus."""

from __future__ import annotations

import pytest
import structlog

from libs.access.users import Role
from libs.bus.api import BusUnavailable
from libs.bus.memory import MemoryBus
from libs.clock import SimulatedClock
from libs.domain.control import AuditEntry, AuditOutcome, ControlAction, ControlCommand
from libs.runtime.records import read_topic
from libs.wire import decode
from libs.wire.topics import AUDIT, CONTROL_COMMANDS
from services.monitoring.access import Identity
from services.monitoring.control import PENDING_LIMIT, ControlPublisher
from services.monitoring.requests import (
    ControlRequest,
    Refusal,
    check_host,
    check_is_own_page,
    read_control_request,
)
from services.monitoring.settings import MonitoringSettings
from tests.unit.monitoring import builders as make

HOST = {"host": "127.0.0.1:8420", "content-type": "application/json"}
LOCAL = MonitoringSettings()
ADA = Identity("ada", Role.OPERATOR, "10.0.0.7")


def refusal_of(headers: dict[str, str]) -> Refusal:
    with pytest.raises(Refusal) as caught:
        check_is_own_page(headers)
    return caught.value


def test_a_program_on_this_machine_may_command() -> None:
    check_is_own_page(HOST)


def test_this_page_may_command() -> None:
    check_is_own_page({**HOST, "origin": "http://127.0.0.1:8420", "sec-fetch-site": "same-origin"})


@pytest.mark.parametrize("site", ["cross-site", "same-site", "none"])
def test_another_page_may_not_command(site: str) -> None:
    assert refusal_of({**HOST, "sec-fetch-site": site}).status == 403


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:9999", "null"])
def test_another_origin_may_not_command(origin: str) -> None:
    assert refusal_of({**HOST, "origin": origin}).status == 403


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_may_not_command(kind: str) -> None:
    assert refusal_of({**HOST, "content-type": kind}).status == 415


@pytest.mark.parametrize("host", ["127.0.0.1:8420", "localhost:8420", "[::1]:8420"])
def test_own_names_are_known(host: str) -> None:
    check_host(host, LOCAL)


@pytest.mark.parametrize("host", ["evil.example:8420", "", None, "[::1", "0.0.0.0:8420"])
def test_a_foreign_host_name_is_refused(host: str | None) -> None:
    with pytest.raises(Refusal) as caught:
        check_host(host, LOCAL)
    assert caught.value.status == 421
    assert "PERPFLOW_MONITORING_ALLOWED_HOSTS" in caught.value.reason


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


def a_publisher(bus: MemoryBus, clock_ns: int = 42) -> ControlPublisher:
    return ControlPublisher(lambda: bus, structlog.get_logger(), clock=SimulatedClock(clock_ns))


def a_bus() -> MemoryBus:
    bus = MemoryBus()
    make.create_topics(bus)
    return bus


def audit_of(bus: MemoryBus) -> list[AuditEntry]:
    entries = [decode(AUDIT, record.value) for record in read_topic(bus, AUDIT)]
    return [entry for entry in entries if isinstance(entry, AuditEntry)]


def test_command_and_its_audit_entry_are_on_the_bus_when_send_returns() -> None:
    bus = a_bus()
    sent = a_publisher(bus).send(ControlRequest(action="flatten", account="paper", reason="test"), ADA)
    (record,) = read_topic(bus, CONTROL_COMMANDS)
    command = decode(CONTROL_COMMANDS, record.value)
    assert isinstance(command, ControlCommand)
    assert command == sent
    assert (command.action, command.issued_by, command.event_time) == (ControlAction.FLATTEN, "monitoring/ada", 42)
    assert record.key == b"paper"
    (entry,) = audit_of(bus)
    assert (entry.actor, entry.role, entry.action, entry.target) == ("ada", "operator", "flatten", "paper")
    assert (entry.event_time, entry.source_address, entry.command_id) == (42, "10.0.0.7", command.event_id)


def test_two_commands_have_two_ids() -> None:
    publisher = a_publisher(a_bus())
    wanted = ControlRequest(action="halt", account="*", reason="test")
    assert publisher.send(wanted, ADA).event_id != publisher.send(wanted, ADA).event_id


def test_bus_that_is_away_is_said_with_another_way_to_halt() -> None:
    def open_bus() -> MemoryBus:
        raise BusUnavailable("bus.db cannot be opened")

    publisher = ControlPublisher(open_bus, structlog.get_logger())
    with pytest.raises(Refusal, match="use perpflow halt") as caught:
        publisher.send(ControlRequest(action="halt", account="paper", reason="x"), ADA)
    assert caught.value.status == 503


def test_audit_entries_wait_for_the_bus_and_go_in_order() -> None:
    buses: list[MemoryBus] = []

    def open_bus() -> MemoryBus:
        if not buses:
            raise BusUnavailable("bus.db cannot be opened")
        return buses[0]

    publisher = ControlPublisher(open_bus, structlog.get_logger())
    publisher.record(AuditOutcome.REFUSED, "eve", "", "sign_in", "10.0.0.9", detail="user or password is wrong")
    publisher.record(AuditOutcome.DONE, "ada", "operator", "sign_in", "10.0.0.7")
    buses.append(a_bus())
    publisher.send(ControlRequest(action="halt", account="paper", reason="x"), ADA)
    publisher.flush()
    told = [(entry.actor, entry.action, entry.outcome.name) for entry in audit_of(buses[0])]
    assert told == [("eve", "sign_in", "REFUSED"), ("ada", "sign_in", "DONE"), ("ada", "halt", "DONE")]


def test_audit_entries_that_wait_are_bounded() -> None:
    def open_bus() -> MemoryBus:
        raise BusUnavailable("bus.db cannot be opened")

    publisher = ControlPublisher(open_bus, structlog.get_logger())
    for number in range(PENDING_LIMIT + 5):
        publisher.record(AuditOutcome.DONE, f"user{number}", "viewer", "sign_in", "10.0.0.7")
    assert len(publisher._pending) == PENDING_LIMIT
