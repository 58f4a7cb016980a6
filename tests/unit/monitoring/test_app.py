"""The page's server over HTTP, without a browser."""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from libs.access.users import Role
from libs.bus.api import BusUnavailable
from libs.bus.memory import MemoryBus
from libs.bus.sqlite import SqliteBus
from libs.domain.control import AuditEntry, AuditOutcome, ControlCommand
from libs.runtime.errors import DependencyUnavailable
from libs.runtime.records import read_topic
from libs.wire import decode
from libs.wire.topics import ALERTS, AUDIT, CONTROL_COMMANDS
from services.monitoring.app import MonitoringApp
from services.monitoring.settings import MonitoringSettings
from services.monitoring.streams import STREAM_LIMIT
from tests.e2e.page_server import serving
from tests.kit.users import PASSWORD, write_users
from tests.kit.waiting import eventually
from tests.unit.monitoring import builders as make
from tests.unit.monitoring.builders import BTC

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = MonitoringSettings(port=0, push_interval_ms=50, session_market="simulated", session_seed=7)
DONE, REFUSED = AuditOutcome.DONE, AuditOutcome.REFUSED


def the_command(bus: MemoryBus) -> ControlCommand:
    (record,) = read_topic(bus, CONTROL_COMMANDS)
    command = decode(CONTROL_COMMANDS, record.value)
    assert isinstance(command, ControlCommand)
    return command


def audit_of(bus: MemoryBus) -> list[AuditEntry]:
    entries = [decode(AUDIT, record.value) for record in read_topic(bus, AUDIT)]
    return [entry for entry in entries if isinstance(entry, AuditEntry)]


@pytest.fixture
def guarded(tmp_path: Path) -> MonitoringSettings:
    path = write_users(tmp_path / "users.json", {"vera": Role.VIEWER, "otto": Role.OPERATOR, "anna": Role.ADMIN})
    return SETTINGS.model_copy(update={"session_mode": "testnet", "users_file": path})


@contextmanager
def client_of(app: MonitoringApp, user: str = "") -> Iterator[httpx.Client]:
    with httpx.Client(base_url=app.url or "", trust_env=False, timeout=30) as client:
        if user:
            assert client.post("/api/sign-in", json={"user": user, "password": PASSWORD}).status_code == 200
        yield client


CLOSED_PATHS = (
    "/api/state",
    "/api/stream",
    "/api/me",
    "/metrics",
    "/nowhere",
    "/api/control",
    "/docs",
    "/openapi.json",
)


def test_strangers_get_the_sign_in_page_and_nothing_else(guarded: MonitoringSettings) -> None:
    with serving(guarded) as (app, bus), client_of(app) as stranger:
        page = stranger.get("/")
        assert (page.status_code, page.headers["location"]) == (303, "/login")
        assert "Sign in" in stranger.get("/login").text
        assert stranger.get("/static/login.js").status_code == 200
        eventually(lambda: stranger.get("/ready").status_code == 200)
        assert stranger.get("/ready").json() == {"service": "monitoring", "state": "running"}
        for path in CLOSED_PATHS:
            assert stranger.get(path).status_code == 401, path
        halt = {"action": "halt", "account": "paper", "reason": "x"}
        assert stranger.post("/api/control", json=halt).status_code == 401
        assert stranger.post("/api/sign-out", json={}).status_code == 401
        assert stranger.get("/api/state", headers={"Authorization": "Bearer guess"}).status_code == 401
        assert stranger.get("/api/state", headers={"X-Forwarded-For": "127.0.0.1"}).status_code == 401
        assert list(read_topic(bus, CONTROL_COMMANDS)) == []


def test_viewer_reads_and_may_not_command(guarded: MonitoringSettings) -> None:
    with serving(guarded) as (app, bus), client_of(app, "vera") as vera:
        assert vera.get("/").status_code == 200
        assert vera.get("/api/state").status_code == 200
        assert vera.get("/api/me").json() == {
            "user": "vera",
            "role": "viewer",
            "may_command": False,
            "is_signed_in": True,
        }
        refused = vera.post("/api/control", json={"action": "halt", "account": "paper", "reason": "x"})
        assert refused.status_code == 403 and "vera may read but not command" in refused.json()["error"]
        assert list(read_topic(bus, CONTROL_COMMANDS)) == []
        told = [(entry.actor, entry.role, entry.action, entry.outcome) for entry in audit_of(bus)]
        assert told == [("vera", "viewer", "sign_in", DONE), ("vera", "viewer", "halt", REFUSED)]


