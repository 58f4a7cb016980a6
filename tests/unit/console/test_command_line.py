"""The command line: what it refuses, in one line, with the exit code that the design gives."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from libs.runtime.errors import BadInput, DependencyUnavailable
from libs.runtime.listening import ReservedPort, listen_on, reserve_preferred
from services.console.durations import parse_duration_s
from services.console.main import app, main
from services.console.replay import parse_what_if
from services.console.session import SessionDescription, load_session
from tests.kit.platform import ROOT


@pytest.fixture
def perpflow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process and an empty folder; return its exit code and what it wrote."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("PERPFLOW_")]:
        monkeypatch.delenv(name)
    # Sessions of other tests run beside this one.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["perpflow", *arguments])
        # The command line puts a stream of its own around it.
        monkeypatch.setattr(sys, "stderr", sys.stderr)
        with pytest.raises(SystemExit) as ended:
            main()
        written = capsys.readouterr()
        return int(ended.value.code or 0), written.out, written.err

    return call


Perpflow = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("up", "--market", "nowhere"), "--market 'nowhere' is not auto, live, simulated or recorded:PATH"),
        (("up", "--market", "recorded:absent.gz"), "no such file or folder: absent.gz"),
        (("up", "--market", "simulated", "--for", "soon"), "--for 'soon' is not a time above zero"),
        (("up", "--market", "simulated", "--instrument", "DOGE"), "unknown instrument 'DOGE'; known: BTCUSDT.BINANCE"),
        (("up", "--market", "simulated", "--mode", "yolo"), "--mode 'yolo' is not paper, testnet or live"),
        (
            ("up", "--market", "live", "--mode", "live"),
            "orders to the venue and needs PERPFLOW_EXECUTION_API_KEY",
        ),
        (("up", "--market", "simulated", "--mode", "live"), "--mode live cannot trade on a simulated market"),
        (("up", "--market", "simulated", "--mode", "testnet", "--speed", "0"), "give --speed above 0"),
        (("up", "--market", "live", "--speed", "5"), "--speed is for simulated and recorded markets"),
        (("up", "--market", "simulated", "--history", "absent.parquet"), "--history absent.parquet: no such file"),
        (("run", "barista"), "unknown service 'barista'; known: ingestion"),
        (("replay",), "say either --verify or --what-if"),
        (("status",), "no session under"),
        (("trace", "x"), "no session under"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments: tuple[str, ...], message: str, perpflow: Perpflow) -> None:
    code, _, errors = perpflow(*arguments)
    assert code == 2, errors
    assert message in errors
    assert len(errors.strip().splitlines()) == 1


def test_a_busy_page_port_is_named_with_its_fix(perpflow: Perpflow) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, _, errors = perpflow("up", "--market", "simulated", "--port", str(port))
    assert code == 3
    assert f"port {port} on 127.0.0.1 is busy" in errors
    assert "--port" in errors


def commands(group: Any, *before: str) -> Iterator[tuple[str, ...]]:
    for name, command in group.commands.items():
        yield (*before, name)
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)


@pytest.mark.parametrize("words", list(commands(get_command(app))), ids=" ".join)
def test_every_command_has_help_with_an_example(words: tuple[str, ...], perpflow: Perpflow) -> None:
    code, page, _ = perpflow(*words, "--help")
    assert code == 0
    assert "Example" in page or "Commands" in page


def test_the_command_line_is_a_process_of_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.console", "status"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "XDG_STATE_HOME": str(tmp_path / "state")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, len(done.stderr.strip().splitlines())) == (2, 1)
    assert done.stderr.startswith("perpflow: no session under")


def test_durations_are_read_in_every_unit() -> None:
    assert [parse_duration_s("--for", text) for text in ("90s", "30m", "2h", "1d", "0.5m")] == [
        90,
        1800,
        7200,
        86400,
        30,
    ]


@pytest.mark.parametrize("text", ["", "10", "-5s", "0s", "5 weeks", "1h30m"])
def test_durations_without_meaning_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="write 60s, 30m, 2h or 1d"):
        parse_duration_s("--for", text)


def test_a_what_if_names_a_service_and_its_setting() -> None:
    assert parse_what_if("risk.max_leverage=2") == ("risk", {"PERPFLOW_RISK_MAX_LEVERAGE": "2"})
    with pytest.raises(BadInput, match=r"SERVICE\.SETTING=VALUE"):
        parse_what_if("max_leverage=2")


def test_a_reserved_port_waits_for_its_server_and_a_busy_one_is_refused() -> None:
    with ReservedPort() as port:
        for _ in range(2):
            # The server that it is for may listen, again after a restart; nobody else meanwhile.
            with listen_on("127.0.0.1", port.number, "PORT"), pytest.raises(DependencyUnavailable, match="busy"):
                ReservedPort(port.number)
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            assert other.getsockname()[1] != port.number
    with listen_on("127.0.0.1", 0, "PORT") as taken, reserve_preferred(taken.getsockname()[1]) as another:
        assert another.number != taken.getsockname()[1]


def a_session(folder: Path, name: str = "one") -> SessionDescription:
    return SessionDescription(
        name,
        folder / "sessions" / name,
        "simulated",
        "paper",
        7,
        60.0,
        "BTCUSDT.BINANCE",
        "sqlite:x",
        "",
        "",
        "perpflow",
    )


def test_the_latest_session_is_the_one_saved_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    a_session(tmp_path, "one").save()
    a_session(tmp_path, "two").save()
    assert load_session().name == "two"
    assert load_session("one").seed == 7


def test_an_unknown_session_is_refused_with_those_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    a_session(tmp_path, "one").save()
    with pytest.raises(BadInput, match="known: one"):
        load_session("three")
    with pytest.raises(BadInput, match="cannot be a session's name"):
        load_session("../one")


def test_a_damaged_session_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    session = a_session(tmp_path)
    session.save()
    (session.folder / "session.json").write_text(json.dumps({"name": "one"})[:-3])
    with pytest.raises(BadInput, match=r"session\.json is damaged"):
        load_session("one")
