"""`perpflow halt`, `reduce`, `flatten`, `resume` and `status` on sessions of several folders, with real gates."""

from __future__ import annotations

import json
import os
import pwd
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from libs.bus.api import TopicSpec
from libs.bus.open import open_bus
from libs.domain.control import AuditEntry, AuditOutcome, ControlAction, ControlCommand, TradingState
from libs.domain.instruments import INSTRUMENTS
from libs.runtime.records import commit_records, read_topic, stamped_record
from libs.wire import decode, encode
from libs.wire.topics import ACCOUNTS, AUDIT, CONTROL_COMMANDS, CONTROL_STATES
from services.console import main as console
from services.console.running import register_session
from services.console.session import SessionDescription
from services.risk.core import RiskCore, RiskLimits
from tests.kit.builders import BTC, a_control, an_account

Perpflow = Callable[..., tuple[int, str, str]]


class RunningSession:
    """A session in a `var` of its own: a log, a process that lives, and a gate for each account that obeys commands."""

    def __init__(self, folder: Path, name: str, *accounts: str, answers: bool = True) -> None:
        self.session = SessionDescription(
            name=name,
            folder=folder / "sessions" / name,
            market="simulated",
            mode="paper",
            seed=7,
            speed=1.0,
            instrument=BTC,
            bus=f"sqlite:{folder / 'sessions' / name / 'bus.db'}",
            topic_prefix="",
            clickhouse="",
            clickhouse_database="perpflow",
            environment={"PERPFLOW_RISK_ACCOUNT": accounts[0]},
        )
        self.session.save()
        assert register_session(self.session) == ""
        self.bus = open_bus(self.session.bus)
        self.bus.create_topics(TopicSpec(name, 1) for name in (CONTROL_COMMANDS, CONTROL_STATES, ACCOUNTS, AUDIT))
        self.gates = {account: RiskCore(RiskLimits(), INSTRUMENTS, account) for account in accounts}
        self.publish(*(an_account("0.5", account=account) for account in accounts))
        # What a supervisor's command line looks like; it ends when its input does.
        self.process = subprocess.Popen(
            [sys.executable, "-c", "input()", "services.console"], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.session.run_dir.mkdir(parents=True)
        (self.session.run_dir / "supervisor.json").write_text(json.dumps({"pid": self.process.pid, "services": {}}))
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.obey)
        if answers:
            self.publish(*(gate.handle(an_account(account=account))[0] for account, gate in self.gates.items()))
            self.thread.start()

    def publish(self, *events: Any) -> None:
        producer = self.bus.producer("test")
        commit_records(producer, [stamped_record(encode(event), "test", 1) for event in events])
        producer.close()

    def obey(self) -> None:
        with open_bus(self.session.bus) as bus:
            consumer, producer = (
                bus.consumer([CONTROL_COMMANDS], group="risk", member_id="risk-0"),
                bus.producer("risk"),
            )
            while not self.is_over.is_set():
                for record in consumer.poll(10, 20):
                    command = decode(CONTROL_COMMANDS, record.value)
                    outputs = [output for gate in self.gates.values() for output in gate.handle(command)]
                    states = [output for output in outputs if encode(output).topic == CONTROL_STATES]
                    commit_records(producer, [stamped_record(encode(state), "risk", 1) for state in states])
            consumer.close()
            producer.close()

    def states(self) -> dict[str, str]:
        return {name: gate.trading_state.name for name, gate in self.gates.items()}

    def commands(self) -> list[tuple[str, str]]:
        events = [decode(CONTROL_COMMANDS, record.value) for record in read_topic(self.bus, CONTROL_COMMANDS)]
        return [(event.action.name, event.account) for event in events if isinstance(event, ControlCommand)]

    def audit(self) -> list[AuditEntry]:
        events = [decode(AUDIT, record.value) for record in read_topic(self.bus, AUDIT)]
        return [event for event in events if isinstance(event, AuditEntry)]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.communicate(b"\n")

    def close(self) -> None:
        self.end()
        self.is_over.set()
        if self.thread.ident is not None:
            self.thread.join()
        self.bus.close()


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., RunningSession]]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path / "here"))
    with ExitStack() as stack:

        def begin(folder: str, name: str, *accounts: str, answers: bool = True) -> RunningSession:
            session = RunningSession(tmp_path / folder, name, *(accounts or ("paper",)), answers=answers)
            stack.callback(session.close)
            return session

        yield begin