def test_operator_commands_by_name(guarded: MonitoringSettings) -> None:
    with serving(guarded) as (app, bus), client_of(app, "otto") as otto:
        assert otto.post("/api/control", json={"action": "halt", "account": "*", "reason": "news"}).status_code == 202
        assert the_command(bus).issued_by == "monitoring/otto"
        entry = audit_of(bus)[-1]
        assert (entry.actor, entry.role, entry.action, entry.target) == ("otto", "operator", "halt", "*")


def test_session_cookie_is_out_of_reach_of_scripts_and_other_sites(guarded: MonitoringSettings) -> None:
    with serving(guarded) as (app, _), client_of(app) as client:
        answer = client.post("/api/sign-in", json={"user": "vera", "password": PASSWORD})
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie and "samesite=strict" in cookie and "path=/" in cookie
    with serving(guarded.model_copy(update={"is_behind_tls": True})) as (app, _), client_of(app) as client:
        answer = client.post("/api/sign-in", json={"user": "vera", "password": PASSWORD})
        assert answer.headers["set-cookie"].startswith("__Host-perpflow_session_")
        assert "secure" in answer.headers["set-cookie"].lower()
        assert "max-age" in answer.headers["strict-transport-security"]


def test_forged_request_with_the_cookie_of_an_operator_does_nothing(guarded: MonitoringSettings) -> None:
    body = {"action": "halt", "account": "paper", "reason": "x"}
    with serving(guarded) as (app, bus), client_of(app, "otto") as otto:
        for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}, {"Origin": "null"}):
            assert otto.post("/api/control", json=body, headers=headers).status_code == 403
            assert otto.post("/api/sign-out", json={}, headers=headers).status_code == 403
        assert otto.post("/api/control", content=json.dumps(body)).status_code == 415
        assert list(read_topic(bus, CONTROL_COMMANDS)) == []


def test_signing_out_ends_the_session_and_its_stream(guarded: MonitoringSettings) -> None:
    with serving(guarded) as (app, bus), client_of(app, "otto") as otto:
        cookies = dict(otto.cookies)
        with otto.stream("GET", "/api/stream") as stream:
            lines = stream.iter_lines()
            next(line for line in lines if line.startswith("data:"))
            with httpx.Client(base_url=app.url or "", trust_env=False, cookies=cookies) as elsewhere:
                assert elsewhere.post("/api/sign-out", json={}).json() == {"ended": 1}
            assert any(line == "event: signed_out" for line in lines)
        with httpx.Client(base_url=app.url or "", trust_env=False, cookies=cookies) as again:
            assert again.get("/api/state").status_code == 401
        assert [entry.action for entry in audit_of(bus)] == ["sign_in", "sign_out"]


def test_admin_signs_others_out(guarded: MonitoringSettings) -> None:
    with serving(guarded) as (app, bus), client_of(app, "otto") as otto, client_of(app, "anna") as anna:
        assert otto.post("/api/sign-out", json={"user": "anna"}).status_code == 403
        assert anna.post("/api/sign-out", json={"user": "otto"}).json() == {"ended": 1}
        assert otto.get("/api/me").status_code == 401
        assert anna.get("/api/me").status_code == 200
        assert (audit_of(bus)[-1].target, audit_of(bus)[-1].detail) == ("otto", "sessions ended: 1")


def test_failed_sign_ins_are_counted_recorded_and_limited(guarded: MonitoringSettings) -> None:
    settings = guarded.model_copy(update={"sign_in_attempts": 2})
    with serving(settings) as (app, bus), client_of(app) as client:
        wrong = {"user": "otto", "password": "wrong wrong wrong"}
        assert [client.post("/api/sign-in", json=wrong).status_code for _ in range(4)] == [401, 401, 429, 429]
        late = client.post("/api/sign-in", json={"user": "otto", "password": PASSWORD})
        assert late.status_code == 429 and int(late.headers["retry-after"]) > 800
        told = [(entry.actor, entry.role, entry.action, entry.outcome) for entry in audit_of(bus)]
        assert told == [("otto", "", "sign_in", REFUSED)] * 2
        assert "wrong wrong wrong" not in str(audit_of(bus))


