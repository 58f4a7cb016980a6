from __future__ import annotations

import orjson
import pytest
import typer
from typer.testing import CliRunner

from services.backtest.check_strategy import check_strategy
from services.backtest.inputs import open_simulation
from services.backtest.options import BacktestOptions, parse_strategies
from services.console.backtest_commands import check_strategy as command

BTC = "BTCUSDT.BINANCE"
app = typer.Typer()
app.command()(command)


def kinds(strategy: str) -> set[str]:
    market = open_simulation(7, minutes=30, history_bars=60)
    findings = check_strategy(market, BacktestOptions(BTC, strategies=parse_strategies([strategy])))
    return {finding.kind for finding in findings}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("KnowsTheFuture", "look-ahead"),
        ("Forgets", "forgotten state"),
        ("LooksAtTheClock", "hidden clock or chance"),
        ("Gambles", "hidden clock or chance"),
        ("ReadsAFile", "outside access"),
        ("ReadsInCompiledCode", "outside access"),
    ],
)
def test_planted_mistake_is_found(name: str, kind: str) -> None:
    assert kind in kinds(f"tests.unit.backtest.planted:{name}")


@pytest.mark.slow
def test_what_a_module_reads_when_it_is_imported_is_found() -> None:
    assert kinds("tests.unit.backtest.planted_at_import:ReadAtImport") == {"outside access"}


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ema_cross", "forecast_threshold", "tests.unit.backtest.planted:ImportsLate"])
def test_shipped_strategies_and_a_late_import_have_none(strategy: str) -> None:
    assert kinds(strategy) == set()


@pytest.mark.slow
def test_state_that_is_not_declared_cannot_be_assigned() -> None:
    with pytest.raises(AttributeError, match="assigns last_close, which is not declared"):
        kinds("tests.unit.backtest.planted:Assigns")


@pytest.mark.slow
def test_command_says_findings_and_fails() -> None:
    outcome = CliRunner().invoke(app, ["--strategy", "tests.unit.backtest.planted:Forgets", "--span", "30m", "--json"])
    assert outcome.exit_code == 1, outcome.output
    assert {"forgotten state"} == {finding["kind"] for finding in orjson.loads(outcome.stdout)}