@pytest.fixture
def perpflow(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Perpflow:
    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["perpflow", *words])
        with pytest.raises(SystemExit) as ended:
            console.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


@pytest.mark.slow
def test_halt_reaches_every_session_and_account_and_names_each(
    start: Callable[..., RunningSession], perpflow: Perpflow
) -> None:
    sessions = [start("here", "one"), start("elsewhere", "two", "paper", "hedge")]
    code, out, _ = perpflow("halt", "--reason", "news", "--json")
    answer = json.loads(out)
    assert code == 0 and answer["is_done"]
    assert {(each["session"], each["account"], each["state"], each["reason"]) for each in answer["accounts"]} == {
        ("one", "paper", "HALTED", "HALT by console: news"),
        ("two", "paper", "HALTED", "HALT by console: news"),
        ("two", "hedge", "HALTED", "HALT by console: news"),
    }
    assert [session.states() for session in sessions] == [{"paper": "HALTED"}, {"paper": "HALTED", "hedge": "HALTED"}]


@pytest.mark.parametrize("words", [("halt",), ("reduce",), ("flatten", "--yes"), ("resume", "--yes")])
def test_command_leaves_an_audit_entry_with_the_user_of_this_machine(
    start: Callable[..., RunningSession], perpflow: Perpflow, words: tuple[str, ...]
) -> None:
    one = start("here", "one")
    assert perpflow(*words, "--reason", "news")[0] == 0
    (entry,) = one.audit()
    (command,) = (decode(CONTROL_COMMANDS, record.value) for record in read_topic(one.bus, CONTROL_COMMANDS))
    assert (entry.actor, entry.source_address) == (pwd.getpwuid(os.getuid()).pw_name, "local")
    assert (entry.action, entry.target, entry.detail) == (words[0], "*", "news")
    assert (entry.outcome, entry.command_id) == (AuditOutcome.DONE, command.event_id)


