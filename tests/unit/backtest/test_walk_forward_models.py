"""A walk with retraining: each window's models see only what lies a purge before what they trade."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from libs.runtime.errors import BadInput
from services.backtest import walk_forward as walking
from services.backtest.options import BacktestOptions
from services.backtest.sweep import MarketSource, SweepPlan, SweepPoint
from services.backtest.walk_forward import Retraining, split_windows, walk_forward
from services.console import research_commands
from services.strategy.settings import StrategyChoice

MINUTE = 60 * 10**9
PURGE, EMBARGO = 5 * MINUTE, 7 * MINUTE


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[BacktestOptions]:
    """Note the options of every run; the second choice of parameters is the better one."""
    noted: list[BacktestOptions] = []

    def run_point(plan: SweepPlan, parameters: Mapping[str, Any]) -> SweepPoint:
        noted.append(plan.options)
        return SweepPoint(dict(parameters), {"sharpe": float(parameters["bars"])}, [])

    def run_sweep(plan: SweepPlan, points: Any, _results: Path, *, workers: int) -> list[SweepPoint]:
        assert workers == 1
        return [run_point(plan, point) for point in points]

    monkeypatch.setattr(walking, "run_point", run_point)
    monkeypatch.setattr(walking, "run_sweep", run_sweep)
    return noted


def test_models_are_trained_a_purge_before_what_they_trade(ran: list[BacktestOptions], tmp_path: Path) -> None:
    fitted: list[tuple[int, int]] = []

    def fit(since: int, until: int) -> str:
        fitted.append((since, until))
        return f"model/{len(fitted)}"

    plan = SweepPlan(MarketSource("BTCUSDT.BINANCE"), BacktestOptions("BTCUSDT.BINANCE"), StrategyChoice(path="x"), ())
    windows = split_windows(0, 200 * MINUTE, train_ns=80 * MINUTE, test_ns=40 * MINUTE, embargo_ns=EMBARGO)
    retraining = Retraining(fit, str(tmp_path), PURGE)
    points = [{"bars": 1}, {"bars": 2}]
    walked = walk_forward(plan, points, windows, tmp_path, by="sharpe", workers=1, retraining=retraining)
    assert [one.model for one in walked] == ["model/2", "model/4"]
    assert [one.chosen for one in walked] == [{"bars": 2}, {"bars": 2}]
    for window, first, last, runs in zip(windows, fitted[::2], fitted[1::2], (ran[:3], ran[3:]), strict=True):
        chose, _, tested = runs
        assert first == (window.train_from, (chose.trade_from or 0) - PURGE)
        assert chose.trade_from == window.train_to - 20 * MINUTE
        assert chose.until == window.train_to
        assert last[0] == window.train_from
        assert last[1] <= min(window.train_to, window.test_from - PURGE)
        assert (tested.trade_from, tested.until) == (window.test_from, window.test_to)
        assert (chose.models_dir, tested.models_dir) == (str(tmp_path), str(tmp_path))
        assert chose.champion != tested.champion


def test_without_retraining_no_model_is_named(ran: list[BacktestOptions], tmp_path: Path) -> None:
    plan = SweepPlan(MarketSource("BTCUSDT.BINANCE"), BacktestOptions("BTCUSDT.BINANCE"), StrategyChoice(path="x"), ())
    windows = split_windows(0, 130 * MINUTE, train_ns=80 * MINUTE, test_ns=40 * MINUTE)
    (walked,) = walk_forward(plan, [{"bars": 1}], windows, tmp_path, by="sharpe", workers=1)
    assert walked.model == ""
    assert [options.champion for options in ran] == [None, None]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--retrain", "logistic"], "--retrain trains on the bars of --input"),
        (["--purge", "1h"], "belong to --retrain"),
    ],
)
def test_bad_options_are_refused_by_name(arguments: list[str], message: str, tmp_path: Path) -> None:
    app = typer.Typer()
    app.command()(research_commands.walk_forward)
    given = ["--strategy", "ema_cross", "--vary", "fast_bars=3", "--train", "9m", "--test", "3m"]
    outcome = CliRunner().invoke(app, [*given, "--output", str(tmp_path), *arguments])
    assert isinstance(outcome.exception, BadInput)
    assert message in str(outcome.exception)
