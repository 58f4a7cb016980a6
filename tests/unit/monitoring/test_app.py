"""The page's server over HTTP, without a browser."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from libs.bus.api import BusUnavailable
from libs.bus.memory import MemoryBus
from libs.bus.sqlite import SqliteBus
from libs.domain.control import ControlCommand
from libs.runtime.errors import DependencyUnavailable
from libs.runtime.records import read_topic
from libs.wire import decode
from libs.wire.topics import CONTROL_COMMANDS
from services.monitoring.app import MonitoringApp
from services.monitoring.settings import MonitoringSettings
from tests.e2e.page_server import serving
from tests.kit.waiting import eventually
from tests.unit.monitoring import builders as make
from tests.unit.monitoring.builders import BTC

ROOT = Path(__file__).resolve().parents[3]
SETTINGS = MonitoringSettings(port=0, push_interval_ms=50, session_market="simulated", session_seed=7)


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
        (record,) = read_topic(bus, CONTROL_COMMANDS)
        command = decode(CONTROL_COMMANDS, record.value)
        assert isinstance(command, ControlCommand)
        assert command.event_id == answer.json()["event_id"]


def test_forged_commands_do_not_reach_the_bus() -> None:
    with serving(SETTINGS) as (app, bus), httpx.Client(base_url=app.url or "", trust_env=False) as client:
        body = {"action": "resume", "account": "paper", "reason": "x"}
        assert client.post("/api/control", json=body, headers={"Origin": "http://evil.example"}).status_code == 403
        assert client.post("/api/control", json=body, headers={"Host": "evil.example"}).status_code == 421
        assert client.post("/api/control", content=json.dumps(body)).status_code == 415
        assert client.post("/api/control", json={**body, "reason": "x" * 5000}).status_code == 413
        refused = client.post("/api/control", json={**body, "action": "win"})
        assert refused.status_code == 422 and refused.json()["fault"].startswith("action")
        assert list(read_topic(bus, CONTROL_COMMANDS)) == []


def test_busy_port_is_named_with_the_mend() -> None:
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
        ready = page.get("/ready")
        assert (ready.status_code, page.get("/live").status_code) == (503, 200)
        assert "cannot be opened" in ready.json()["dependencies"]["bus"]


def test_lost_bus_is_said_on_the_page_and_not_opened_anew(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    with (
        serving(SETTINGS, open_bus=lambda: SqliteBus(path)) as (app, _),
        httpx.Client(base_url=app.url or "", trust_env=False) as page,
    ):
        eventually(lambda: page.get("/ready").status_code == 200)
        path.unlink()
        eventually(lambda: "bus is lost" in page.get("/api/state").json()["feed"]["message"])
        halt = page.post("/api/control", json={"action": "halt", "account": "*", "reason": "test"})
        assert halt.status_code == 503 and "bus is lost" in halt.text
    assert not path.exists()


def test_unexpected_error_ends_the_page_with_a_failure() -> None:
    class BrokenBus(MemoryBus):
        def topics(self) -> dict[str, int]:
            raise RuntimeError("broken")

    assert MonitoringApp(BrokenBus, SETTINGS).serve() == 1


def test_signal_that_came_before_the_server_listened_ends_the_page() -> None:
    assert MonitoringApp(MemoryBus, SETTINGS, should_stop=lambda: True).serve() == 0


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