def test_forwarded_address_is_believed_from_a_named_proxy_alone(guarded: MonitoringSettings) -> None:
    forged = {"X-Forwarded-For": "203.0.113.9"}
    for proxies, expected in (((), "127.0.0.1"), (("127.0.0.1",), "203.0.113.9")):
        settings = guarded.model_copy(update={"trusted_proxies": proxies})
        with serving(settings) as (app, bus), client_of(app) as client:
            client.post("/api/sign-in", json={"user": "vera", "password": PASSWORD}, headers=forged)
            assert [entry.source_address for entry in audit_of(bus)] == [expected]


def test_page_without_users_says_how_to_add_one(guarded: MonitoringSettings, tmp_path: Path) -> None:
    settings = guarded.model_copy(update={"users_file": tmp_path / "none.json"})
    with serving(settings) as (app, _), client_of(app) as client:
        answer = client.post("/api/sign-in", json={"user": "vera", "password": PASSWORD})
        assert answer.status_code == 503 and "perpflow users add" in answer.json()["error"]
        assert client.get("/api/state").status_code == 401


@pytest.mark.parametrize("action", ["resume", "flatten"])
def test_what_moves_money_is_typed_out(action: str) -> None:
    with serving(SETTINGS) as (app, bus), client_of(app) as client:
        body = {"action": action, "account": "paper", "reason": "x"}
        for typed in ("", action, f"{action} *", f"{action} paper "):
            refused = client.post("/api/control", json={**body, "confirmation": typed})
            assert refused.status_code == 422 and f"'{action} paper'" in refused.json()["error"]
        assert list(read_topic(bus, CONTROL_COMMANDS)) == []
        assert client.post("/api/control", json={**body, "confirmation": f"{action} paper"}).status_code == 202
        assert the_command(bus).action.name == action.upper()


def test_unknown_account_is_an_error_that_names_those_known() -> None:
    with serving(SETTINGS) as (app, bus), client_of(app) as client:
        make.publish(bus, [make.a_control_state(account="second")])
        body = {"action": "halt", "account": "papper", "reason": "x"}
        eventually(lambda: "second" in client.get("/api/state").json()["control"])
        refused = client.post("/api/control", json=body)
        assert refused.status_code == 404
        assert refused.json()["error"] == "account 'papper' is not known here; known: *, paper, second"
        assert list(read_topic(bus, CONTROL_COMMANDS)) == []
        assert [(entry.target, entry.outcome) for entry in audit_of(bus)] == [("papper", REFUSED)]
        assert client.post("/api/control", json={**body, "account": "second"}).status_code == 202


@pytest.mark.parametrize("host", ["page.example", "192.168.1.9:8420", "0.0.0.0:8420", "evil.example"])
def test_only_loopback_names_pass_unless_others_are_allowed(host: str) -> None:
    with serving(SETTINGS.model_copy(update={"host": "0.0.0.0"})) as (app, _):
        port = (app.url or "").rpartition(":")[2]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            assert client.get("/login").status_code == 200
            assert client.get("/login", headers={"Host": host}).status_code == 421


@pytest.mark.slow
def test_stream_limit_holds_under_200_connections_at_once() -> None:
    async def connect_all(url: str) -> tuple[list[int], list[int]]:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=60, limits=limits) as client:
            release = asyncio.Event()
            statuses: list[int] = []

            async def connect() -> None:
                async with client.stream("GET", "/api/stream") as answer:
                    statuses.append(answer.status_code)
                    await release.wait()

            tasks = [asyncio.create_task(connect()) for _ in range(200)]
            while len(statuses) < 200:
                await asyncio.sleep(0.02)
            at_once = list(statuses)
            release.set()
            await asyncio.gather(*tasks)
            return at_once, statuses

    with serving(SETTINGS) as (app, _), client_of(app) as client:
        at_once, _ = asyncio.run(connect_all(app.url or ""))
        assert sorted(at_once) == [200] * STREAM_LIMIT + [503] * (200 - STREAM_LIMIT)
        eventually(lambda: "perpflow_page_streams 0.0" in client.get("/metrics").text)
        with client.stream("GET", "/api/stream") as again:
            assert again.status_code == 200


