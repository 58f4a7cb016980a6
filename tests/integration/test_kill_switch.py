"""The kill switch against the real processes: whichever hangs or dies, nothing but reductions gets out after it.

A round stops or kills one process of the chain, throws the switch one of three ways, lets the process go on, and reads
from the topics what the venue was given. Then trading is resumed and must go on, so that a round can fail.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from libs.bus.api import Bus, Record, TopicPartition
from libs.bus.open import open_bus
from libs.domain.control import ControlAction, ControlCommand, ControlState, TradingState
from libs.domain.orders import OrderRefused, PlaceOrder, ReportKind, VenueReport
from libs.runtime.records import read_stamps, read_topic
from libs.wire import decode
from libs.wire.topics import (
    BARS_CLOSED,
    COMMANDS,
    CONTROL_COMMANDS,
    CONTROL_STATES,
    FEATURE_VECTORS,
    INTENTS,
    MARKET_EVENTS,
    REPORTS,
    VERDICTS,
)
from tests.kit.platform import Platform, trading_platform
from tests.kit.soak import TIMES, at_length
from tests.kit.waiting import eventually

pytestmark = pytest.mark.timeout(900)

# What each of the chain works on: it is stopped the moment something of it has come, which it then has in hand.
WORK = {
    "ingestion": MARKET_EVENTS,
    "bars": MARKET_EVENTS,
    "features": BARS_CLOSED,
    "inference": FEATURE_VECTORS,
    "strategy": BARS_CLOSED,
    "risk": INTENTS,
    "execution": COMMANDS,
}
WAYS = ("command", "file", "page")
ACTS_WITHIN_MS = 100.0
STOPPED_S = 0.5
HUNG_S = 3.0


@dataclass(frozen=True)
class Given:
    """An order that adds risk and that the venue took, with the wall time (ns) at which that was recorded."""

    client_order_id: str
    accepted_at: int


class Trading:
    """A running session that trades at every bar, with its switch file, its page and its topics."""

    def __init__(self, platform: Platform, process: subprocess.Popen[str], switch: Path) -> None:
        self.platform = platform
        self.process = process
        self.switch = switch
        session = json.loads(next((platform.folder / "var" / "sessions").glob("*/session.json")).read_text())
        self.page = f"http://127.0.0.1:{session['environment']['PERPFLOW_MONITORING_PORT']}"
        self.bus: Bus = open_bus(session["bus"])
        self.commands: list[subprocess.Popen[bytes]] = []
        self.pool = ThreadPoolExecutor(1)
        self.posts: list[Future[None]] = []

    def close(self) -> None:
        for command in self.commands:
            command.wait(timeout=120)
        for post in self.posts:
            post.result(timeout=120)
        self.pool.shutdown()
        self.bus.close()

    def pid(self, name: str) -> int:
        return int(self.platform.status()[name]["pid"])

    def is_well(self) -> bool:
        states = self.platform.status().values()
        return all(entry["state"] in ("running", "finished") for entry in states)

    # The switch.

    def throw(self, way: str) -> None:
        """Throw the switch without waiting: a process stopped inside a commit holds up everybody's, the HALT's too."""
        if way == "file":
            self.switch.touch()
        elif way == "page":
            self.posts.append(self.pool.submit(self.post, "halt"))
        else:
            words = [sys.executable, "-m", "services.console", "halt", "--reason", "round"]
            self.commands.append(
                subprocess.Popen(words, cwd=self.platform.folder, env=self.platform.environment, stdout=-3, stderr=-3)
            )

    def post(self, action: str, account: str = "*") -> None:
        words = {"action": action, "account": account, "reason": "round", "confirmation": f"{action} {account}"}
        body = json.dumps(words).encode()
        request = urllib.request.Request(
            f"{self.page}/api/control", body, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            assert answer.status in (200, 202)

    def release(self) -> None:
        self.switch.unlink(missing_ok=True)
        # The switch's file halts the account; the page and the command halt all accounts.
        self.post("resume")
        self.post("resume", "paper")

    # What the topics say.

    def wait_for_record(self, topic: str) -> None:
        """Return as soon as a record is appended to a topic."""
        where = TopicPartition(topic, 0)
        consumer = self.bus.consumer([topic])
        consumer.assign({where: self.bus.end_offsets([where])[where]})
        try:
            assert consumer.poll(1, 120_000), f"nothing came on {topic} within 120 s"
        finally:
            consumer.close()

    def read(self, topic: str) -> list[Record]:
        return list(read_topic(self.bus, topic))

    def halts(self, since: int) -> list[int]:
        """Return when (wall time, ns) the HALTs from an offset on were thrown: made, and taken by the log."""
        found = []
        for record in self.read(CONTROL_COMMANDS)[since:]:
            command = decode(CONTROL_COMMANDS, record.value)
            if isinstance(command, ControlCommand) and command.action is ControlAction.HALT:
                found.append(max(made_at(record), record.append_time_ms * 1_000_000))
        return found

    def state(self) -> TradingState:
        last = decode(CONTROL_STATES, self.read(CONTROL_STATES)[-1].value)
        assert isinstance(last, ControlState)
        return last.state

    def given(self, topic_from: int) -> list[Given]:
        """Return the orders that add risk and that the venue accepted or filled, by reports from an offset on."""
        # Before the commands, so that each has its command.
        reports = self.read(REPORTS)[topic_from:]
        orders = {}
        for record in self.read(COMMANDS):
            command = decode(COMMANDS, record.value)
            if isinstance(command, PlaceOrder):
                orders[command.client_order_id] = command
        found = []
        for record in reports:
            report = decode(REPORTS, record.value)
            assert isinstance(report, VenueReport)
            took = report.kind in (ReportKind.ACCEPTED, ReportKind.FILL)
            if took and not orders[report.client_order_id].reduce_only:
                found.append(Given(report.client_order_id, made_at(record)))
        return found

    def refused_since(self, at: int) -> int:
        """Count refusals for the trading state that were made after a wall time (ns)."""
        found = 0
        for record in self.read(VERDICTS):
            verdict = decode(VERDICTS, record.value)
            if isinstance(verdict, OrderRefused) and made_at(record) > at:
                found += any(check.name == "trading_state" and not check.has_passed for check in verdict.checks)
        return found


def made_at(record: Record) -> int:
    stamps = read_stamps(record.headers)
    assert stamps is not None
    return stamps.made_at


@pytest.fixture(scope="module")
def trading(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trading]:
    folder = tmp_path_factory.mktemp("switch")
    switch = folder / "STOP"
    platform = trading_platform(folder, PERPFLOW_RISK_KILL_SWITCH_FILE=str(switch))
    words = [sys.executable, "-m", "services.console", "up", "--market", "simulated", "--seed", "7", "--speed", "60"]
    words += ["--layout", "spread"]
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            [*words, "--port", "0", "--summary", str(folder / "summary.json")],
            cwd=folder,
            env=platform.environment,
            stdout=subprocess.DEVNULL,
            stderr=log,
            text=True,
        )
    running: Trading | None = None
    try:
        eventually(lambda: len(platform.status()) > len(WORK) and all_run(platform), within_s=240)
        running = Trading(platform, process, switch)
        eventually(lambda: running.given(0), within_s=120)
        yield running
    finally:
        if running is not None:
            running.close()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=240)


def all_run(platform: Platform) -> bool:
    return all(entry["state"] == "running" for entry in platform.status().values())


def run_round(trading: Trading, name: str, way: str, number: signal.Signals) -> float:
    """Stop or kill a process, throw the switch, let it go on; return the ms from the halt to the last new risk."""
    reports, known = len(trading.read(REPORTS)), len(trading.read(CONTROL_COMMANDS))
    pid = trading.pid(name)
    trading.wait_for_record(WORK[name])
    os.kill(pid, number)
    trading.throw(way)
    if number is signal.SIGSTOP:
        stopped_at = time.monotonic()
        # The HALT is thrown while the process hangs, but for the two that wait for it: where risk itself would have to
        # see the file, and where the process holds the log's lock, so that nobody gets anything onto it.
        eventually(
            lambda: time.monotonic() - stopped_at > (STOPPED_S if trading.halts(known) else HUNG_S),
            within_s=60,
        )
        os.kill(pid, signal.SIGCONT)
    eventually(lambda: trading.halts(known), within_s=120)
    # The event is the file's appearance, the HALT's taking by the log otherwise.
    halted_at = trading.switch.stat().st_mtime_ns if way == "file" else trading.halts(known)[0]
    # Intents go on coming and are refused, so what is missing below is missing because of the halt.
    eventually(lambda: trading.refused_since(halted_at) >= 2, within_s=240)
    eventually(trading.is_well, within_s=120)
    assert trading.state() is TradingState.HALTED
    late = [given for given in trading.given(reports) if given.accepted_at > halted_at]
    slowest_ms = max((given.accepted_at - halted_at for given in late), default=0) / 1e6
    resumed_from = len(trading.read(REPORTS))
    trading.release()
    eventually(lambda: trading.given(resumed_from), within_s=120)
    return slowest_ms


def run_rounds(trading: Trading, rounds: Iterable[tuple[str, str, signal.Signals]]) -> None:
    slowest = {}
    for number, (name, way, what) in enumerate(rounds):
        began = time.monotonic()
        ms = slowest[f"{number} {what.name} {name} by {way}"] = run_round(trading, name, way, what)
        print(f"{what.name} {name:<10} {way:<8} {ms:7.1f} ms, round {time.monotonic() - began:.1f} s")
    assert {name: ms for name, ms in slowest.items() if ms > ACTS_WITHIN_MS} == {}


def test_nothing_gets_out_after_the_halt_whoever_hangs_or_dies(trading: Trading) -> None:
    # The last three before an order, each way once; the long run has every process in every way.
    hung = [(name, way, signal.SIGSTOP) for name, way in zip(("strategy", "risk", "execution"), WAYS, strict=True)]
    run_rounds(trading, [*hung, ("execution", "command", signal.SIGKILL)])


@at_length
@pytest.mark.timeout(1800)
def test_nothing_gets_out_after_the_halt_at_length(trading: Trading) -> None:
    # The process changes fastest: the supervisor gives up on one that dies six times within a minute.
    turns = itertools.product(range(TIMES), (signal.SIGSTOP, signal.SIGKILL), WAYS, WORK)
    run_rounds(trading, [(name, way, what) for _, what, way, name in turns])
