from __future__ import annotations

from pathlib import Path

import orjson
import pytest
import typer
from typer.testing import CliRunner

from libs.runtime.errors import BadInput
from services.console.backtest_commands import backtest

app = typer.Typer()
app.command()(backtest)


@pytest.mark.slow
def test_backtest_of_a_seed_prints_json_and_writes_both_files(tmp_path: Path) -> None:
    outcome = CliRunner().invoke(
        app, ["--seed", "7", "--span", "2m", "--history-bars", "200", "--json", "--output", str(tmp_path)]
    )
    assert outcome.exit_code == 0, outcome.output
    report = orjson.loads(outcome.stdout)
    assert report == orjson.loads((tmp_path / "report.json").read_bytes())
    assert {"trades", "pnl_usdt", "fees_usdt", "funding_usdt", "sharpe", "max_drawdown", "turnover", "win_rate"} <= set(
        report
    )
    assert (tmp_path / "report.html").is_file()


@pytest.mark.slow
def test_backtest_says_the_measures_to_a_person() -> None:
    outcome = CliRunner().invoke(app, ["--seed", "7", "--span", "1m", "--history-bars", "200"])
    assert outcome.exit_code == 0, outcome.output
    assert "net profit, USDT" in outcome.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --input PATH, --seed N or a session"),
        (["--seed", "1", "--session", "s"], "one of them"),
        (["--from-bus", "kafka:a:1", "--from-clickhouse", "http://a"], "not both"),
        (["--session", "s", "--history", "x"], "--history belongs to --input"),
        (["--session", "absent"], "no session 'absent'"),
        (["--from-bus", "sqlite:/absent/bus.db"], "there is no file /absent/bus.db"),
        (["--from-clickhouse", "nowhere"], "'nowhere' is not of the form"),
        (["--seed", "1", "--input", "x"], "one of them"),
        (["--seed", "1", "--history", "x"], "--history belongs to --input"),
        (["--seed", "1", "--from", "yesterday"], "--from 'yesterday' is not a time"),
        (["--seed", "1", "--from", "2026-01-02", "--to", "2026-01-01"], "is not after --from"),
        (["--seed", "1", "--balance", "0"], "--balance '0' must be above 0"),
        (["--seed", "1", "--balance", "much"], "is not an amount"),
        (["--input", "/absent/file"], "/absent/file does not exist"),
        (["--seed", "1", "--span", "soon"], "--span"),
        (["--instruments", "BTCUSDT.BINANCE,ETHUSDT.BINANCE", "--input", "a"], "1 times for 2 instruments"),
        (["--seed", "1", "--instruments", "XYZUSDT.BINANCE"], "XYZUSDT.BINANCE"),
        (["--seed", "1", "--accounts", "a,a"], "--accounts 'a,a' names one twice"),
    ],
)
def test_bad_options_are_refused_by_name(arguments: list[str], message: str) -> None:
    outcome = CliRunner().invoke(app, arguments)
    assert isinstance(outcome.exception, BadInput), outcome.output
    assert message in str(outcome.exception)