def test_page_has_metrics_and_health_on_a_port_of_their_own(guarded: MonitoringSettings, tmp_path: Path) -> None:
    with serving(guarded, tmp_path / "run") as (app, _):
        facts = json.loads((tmp_path / "run" / "monitoring.json").read_text())
        assert facts["url"] == app.url and str(facts["metrics_port"]) not in (app.url or "")
        text = httpx.get(f"http://127.0.0.1:{facts['metrics_port']}/metrics", trust_env=False).text
        assert "perpflow_page_sign_ins_total" in text


def test_page_serves_state_static_files_health_and_metrics(tmp_path: Path) -> None:
    with serving(SETTINGS, tmp_path) as (app, bus), httpx.Client(base_url=app.url or "", trust_env=False) as client:
        make.publish(bus, make.a_session(20))
        eventually(lambda: client.get("/api/state").json()["bars"])
        state = client.get("/api/state").json()
        assert state["session"]["seed"] == 7
        assert len(state["bars"][BTC]["points"]) == 20
        page = client.get("/")
        assert page.status_code == 200 and "<title>perpflow</title>" in page.text
        assert "default-src 'none'" in page.headers["content-security-policy"]
        for name in ("app.js", "chart.js", "panels.js", "control.js", "format.js", "style.css", "favicon.svg"):
            assert client.get(f"/static/{name}").status_code == 200
        assert client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"
        eventually(lambda: client.get("/ready").status_code == 200)
        assert client.get("/ready").json()["dependencies"] == {"bus": "ok"}
        assert client.get("/live").json()["state"] == "running"
        assert "perpflow_records_in_total" in client.get("/metrics").text
        assert client.get("/nowhere").status_code == 404
        announced = json.loads((tmp_path / "monitoring.json").read_text())
        assert announced["url"] == app.url
    assert json.loads((tmp_path / "monitoring.json").read_text())["state"] == "stopped"


def test_page_asks_for_nothing_from_elsewhere() -> None:
    static = Path(__file__).parents[3] / "services" / "monitoring" / "static"
    for path in static.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        # A link is followed by a person, and the charts' licence asks for it.
        text = text.replace('<a href="https://www.tradingview.com/"', "")
        assert "http://" not in text and "https://" not in text, path.name


