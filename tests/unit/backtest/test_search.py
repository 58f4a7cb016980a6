"""A search finds the best choice in fewer runs than a grid, and goes on where it was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libs.runtime.errors import BadInput
from services.backtest import search
from services.backtest.options import BacktestOptions
from services.backtest.search import run_search
from services.backtest.sweep import MarketSource, SweepPlan, SweepPoint
from services.strategy.settings import StrategyChoice

PLAN = SweepPlan(
    MarketSource("BTCUSDT.BINANCE", seed=7, minutes=1),
    BacktestOptions("BTCUSDT.BINANCE"),
    StrategyChoice(path="ema_cross"),
    (("fast", tuple(range(40))), ("kind", ("a", "b", "c"))),
)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Stand in for backtests: the Sharpe ratio is highest at fast 23 of kind b."""
    done: list[dict[str, Any]] = []

    def run(_plan: SweepPlan, parameters: dict[str, Any]) -> SweepPoint:
        done.append(dict(parameters))
        if parameters["kind"] == "c":
            return SweepPoint(dict(parameters), {}, [], "kind c does not run")
        worth = -abs(parameters["fast"] - 23) + (5.0 if parameters["kind"] == "b" else 0.0)
        return SweepPoint(dict(parameters), {"sharpe": worth}, [])

    monkeypatch.setattr(search, "run_point", run)
    pytest.importorskip("optuna", reason="needs optuna: make setup-dev")
    return done


def test_search_comes_close_to_the_best_in_a_third_of_the_runs(ran: list[dict[str, Any]], tmp_path: Path) -> None:
    done = run_search(PLAN, 40, tmp_path / "out/sweep.jsonl", by="sharpe", seed=3)
    assert len(done) == len(ran) == 40
    assert len({(point.parameters["fast"], point.parameters["kind"]) for point in done}) == 40
    best = max((point for point in done if not point.error), key=lambda point: float(point.measures["sharpe"]))
    assert best.parameters["kind"] == "b"
    assert abs(best.parameters["fast"] - 23) <= 1


def test_search_goes_on_where_it_was_stopped(ran: list[dict[str, Any]], tmp_path: Path) -> None:
    results = tmp_path / "sweep.jsonl"
    first = run_search(PLAN, 12, results, by="sharpe", seed=3)
    done = run_search(PLAN, 20, results, by="sharpe", seed=3)
    assert len(ran) == 20
    assert done[:12] == first
    assert run_search(PLAN, 20, results, by="sharpe", seed=3) == done
    assert len(ran) == 20


def test_search_ends_with_the_choices(ran: list[dict[str, Any]], tmp_path: Path) -> None:
    few = SweepPlan(PLAN.market, PLAN.options, PLAN.strategy, (("fast", (1, 2)), ("kind", ("a",))))
    assert len(run_search(few, 50, tmp_path / "sweep.jsonl", by="sharpe", seed=3)) == len(ran) == 2


def test_search_without_optuna_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna", None)
    with pytest.raises(BadInput, match=r'pip install -e "\.\[research\]"'):
        run_search(PLAN, 5, tmp_path / "sweep.jsonl", by="sharpe", seed=3)
