"""Measures many backtests on bars beside vectorbt: `python -m tests.benchmarks.backtest_sweep [--points N --bars N]`.

A grid of EMA crosses, stop and reverse of 1 BTC, fees of 5 bps. vectorbt runs a thousand choices at once; perpflow runs
each through its engine, so it measures a few of the same grid, in one process. Both count CPU seconds a choice, after a
first run that compiles; the ratio is the peer's seconds over perpflow's. One JSON line each.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from decimal import Decimal
from itertools import islice, product

from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.sweep import MarketSource, SweepPlan, run_point
from tests.benchmarks.backtest import PEER_PYTHON, PEERS, run_script
from tests.unit.backtest.test_oracle import BARS, BTC, ORACLE

FAST, SLOW = range(5, 45), range(50, 75)


def measure(points: int, bars: int) -> None:
    """Run some choices and print what one took."""
    market = MarketSource(BTC, str(BARS))
    columns = market.open().columns
    assert columns is not None
    until = int(columns.open_time[bars]) if bars < len(columns) else None
    options = BacktestOptions(
        BTC, starting_balance_usdt=Decimal(1_000_000), settings=parse_settings(ORACLE), until=until
    )
    strategy = parse_strategies(['ema_cross={"warm_up_bars": 20, "quantity": "1"}'])[0]
    plan = SweepPlan(market, options, strategy, ())
    grid = [{"fast_bars": fast, "slow_bars": slow} for fast, slow in product(FAST, SLOW)]
    chosen = list(islice(grid, 0, len(grid), max(1, len(grid) // points)))[:points]
    run_point(plan, chosen[0])
    began, cpu = time.perf_counter(), time.process_time()
    done = [run_point(plan, parameters) for parameters in chosen]
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - began
    told = {
        "choices": len(done),
        "best_pnl": max(float(point.measures["pnl_usdt"]) for point in done),
        "cpu_s": round(cpu_s, 3),
        "wall_s": round(wall_s, 3),
        "cpu_ms_per_choice": round(1000 * cpu_s / len(done), 2),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(told))


def main() -> None:
    """Measure perpflow and the peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=10, help="choices that perpflow runs")
    parser.add_argument("--bars", type=int, default=20_000, help="bars that both run over")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not BARS.is_file():
        print(json.dumps({"skipped": f"no recorded bars at {BARS}; set PERPFLOW_SHARED"}))
        return
    if arguments.one:
        measure(arguments.points, arguments.bars)
        return
    own = [sys.executable, "-m", "tests.benchmarks.backtest_sweep", "--one"]
    ours = run_script([*own, "--points", str(arguments.points), "--bars", str(arguments.bars)])
    print(json.dumps({"case": "perpflow, each through the engine", **ours}))
    if not PEER_PYTHON.is_file():
        print(json.dumps({"skipped": f"no peers at {PEER_PYTHON}; make peers, or set PERPFLOW_PEERS"}))
        return
    peer = run_script([str(PEER_PYTHON), str(PEERS / "sweep_vectorbt.py"), str(BARS), str(arguments.bars)])
    ratio = round(peer["cpu_ms_per_choice"] / ours["cpu_ms_per_choice"], 4)
    print(json.dumps({"case": "vectorbt, all at once", **peer, "ratio": ratio}))


if __name__ == "__main__":
    main()