def test_stream_sends_the_whole_and_then_what_changed() -> None:
    with serving(SETTINGS) as (app, bus):
        make.publish(bus, [make.a_bar(0)])
        with (
            httpx.Client(base_url=app.url or "", trust_env=False, timeout=10) as client,
            client.stream("GET", "/api/stream") as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            lines = (line for line in answer.iter_lines() if line.startswith('data: {"is_whole'))
            first = json.loads(next(lines)[6:])
            assert first["is_whole"] and "session" in first["sections"]
            make.publish(bus, [make.a_refusal()])
            later = next(message for line in lines if "refusals" in (message := json.loads(line[6:]))["sections"])
            assert not later["is_whole"]
            assert "session" not in later["sections"]


def test_command_reaches_the_bus() -> None:
    with serving(SETTINGS) as (app, bus), httpx.Client(base_url=app.url or "", trust_env=False) as client:
        answer = client.post("/api/control", json={"action": "halt", "account": "paper", "reason": "test"})
        assert answer.status_code == 202
        command = the_command(bus)
        assert command.event_id == answer.json()["event_id"]
        (entry,) = audit_of(bus)
        assert (entry.actor, entry.action, entry.target, entry.outcome) == ("local", "halt", "paper", DONE)
        assert (entry.detail, entry.command_id, entry.source_address) == ("test", command.event_id, "127.0.0.1")


def test_forged_commands_do_not_reach_the_bus() -> None:
    with serving(SETTINGS) as (app, bus), httpx.Client(base_url=app.url or "", trust_env=False) as client:
        body = {"action": "halt", "account": "paper", "reason": "x"}
        assert client.post("/api/control", json=body, headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.post("/api/control", json=body, headers={"Host": "evil.example"}).status_code == 421
        assert client.post("/api/control", content=json.dumps(body)).status_code == 415
        assert client.post("/api/control", json={**body, "reason": "x" * 5000}).status_code == 413
        refused = client.post("/api/control", json={**body, "action": "win"})
        assert refused.status_code == 422 and refused.json()["error"].startswith("action")
        assert list(read_topic(bus, CONTROL_COMMANDS)) == []


def test_busy_port_is_named_with_the_fix() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        app = MonitoringApp(MemoryBus, MonitoringSettings(port=port))
        with pytest.raises(DependencyUnavailable, match=f"port {port} on 127.0.0.1 is taken.*PERPFLOW_MONITORING_PORT"):
            app.serve()


def test_bus_that_is_away_is_said_on_the_page_which_is_alive_but_not_ready() -> None:
    def open_bus() -> MemoryBus:
        raise BusUnavailable("var/bus.db cannot be opened; start the session first")

    with (
        serving(SETTINGS, open_bus=open_bus) as (app, _),
        httpx.Client(base_url=app.url or "", trust_env=False) as page,
    ):
        eventually(lambda: "cannot be read" in page.get("/api/state").json()["feed"]["message"])
        eventually(lambda: "cannot be opened" in page.get("/ready").json()["dependencies"]["bus"])
        assert (page.get("/ready").status_code, page.get("/live").status_code) == (503, 200)


def test_bus_that_goes_away_is_listed_as_an_alert_and_recorded_when_it_is_back() -> None:
    is_up = threading.Event()
    is_up.set()

    class Broker(MemoryBus):
        def ping(self) -> None:
            if not is_up.is_set():
                raise BusUnavailable("Kafka at k:9092 does not answer")

    name = f"broker-{secrets.token_hex(4)}"
    settings = SETTINGS.model_copy(update={"down_for_ms": 1, "probe_interval_ms": 50})
    with Broker(name) as bus:
        make.create_topics(bus)
        with (
            serving(settings, open_bus=lambda: Broker(name)) as (app, _),
            httpx.Client(base_url=app.url or "", trust_env=False) as page,
        ):

            def listed() -> list[str]:
                return [alert["message"] for alert in page.get("/api/state").json()["alerts"]]

            eventually(lambda: page.get("/ready").status_code == 200)
            assert listed() == []
            is_up.clear()
            eventually(lambda: listed() == ["The bus does not answer: Kafka at k:9092 does not answer"])
            assert list(read_topic(bus, ALERTS)) == []
            is_up.set()
            eventually(lambda: len(list(read_topic(bus, ALERTS))) == 2)
            eventually(lambda: listed() == [])
            recorded = [decode(ALERTS, record.value) for record in read_topic(bus, ALERTS)]
    assert [(alert.name, alert.is_raised) for alert in recorded] == [("bus_down", True), ("bus_down", False)]


@pytest.mark.slow
def test_lost_bus_is_said_on_the_page_and_not_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    with (
        serving(SETTINGS, open_bus=lambda: SqliteBus(path)) as (app, _),
        httpx.Client(base_url=app.url or "", trust_env=False) as page,
    ):
        eventually(lambda: page.get("/ready").status_code == 200)
        path.unlink()
        eventually(lambda: "bus is lost" in page.get("/api/state").json()["feed"]["message"])
        eventually(lambda: "bus is lost" in str(page.get("/api/state").json()["alerts"]))
        halt = page.post("/api/control", json={"action": "halt", "account": "*", "reason": "test"})
        assert halt.status_code == 503 and "bus is lost" in halt.text
    assert not path.exists()


@pytest.mark.slow
def test_unexpected_error_ends_the_page_with_a_failure() -> None:
    class BrokenBus(MemoryBus):
        def topics(self) -> dict[str, int]:
            raise RuntimeError("broken")

    assert MonitoringApp(BrokenBus, SETTINGS).serve() == 1


def test_signal_that_came_before_the_server_listened_ends_the_page() -> None:
    assert MonitoringApp(MemoryBus, SETTINGS, should_stop=lambda: True).serve() == 0


@pytest.mark.slow
@pytest.mark.parametrize("is_early", [True, False])
def test_process_asked_to_stop_ends_with_success(tmp_path: Path, is_early: bool) -> None:
    run_dir = tmp_path / "run"
    environment = {
        **os.environ,
        "PERPFLOW_BUS": f"sqlite:{tmp_path / 'bus.db'}",
        "PERPFLOW_RUN_DIR": str(run_dir),
        "PERPFLOW_MONITORING_PORT": "0",
        "PYTHONPATH": str(ROOT),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.monitoring.main"], env=environment, stderr=subprocess.PIPE, cwd=ROOT
    )
    announced = run_dir / "monitoring.json"
    eventually(announced.exists, within_s=30)
    if not is_early:
        facts = json.loads(announced.read_text())
        eventually(lambda: httpx.get(f"{facts['url']}/health", trust_env=False).status_code, within_s=10)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=14)
    assert process.returncode == 0, said.decode()
