"""A choice that is swept in the loop comes out as its own run: equity and fills are the same loop's, measures alike."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.backtest import sweep
from services.backtest.bar_sweep import BarSweep
from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.sweep import MarketSource, SweepPlan, run_point, run_sweep
from tests.unit.backtest.test_oracle import ORACLE

BTC = "BTCUSDT.BINANCE"
FIVE_MINUTES = 300 * 10**9
START = 1_700_000_100 * 10**9 // FIVE_MINUTES * FIVE_MINUTES
CHOICES = [{"fast_bars": fast, "slow_bars": slow} for fast in (2, 3, 5) for slow in (6, 11)]
BAD = {"fast_bars": 9, "slow_bars": 3}


@pytest.fixture(scope="module")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(5)
    close = np.round(60_000 * np.exp(np.cumsum(generator.normal(0, 8e-4, 1500))), 1)
    opened = np.append(close[0], close[:-1])
    path = tmp_path_factory.mktemp("bars") / "binance_um_BTCUSDT_5m_20231114_20231120.parquet"
    columns = {
        "open_time": pa.array(START + np.arange(len(close)) * FIVE_MINUTES, pa.timestamp("ns", tz="UTC")),
        "open": opened,
        "high": np.maximum(opened, close) + 5.0,
        "low": np.minimum(opened, close) - 5.0,
        "close": close,
        "volume": generator.integers(1, 900, len(close)) / 10,
    }
    pq.write_table(pa.table(columns), path)
    return path


def a_plan(path: Path, changed: Sequence[str] = ORACLE, **options: Any) -> SweepPlan:
    given = BacktestOptions(
        BTC,
        starting_balance_usdt=Decimal(1_000_000),
        settings=parse_settings(changed),
        environment={},
        **options,
    )
    strategy = parse_strategies(['compiled_ema_cross={"warm_up_bars": 12, "quantity": 0.7}'])[0]
    return SweepPlan(MarketSource(BTC, str(path)), given, strategy, ())


def assert_alike(found: Any, expected: Any) -> None:
    measures, returns = found
    assert returns == expected.returns
    assert measures.keys() == expected.measures.keys()
    for name, value in expected.measures.items():
        if name in ("profit_factor", "win_rate") and value is not None:
            assert math.isclose(measures[name], value, rel_tol=1e-12), name
        else:
            assert measures[name] == value, name


@pytest.mark.parametrize(
    "options",
    [{}, {"trade_from": START + 400 * FIVE_MINUTES}, {"until": START + 900 * FIVE_MINUTES}],
    ids=["whole", "from", "until"],
)
def test_a_swept_choice_measures_what_its_own_run_does(bars: Path, options: dict[str, Any]) -> None:
    plan = a_plan(bars, **options)
    swept = BarSweep.open(plan, CHOICES[0])
    assert swept is not None
    for choice in CHOICES[::2]:
        found, expected = swept.run(choice), run_point(plan, choice)
        assert expected.measures["trades"] > 20
        assert_alike(found, expected)


def test_a_choice_that_the_loop_cannot_be_certain_about_goes_through_the_engine(bars: Path) -> None:
    plan = a_plan(bars, (*ORACLE, "risk.max_daily_loss_fraction=0.0002", "risk.soft_drawdown_fraction=0.0005"))
    swept = BarSweep.open(plan, CHOICES[0])
    assert swept is not None
    assert swept.run(CHOICES[0]) is None


def test_a_plan_of_called_strategies_or_other_fills_is_not_swept(bars: Path) -> None:
    plan = a_plan(bars)
    assert BarSweep.open(replace(plan, strategy=parse_strategies(["ema_cross"])[0]), CHOICES[0]) is None
    assert BarSweep.open(a_plan(bars, (*ORACLE, "execution.bar_fill=next-open")), CHOICES[0]) is None


def test_a_sweep_in_threads_keeps_each_choice_its_own(
    bars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep, "_BATCH", 2)
    plan = a_plan(bars)
    done = run_sweep(plan, [BAD, *CHOICES, *CHOICES[:1]], tmp_path / "sweep.jsonl", workers=3)
    assert "fast_bars (9) must be below slow_bars (3)" in done[0].error
    alone = BarSweep.open(plan, CHOICES[0])
    assert alone is not None
    assert [(point.measures, point.returns) for point in done[1:-1]] == [alone.run(choice) for choice in CHOICES]
