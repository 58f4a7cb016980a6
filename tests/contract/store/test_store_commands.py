"""`perpflow sql` and `perpflow store open` on a session that has finished: its tables answer people and programs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from libs.runtime.errors import BadInput
from libs.store.tables import StoredRow
from services.console.main import app
from services.console.session import SessionDescription
from services.console.store_access import EMBEDDED_USER
from tests.contract.store.local_server import PASSWORD, LocalServer
from tests.kit.builders import BTC, a_trade
from tests.kit.platform import ROOT


@pytest.fixture(scope="module")
def var(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one finished session, `done`, whose tables hold five trades."""
    root = tmp_path_factory.mktemp("var")
    folder = root / "sessions" / "done"
    server = LocalServer(folder).start()
    with server.store() as store:
        store.migrate()
        rows = [StoredRow(0, number, BTC.encode(), 1_767_225_600_000, a_trade(number)) for number in range(5)]
        store.insert("market.events.v1", rows)
    server.close()
    server.path.rename(folder / "clickhouse")
    SessionDescription(
        *("done", folder, "simulated", "paper", 7, 1.0, BTC, f"sqlite:{folder}/bus.db", "", "http://127.0.0.1:9"),
        clickhouse_database="perpflow",
        clickhouse_user=EMBEDDED_USER,
    ).save()
    return root


@pytest.fixture(autouse=True)
def in_it(var: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PERPFLOW_VAR", str(var))
    yield


def perpflow(*arguments: str) -> str:
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_sql_answers_programs_and_writes_parquet(tmp_path: Path, var: Path) -> None:
    text = "SELECT venue_trade_id, price FROM trades ORDER BY venue_trade_id"
    rows = [json.loads(line) for line in perpflow("sql", text, "--session", "done", "--json").splitlines()]
    assert [int(row["venue_trade_id"]) for row in rows] == list(range(5))
    output = tmp_path / "trades.parquet"
    perpflow("sql", text, "--output", str(output))
    assert pq.read_table(output).column("venue_trade_id").to_pylist() == list(range(5))
    assert not (var / "sessions" / "done" / "clickhouse.password").exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("SELEKT 1",), "Syntax error"),
        (("SELECT * FROM nowhere",), "nowhere"),
        (("SELECT 1", "--output", "answer.doc"), "a file ending in .parquet"),
        (("SELECT 1", "--session", "another"), "no session 'another'"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(arguments: tuple[str, ...], reason: str) -> None:
    with pytest.raises(BadInput, match=reason):
        perpflow("sql", *arguments)


def test_an_opened_session_serves_others_until_it_is_stopped(var: Path) -> None:
    command = [sys.executable, "-m", "services.console", "store", "open", "done", "--json"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PERPFLOW_VAR": str(var)}, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        lines: list[bytes] = []
        while not lines or not lines[-1].startswith(b"}"):
            lines.append(process.stdout.readline())
            assert lines[-1], "it ended"
        facts = json.loads(b"".join(lines))
        password = Path(facts["password_file"]).read_text().strip()
        assert password != PASSWORD
        counted = "SELECT count() FROM trades"
        answer = httpx.post(facts["url"], content=counted, auth=(facts["user"], password))
        assert answer.text == "5\n"
        assert httpx.post(facts["url"], content=counted, auth=(facts["user"], PASSWORD)).status_code in (401, 403, 516)
        with pytest.raises(BadInput, match="runs already"):
            perpflow("sql", counted)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        if process.stdout is not None:
            process.stdout.close()
    assert perpflow("sql", "SELECT count() AS n FROM trades", "--json") == '{"n":5}\n'
