"""While the broker is away a process is alive but not ready, and it goes on by itself when the broker is back.

The page lists the outage as an alert meanwhile, and records it after. The outage lasts `PERPFLOW_TEST_OUTAGE_S`
seconds; whole sessions go through one in `tests.integration.kafka_outage`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.create_topics import main as create_topics
from libs.bus.kafka import KafkaBus
from libs.domain.control import Alert
from libs.runtime.metrics import read_announcement
from libs.runtime.records import read_topic
from libs.wire import decode
from libs.wire.topics import ALERTS
from tests.kit.kafka import REPOSITORY, KafkaBroker, NoKafka, a_kafka
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(900)
# A service in the ordinary shell, the one in Faust, and the page.
SERVICES = ("bars", "features", "monitoring")
# Longer than the budget of a heartbeat, so that a process that does not declare its waiting counts as hung.
OUTAGE_S = float(os.environ.get("PERPFLOW_TEST_OUTAGE_S", "8"))


@pytest.fixture
def broker() -> Iterator[KafkaBroker]:
    try:
        with a_kafka() as made:
            yield made
    except NoKafka as reason:
        pytest.skip(str(reason))


def test_an_outage_of_the_broker_makes_processes_unready_not_dead(
    broker: KafkaBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERPFLOW_BUS", f"kafka:{broker.address}")
    create_topics()
    environment = {
        **os.environ,
        "PERPFLOW_RUN_DIR": str(tmp_path),
        "PERPFLOW_LOG_FORMAT": "json",
        "PERPFLOW_MONITORING_PORT": "0",
    }
    processes = {service: start(service, environment, tmp_path) for service in SERVICES}
    try:
        for service in SERVICES:
            eventually(lambda service=service: ask(tmp_path, service, "ready")[0] == 200, within_s=200)
        broker.kill()
        for service in SERVICES:
            eventually(lambda service=service: "does not answer" in bus_of(tmp_path, service), within_s=100)
            assert ask(tmp_path, service, "ready")[0] == 503
        seen: list[dict[str, int]] = []
        until = time.monotonic() + OUTAGE_S
        eventually(
            lambda: time.monotonic() > until and alerts_of(tmp_path),
            step=lambda: seen.append({service: ask(tmp_path, service, "live")[0] for service in SERVICES}),
            within_s=OUTAGE_S + 60,
        )
        assert seen == [dict.fromkeys(SERVICES, 200)] * len(seen)
        (alert,) = alerts_of(tmp_path)
        assert alert["name"] == "bus_down" and "does not answer" in alert["message"]
        broker.start()
        for service in SERVICES:
            eventually(lambda service=service: ask(tmp_path, service, "ready")[0] == 200, within_s=200)
        eventually(lambda: not alerts_of(tmp_path), within_s=100)
        with KafkaBus(broker.address) as bus:
            eventually(lambda: recorded_outages(bus) == [True, False], within_s=100)
        assert [process.poll() for process in processes.values()] == [None] * len(SERVICES)
    finally:
        for process in processes.values():
            process.terminate()
        codes = {service: process.wait(timeout=100) for service, process in processes.items()}
    assert codes == dict.fromkeys(SERVICES, 0)
    # The clients of Kafka under them, Faust's too, write in the same form as they do.
    lines = {service: [json.loads(line) for line in log_of(tmp_path, service)] for service in SERVICES}
    assert {service: {line["service"] for line in said} for service, said in lines.items()} == {
        service: {service} for service in SERVICES
    }
    assert {line["logger"].partition(".")[0] for line in lines["features"] if "logger" in line} & {"aiokafka", "faust"}


def start(service: str, environment: Mapping[str, str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a service; what it writes is read by `log_of`."""
    with (folder / f"{service}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", f"services.{service}.main"],
            cwd=REPOSITORY,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def log_of(folder: Path, service: str) -> list[str]:
    return (folder / f"{service}.log").read_text().splitlines()


def alerts_of(run_dir: Path) -> list[dict[str, Any]]:
    """Return the alerts that the page lists, but for the market's: nobody publishes one here."""
    url = read_announcement(run_dir / "monitoring.json")["url"]
    with urllib.request.urlopen(f"{url}/api/state", timeout=30) as answer:
        listed: list[dict[str, Any]] = json.load(answer)["alerts"]
    return [alert for alert in listed if alert["name"] != "market_data_stale"]


def recorded_outages(bus: KafkaBus) -> list[bool]:
    """Return of each recorded alert over the bus whether it was raised."""
    alerts = [decode(ALERTS, record.value) for record in read_topic(bus, ALERTS)]
    return [alert.is_raised for alert in alerts if isinstance(alert, Alert) and alert.name == "bus_down"]


def bus_of(run_dir: Path, service: str) -> str:
    return str(ask(run_dir, service, "ready")[1].get("dependencies", {}).get("bus"))


def ask(run_dir: Path, service: str, what: str) -> tuple[int, dict[str, Any]]:
    """Return how a process answers `/live` or `/ready`; 0 where it does not yet."""
    port = read_announcement(run_dir / f"{service}.json").get("metrics_port")
    if port is None:
        return 0, {}
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{what}", timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)
    except OSError:
        return 0, {}
