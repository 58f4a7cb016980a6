from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner

from libs.runtime.errors import BadInput
from services.console.backtests_commands import _COMPARED, backtests_app


def keep(root: Path, name: str, **changes: object) -> None:
    folder = root / "backtests" / name
    folder.mkdir(parents=True)
    report = {
        **dict.fromkeys(_COMPARED, 1.5),
        "halted": None,
        "period": {"from": "2026-01-01T00:00:00.000Z", "to": "2026-02-01T00:00:00.000Z", "days": 31.0},
        "input": {"name": "bars.parquet"},
        "parameters": {"strategies": [{"path": "ema_cross", "parameters": {"fast_bars": 3}}]},
        "versions": {},
        **changes,
    }
    (folder / "report.json").write_bytes(orjson.dumps(report))


@pytest.fixture(autouse=True)
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PERPFLOW_VAR", str(tmp_path))
    return tmp_path


def test_kept_backtests_are_listed(var: Path) -> None:
    assert "none in" in CliRunner().invoke(backtests_app, ["list"]).stdout
    keep(var, "slow", halted={"time": "2026-01-05T00:00:00.000Z"})
    keep(var, "fast", pnl_usdt="12.5")
    rows = orjson.loads(CliRunner().invoke(backtests_app, ["list", "--json"]).stdout)
    assert [(row["name"], row["pnl_usdt"], row["halted"]) for row in rows] == [
        ("fast", "12.5", None),
        ("slow", 1.5, "2026-01-05T00:00:00.000Z"),
    ]


def test_comparison_shows_measures_and_only_the_parameters_that_differ(var: Path) -> None:
    keep(var, "fast", sharpe=2.0)
    keep(var, "slow", parameters={"strategies": [{"path": "ema_cross", "parameters": {"fast_bars": 9}}]})
    told = orjson.loads(CliRunner().invoke(backtests_app, ["compare", "fast", "slow", "--json"]).stdout)
    assert told["measures"]["sharpe"] == {"fast": 2.0, "slow": 1.5}
    assert told["differing"] == {"parameters.strategies.0.parameters.fast_bars": {"fast": 3, "slow": 9}}
    assert "fast_bars" in CliRunner().invoke(backtests_app, ["compare", "fast", "slow"]).stdout


@pytest.mark.parametrize(("names", "message"), [(["one"], "two names or more"), (["one", "two"], "no backtest 'one'")])
def test_what_cannot_be_compared_is_refused(names: list[str], message: str) -> None:
    outcome = CliRunner().invoke(backtests_app, ["compare", *names])
    assert isinstance(outcome.exception, BadInput)
    assert message in str(outcome.exception)


def test_report_of_an_older_build_is_refused_by_what_it_lacks(var: Path) -> None:
    keep(var, "old")
    (var / "backtests" / "old" / "report.json").write_text("{}")
    outcome = CliRunner().invoke(backtests_app, ["list"])
    assert "report of an older build" in str(outcome.exception)


def test_the_page_shows_all_kept_runs_and_in_what_they_differ(var: Path) -> None:
    outcome = CliRunner().invoke(backtests_app, ["page"])
    assert isinstance(outcome.exception, BadInput)
    curve = {"equity_curve": {"equity_usdt": [100.0, 90.0, 120.0]}}
    keep(var, "fast", **curve)
    keep(var, "slow<b>", parameters={"strategies": [{"path": "ema_cross", "parameters": {"fast_bars": 9}}]}, **curve)
    outcome = CliRunner().invoke(backtests_app, ["page"])
    assert outcome.exit_code == 0, outcome.output
    page = (var / "backtests/index.html").read_text()
    assert "<a href='fast/report.html'>fast</a>" in page
    assert "slow&lt;b&gt;" in page and "slow<b>" not in page
    assert page.count("<polyline") == 2
    assert "parameters.strategies.0.parameters.fast_bars" in page