def test_user_without_a_name_is_audited_by_number(
    start: Callable[..., RunningSession], perpflow: Perpflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = start("here", "one")
    monkeypatch.setattr("os.getuid", lambda: 4_000_000_001)
    assert perpflow("halt")[0] == 0
    assert [entry.actor for entry in one.audit()] == ["4000000001"]


@pytest.mark.slow
def test_each_scope_that_resume_lifts_has_its_audit_entry(
    start: Callable[..., RunningSession], perpflow: Perpflow
) -> None:
    one = start("here", "one")
    perpflow("halt", "--account", "paper")
    perpflow("resume", "--yes")
    assert [(entry.action, entry.target) for entry in one.audit()] == [
        ("halt", "paper"),
        ("resume", "*"),
        ("resume", "paper"),
    ]


def test_halt_as_a_table_names_session_account_and_state(
    start: Callable[..., RunningSession], perpflow: Perpflow
) -> None:
    start("here", "one")
    code, out, _ = perpflow("halt")
    assert code == 0
    assert all(word in out for word in ("one", "paper", "HALTED"))


@pytest.mark.slow
def test_session_and_account_narrow_what_is_halted(start: Callable[..., RunningSession], perpflow: Perpflow) -> None:
    one, two = start("here", "one"), start("elsewhere", "two", "paper", "hedge")
    assert perpflow("halt", "--session", "two", "--account", "hedge")[0] == 0
    assert (one.states(), two.states()) == ({"paper": "ACTIVE"}, {"paper": "ACTIVE", "hedge": "HALTED"})
    assert perpflow("reduce", "--account", "paper")[0] == 0
    assert (one.states(), two.states()) == ({"paper": "REDUCING"}, {"paper": "REDUCING", "hedge": "HALTED"})


def test_unknown_account_is_refused_with_those_there_are(
    start: Callable[..., RunningSession], perpflow: Perpflow
) -> None:
    one = start("here", "one", "paper", "hedge")
    code, _, err = perpflow("halt", "--account", "papre")
    assert code == 2 and "unknown account 'papre'; known: hedge, paper" in err
    assert one.commands() == []


@pytest.mark.slow
def test_session_that_does_not_run_is_refused_and_nothing_is_written(
    start: Callable[..., RunningSession], perpflow: Perpflow
) -> None:
    one, two = start("here", "one"), start("here", "two")
    one.end()
    code, _, err = perpflow("halt", "--session", "one")
    assert code == 3 and "session one is not running, so nothing was sent; running: two" in err
    assert one.commands() == []
    assert perpflow("halt")[0] == 0
    assert (one.states(), two.states()) == ({"paper": "ACTIVE"}, {"paper": "HALTED"})
    assert perpflow("halt", "--session", "three")[0] == 2


@pytest.mark.usefixtures("start")
def test_halt_where_nothing_runs_is_an_error(perpflow: Perpflow) -> None:
    code, _, err = perpflow("halt")
    assert code == 3 and "no session is running on this machine" in err


def test_halt_that_risk_does_not_confirm_fails_by_name_and_holds_up_no_other_session(
    start: Callable[..., RunningSession], perpflow: Perpflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.console.control.CONFIRM_WITHIN_S", 1.0)
    silent, other = start("here", "silent", answers=False), start("here", "other")
    code, out, err = perpflow("halt", "--json")
    assert code == 1 and "halt is not in force for paper of silent" in err
    states = {each["session"]: each["state"] for each in json.loads(out)["accounts"]}
    assert states == {"silent": "unconfirmed", "other": "HALTED"}
    assert silent.commands() == [("HALT", "*")] and other.states() == {"paper": "HALTED"}


def test_session_whose_log_is_gone_fails_by_name_and_the_others_are_halted(
    start: Callable[..., RunningSession], perpflow: Perpflow
) -> None:
    one, two = start("here", "one"), start("here", "two")
    one.is_over.set()
    one.thread.join()
    Path(one.session.bus.partition(":")[2]).unlink()
    code, out, err = perpflow("halt", "--json")
    assert code == 1 and "not in force for * of one" in err
    assert "has no log any more" in {each["session"]: each["reason"] for each in json.loads(out)["accounts"]}["one"]
    assert two.states() == {"paper": "HALTED"}


@pytest.mark.slow
def test_resume_of_an_account_says_that_the_halt_of_all_accounts_stays(
    start: Callable[..., RunningSession], perpflow: Perpflow
) -> None:
    one = start("here", "one")
    perpflow("halt")
    code, out, _ = perpflow("resume", "--account", "paper", "--json")
    assert code == 1 and one.states() == {"paper": "HALTED"}
    assert "stays HALTED until * is resumed" in json.loads(out)["accounts"][0]["reason"]
    assert perpflow("resume", "--account", "*")[0] == 0
    assert one.states() == {"paper": "ACTIVE"}


@pytest.mark.slow
def test_resume_without_an_account_lifts_every_hold_but_asks_first(
    start: Callable[..., RunningSession], perpflow: Perpflow
) -> None:
    one = start("here", "one")
    perpflow("halt", "--account", "paper")
    perpflow("halt")
    code, _, err = perpflow("resume")
    assert code == 2 and "resume asks first" in err and "--yes" in err
    assert one.states() == {"paper": "HALTED"}
    assert perpflow("resume", "--yes")[0] == 0
    assert one.states() == {"paper": "ACTIVE"}


@pytest.mark.slow
def test_resume_of_an_account_name_that_two_sessions_have_asks_first(
    start: Callable[..., RunningSession], perpflow: Perpflow
) -> None:
    one, two = start("here", "one"), start("here", "two")
    perpflow("halt", "--account", "paper")
    assert perpflow("resume", "--account", "paper")[0] == 2
    assert perpflow("resume", "--account", "paper", "--session", "two")[0] == 0
    assert (one.states(), two.states()) == ({"paper": "HALTED"}, {"paper": "ACTIVE"})


@pytest.mark.slow
@pytest.mark.parametrize(("answer", "state"), [("y\n", TradingState.HALTED), ("n\n", TradingState.ACTIVE)])
def test_flatten_asks_a_person_first(
    start: Callable[..., RunningSession],
    perpflow: Perpflow,
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    state: TradingState,
) -> None:
    one = start("here", "one")
    assert perpflow("flatten")[0] == 2

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return answer

    monkeypatch.setattr(sys, "stdin", Terminal())
    code, _, err = perpflow("flatten")
    assert code == (0 if state is TradingState.HALTED else 1)
    assert "0.5 BTCUSDT.BINANCE at" in err
    assert one.states() == {"paper": state.name}


def test_flatten_with_yes_asks_nobody(start: Callable[..., RunningSession], perpflow: Perpflow) -> None:
    one = start("here", "one")
    assert perpflow("flatten", "--yes")[0] == 0
    assert one.commands() == [("FLATTEN", "*")] and one.states() == {"paper": "HALTED"}


@pytest.mark.slow
def test_status_shows_the_accounts_of_every_running_session(
    start: Callable[..., RunningSession], perpflow: Perpflow
) -> None:
    start("here", "one")
    start("elsewhere", "two", "hedge")
    perpflow("halt", "--session", "two", "--reason", "news")
    code, out, _ = perpflow("status", "--json")
    sessions = {facts["session"]: facts for facts in json.loads(out)["sessions"]}
    assert code == 0 and set(sessions) == {"one", "two"}
    (account,) = sessions["two"]["accounts"]
    assert (account["account"], account["trading_state"], account["reason"]) == (
        "hedge",
        "HALTED",
        "HALT by console: news",
    )
    assert account["equity"] == "10000" and account["positions"][0]["quantity"] == "0.5"
    assert sessions["one"]["accounts"][0]["trading_state"] == "ACTIVE"
    _, out, _ = perpflow("status", "--session", "two")
    assert all(word in out for word in ("hedge", "HALTED", "10000", "0.5")) and "one" not in out.split()


def test_command_that_came_before_does_not_pass_for_a_confirmation(
    start: Callable[..., RunningSession], perpflow: Perpflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.console.control.CONFIRM_WITHIN_S", 0.5)
    silent = start("here", "silent", answers=False)
    silent.publish(*silent.gates["paper"].handle(a_control(ControlAction.HALT))[:1])
    code, out, _ = perpflow("halt", "--json")
    assert code == 1 and json.loads(out)["accounts"][0]["state"] == "unconfirmed"


def by_bus_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, running: RunningSession) -> None:
    """As in a container: the bus is known by its address and no session has a folder here."""
    running.end()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path / "empty"))
    monkeypatch.setenv("PERPFLOW_BUS", running.session.bus)
    monkeypatch.setenv("PERPFLOW_RISK_ACCOUNT", next(iter(running.gates)))


@pytest.mark.slow
def test_halt_and_status_need_no_session_folder_where_settings_name_the_bus(
    start: Callable[..., RunningSession], perpflow: Perpflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    one = start("one", "first", "paper")
    by_bus_alone(monkeypatch, tmp_path, one)
    code, out, _ = perpflow("halt", "--json")
    assert code == 0
    (confirmed,) = json.loads(out)["accounts"]
    assert (confirmed["session"], confirmed["account"], confirmed["state"]) == ("bus", "paper", "HALTED")
    assert one.commands() == [("HALT", "*")]
    code, out, _ = perpflow("status", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["is_running"] is None
    assert [(row["account"], row["trading_state"]) for row in facts["accounts"]] == [("paper", "HALTED")]


def test_halt_on_a_bus_without_a_session_is_an_error(
    perpflow: Perpflow, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path / "empty"))
    url = f"sqlite:{tmp_path / 'bus.db'}"
    with open_bus(url) as bus:
        bus.create_topics([TopicSpec("others.v1", 1)])
    monkeypatch.setenv("PERPFLOW_BUS", url)
    code, out, err = perpflow("halt")
    assert (code, out) == (3, "")
    assert f"{url} has no topic {CONTROL_COMMANDS}; start the services first" in err
