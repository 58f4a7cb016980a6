"""Risk as a process: what is on the control topic before it judges, and a replay that needs no settings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from libs.bus.api import Bus, NewRecord, TopicSpec
from libs.bus.open import open_bus
from libs.domain.control import ControlAction, ControlCommand
from libs.domain.events import Event
from libs.domain.orders import OrderApproved, OrderRefused
from libs.runtime.metrics import read_announcement
from libs.runtime.records import read_topic
from libs.wire import decode, encode
from libs.wire.topics import CONTROL_COMMANDS, TOPICS, VERDICTS
from tests.kit.builders import a_mark, a_quote, an_account, an_intent
from tests.kit.platform import ROOT
from tests.kit.waiting import eventually
from tests.unit.risk.builders import failed

pytestmark = pytest.mark.timeout(900)


class Risk:
    """The process in a folder of its own, on one bus."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = f"sqlite:{folder / 'bus.db'}"
        self.bus: Bus = open_bus(self.address)
        self.bus.create_topics(TopicSpec(name) for name in TOPICS)

    def environment(self, settings: dict[str, str]) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PERPFLOW_")}
        own = {"PERPFLOW_BUS": self.address, "PERPFLOW_RUN_DIR": str(self.folder / "run"), "PYTHONPATH": str(ROOT)}
        return {**kept, **own, **{f"PERPFLOW_RISK_{name}": value for name, value in settings.items()}}

    def start(self, **settings: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "services.risk.main"],
            cwd=self.folder,
            env=self.environment(settings),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    @contextmanager
    def running(self, **settings: str) -> Iterator[None]:
        process = self.start(**settings)
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0

    def say(self, word: str, **settings: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "services.risk.main", word],
            cwd=self.folder,
            env=self.environment(settings),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def publish(self, *events: Event) -> None:
        producer = self.bus.producer("test")
        producer.begin()
        encoded = [encode(event) for event in events]
        producer.send([NewRecord(each.topic, each.key, each.payload, {"k": each.kind.encode()}) for each in encoded])
        producer.commit()
        producer.close()

    def verdicts(self) -> list[OrderApproved | OrderRefused]:
        found = [decode(VERDICTS, record.value) for record in read_topic(self.bus, VERDICTS)]
        return [verdict for verdict in found if isinstance(verdict, OrderApproved | OrderRefused)]

    def commands(self) -> list[ControlCommand]:
        found = [decode(CONTROL_COMMANDS, record.value) for record in read_topic(self.bus, CONTROL_COMMANDS)]
        return [command for command in found if isinstance(command, ControlCommand)]

    def ready(self) -> tuple[int, dict[str, str]]:
        """Return the status and the dependencies of `/ready`; 0 before it answers."""
        port = read_announcement(self.folder / "run" / "risk.json").get("metrics_port", 0)
        try:
            answer = httpx.get(f"http://127.0.0.1:{port}/ready", trust_env=False, timeout=30)
        except httpx.HTTPError:
            return 0, {}
        return answer.status_code, answer.json()["dependencies"]


@pytest.fixture
def risk(tmp_path: Path) -> Iterator[Risk]:
    made = Risk(tmp_path)
    yield made
    made.bus.close()


@pytest.mark.slow
def test_a_limit_lowered_in_the_environment_binds_after_a_restart_and_the_session_replays(risk: Risk) -> None:
    risk.publish(a_quote(), a_mark(), an_account())
    with risk.running():
        eventually(risk.commands, within_s=30)
        risk.publish(an_intent(1))
        eventually(lambda: len(risk.verdicts()) == 1, within_s=30)
    with risk.running(MAX_ORDER_NOTIONAL_USDT="500"):
        risk.publish(an_intent(2, "0.02"))
        eventually(lambda: len(risk.verdicts()) == 2, within_s=30)
    before, after = risk.verdicts()
    assert (failed(before), before.limits_version) == ([], 1)
    assert (failed(after), after.limits_version) == (["order_notional_usdt"], 2)
    first, second = risk.commands()
    assert (first.issued_by, second.issued_by) == ("settings", "settings")
    assert second.arguments == {"max_order_notional_usdt": "500"}
    # Whatever the settings are by now: what counted lies on the control topic.
    done = risk.say("verify", MAX_ORDER_NOTIONAL_USDT="123", MAX_LEVERAGE="1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["difference"] is None
    asked = risk.say("compare", MAX_ORDER_NOTIONAL_USDT="123")
    assert json.loads(asked.stdout)["examples"][0]["replayed"] == "refused: order_notional_usdt"


@pytest.mark.slow
def test_what_waited_while_the_switch_was_thrown_is_refused_by_a_process_that_comes_after(risk: Risk) -> None:
    switch = risk.folder / "STOP"
    risk.publish(a_quote(), a_mark(), an_account(), *(an_intent(number) for number in range(1, 6)))
    switch.touch()
    with risk.running(KILL_SWITCH_FILE=str(switch)):
        eventually(lambda: len(risk.verdicts()) == 5, within_s=30)
    assert all("trading_state" in failed(verdict) for verdict in risk.verdicts())
    assert [command.action for command in risk.commands()] == [ControlAction.SET_LIMITS, ControlAction.HALT]
    assert risk.say("verify").returncode == 0


def test_risk_is_ready_on_a_bus_where_nothing_happens_and_not_without_the_bus(risk: Risk) -> None:
    process = risk.start()
    try:
        eventually(lambda: risk.ready() == (200, {"bus": "ok"}), within_s=60)
        (risk.folder / "bus.db").rename(risk.folder / "moved.db")
        answers: list[tuple[int, dict[str, str]]] = []
        eventually(lambda: process.poll() is not None, within_s=60, step=lambda: answers.append(risk.ready()))
        # Its loop may find the loss, and end, before its look at the bus does: then it is unready and still says "ok".
        said = {reasons["bus"] for code, reasons in answers if code == 503} - {"ok"}
        assert all("bus is lost" in reason for reason in said)
        assert process.returncode == 3
    finally:
        process.kill()
        process.wait()
