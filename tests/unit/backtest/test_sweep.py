from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from libs.runtime.errors import BadInput
from services.backtest import sweep
from services.backtest.options import BacktestOptions
from services.backtest.sweep import (
    MarketSource,
    SweepPlan,
    SweepPoint,
    judge_choice,
    parse_values,
    rank,
    run_sweep,
)
from services.backtest.walk_forward import Window, split_windows, walk_forward
from services.strategy.settings import StrategyChoice
from tests.unit.backtest.builders import MINUTE, START

BTC = "BTCUSDT.BINANCE"
VARIED = (("fast_bars", (2, 3, 9)), ("slow_bars", (5, 8)))


def a_plan(minutes: int = 2) -> SweepPlan:
    return SweepPlan(
        MarketSource(BTC, seed=7, minutes=minutes), BacktestOptions(BTC), StrategyChoice(path="ema_cross"), VARIED
    )


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("bars=3,5,8", ("bars", (3, 5, 8))),
        ("bars=2:10:4", ("bars", (2, 6, 10))),
        ("share=0.1:0.3:0.1", ("share", (0.1, 0.2, 0.3))),
        ('name=a,"b"', ("name", ("a", "b"))),
    ],
)
def test_values_are_read(text: str, values: tuple[str, tuple[object, ...]]) -> None:
    assert parse_values(text) == values


@pytest.mark.parametrize("text", ["bars", "=1", "bars=", "bars=1:2", "bars=1:2:0", "bars=a:b:c", "bars=9:2:1"])
def test_values_that_cannot_be_read_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="--vary"):
        parse_values(text)


def test_grid_holds_every_combination_and_a_draw_some_of_them_without_repeats() -> None:
    grid = a_plan().points()
    assert len(grid) == 6
    assert grid[0] == {"fast_bars": 2, "slow_bars": 5}
    drawn = a_plan().points(4, seed=1)
    assert len({tuple(point.items()) for point in drawn}) == 4
    assert all(point in grid for point in drawn)
    assert drawn == a_plan().points(4, seed=1)
    assert a_plan().points(99) == grid


@pytest.mark.slow
def test_sweep_runs_each_point_once_and_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = tmp_path / "sweep.jsonl"
    plan, points = a_plan(), a_plan().points()
    first = run_sweep(plan, points[:3], results, workers=1)
    with results.open("ab") as file:
        file.write(b'{"parameters": {"fast_ba')
    ran: list[object] = []
    run_point = sweep.run_point

    def note(plan: Any, point: Any) -> Any:
        ran.append(point)
        return run_point(plan, point)

    monkeypatch.setattr(sweep, "run_point", note)
    told: list[tuple[int, int]] = []
    whole = run_sweep(plan, points, results, workers=1, progress=lambda done, of: told.append((done, of)))
    assert ran == points[3:]
    assert whole[:3] == first
    assert told == [(3, 6), (4, 6), (5, 6), (6, 6)]
    assert [point.parameters for point in whole] == points
    assert "must be below slow_bars" in whole[5].error
    assert len(rank(whole, "return")) == 4


def test_results_of_another_plan_are_not_mixed_in(tmp_path: Path) -> None:
    results = tmp_path / "sweep.jsonl"
    run_sweep(a_plan(1), [], results, workers=1)
    with pytest.raises(BadInput, match="another market, period or strategy"):
        run_sweep(a_plan(2), [], results, workers=1)


@pytest.mark.slow
def test_points_are_ranked_and_the_choice_is_judged() -> None:
    def point(number: int, sharpe: float | None, edge: float) -> SweepPoint:
        returns = [edge + 0.01 * ((7 * step + 3 * number * step) % 11 - 5) for step in range(64)]
        return SweepPoint({"n": number}, {"sharpe": sharpe, "max_drawdown": edge}, returns)

    points = [point(0, 0.5, 0.0), point(1, 2.0, 0.02), point(2, None, 0.001), SweepPoint({"n": 3}, {}, [], "bad")]
    assert [one.parameters["n"] for one in rank(points, "sharpe")] == [1, 0, 2]
    assert [one.parameters["n"] for one in rank(points, "max_drawdown")] == [0, 2, 1]
    judged = judge_choice(points, points[1], seed=1)
    assert judged["variants"] == 3
    assert judged["reality_check_p_value"] == 0.0
    assert judged["deflated_sharpe_probability"] is not None


def test_windows_walk_without_overlap_of_tests_and_with_an_embargo_before_them() -> None:
    rolling = split_windows(0, 100, train_ns=40, test_ns=20, embargo_ns=5)
    assert rolling == [Window(0, 40, 45, 65), Window(20, 60, 65, 85)]
    anchored = split_windows(0, 100, train_ns=40, test_ns=20, is_anchored=True)
    assert [(window.train_from, window.train_to) for window in anchored] == [(0, 40), (0, 60), (0, 80)]
    with pytest.raises(BadInput, match="too short"):
        split_windows(0, 50, train_ns=40, test_ns=20)


@pytest.mark.slow
def test_what_is_chosen_in_training_is_traded_in_the_test_that_follows(tmp_path: Path) -> None:
    plan = a_plan(3)
    windows = split_windows(START, START + 3 * MINUTE, train_ns=2 * MINUTE, test_ns=MINUTE)
    (walked,) = walk_forward(plan, plan.points()[:3], windows, tmp_path, by="return", workers=1)
    assert walked.chosen in plan.points()[:3]
    assert walked.tested.parameters == walked.chosen
    assert not walked.tested.error
    assert (tmp_path / "window-000.jsonl").is_file()
