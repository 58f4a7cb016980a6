"""Measures many backtests on bars beside vectorbt: `python -m tests.benchmarks.backtest_sweep [--bars N]`.

A grid of a thousand EMA crosses, stop and reverse of 1 BTC, fees of 5 bps, as `perpflow sweep` runs it: in one process,
results written to its file; vectorbt runs them at once, with its Rust engine, and measures orders and final values
alone. Both count CPU seconds a choice, after a first run that compiles; the ratio is the peer's seconds over
perpflow's. One JSON line each.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from decimal import Decimal
from itertools import product
from pathlib import Path

from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.sweep import MarketSource, SweepPlan, run_sweep
from tests.benchmarks.backtest import PEER_PYTHON, PEERS, run_script
from tests.unit.backtest.test_oracle import BARS, BTC, ORACLE

FAST, SLOW = range(5, 45), range(50, 75)


def measure(bars: int) -> None:
    """Run the grid twice and print what a choice took the second time."""
    market = MarketSource(BTC, str(BARS))
    columns = market.open().columns
    assert columns is not None
    until = int(columns.open_time[bars]) if bars < len(columns) else None
    options = BacktestOptions(
        BTC, starting_balance_usdt=Decimal(1_000_000), settings=parse_settings(ORACLE), until=until
    )
    strategy = parse_strategies(['compiled_ema_cross={"warm_up_bars": 20, "quantity": 1}'])[0]
    plan = SweepPlan(market, options, strategy, ())
    grid = [{"fast_bars": fast, "slow_bars": slow} for fast, slow in product(FAST, SLOW)]
    with tempfile.TemporaryDirectory() as folder:
        run_sweep(plan, grid[:20], Path(folder) / "first.jsonl", workers=1)
        began, cpu = time.perf_counter(), time.process_time()
        done = run_sweep(plan, grid, Path(folder) / "sweep.jsonl", workers=1)
        cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - began
    told = {
        "choices": len(done),
        "best_equity": max(1_000_000 + float(point.measures["pnl_usdt"]) for point in done),
        "cpu_s": round(cpu_s, 3),
        "wall_s": round(wall_s, 3),
        "cpu_ms_per_choice": round(1000 * cpu_s / len(done), 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(told))


def main() -> None:
    """Measure perpflow and the peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=20_000, help="bars that both run over")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not BARS.is_file():
        print(json.dumps({"skipped": f"no recorded bars at {BARS}; set PERPFLOW_SHARED"}))
        return
    if arguments.one:
        measure(arguments.bars)
        return
    own = [sys.executable, "-m", "tests.benchmarks.backtest_sweep", "--one"]
    ours = run_script([*own, "--bars", str(arguments.bars)])
    print(json.dumps({"case": "perpflow, a sweep", **ours}))
    if not PEER_PYTHON.is_file():
        print(json.dumps({"skipped": f"no peers at {PEER_PYTHON}; make peers, or set PERPFLOW_PEERS"}))
        return
    peer = run_script([str(PEER_PYTHON), str(PEERS / "sweep_vectorbt.py"), str(BARS), str(arguments.bars)])
    ratio = round(peer["cpu_ms_per_choice"] / ours["cpu_ms_per_choice"], 4)
    print(json.dumps({"case": "vectorbt, all at once", **peer, "ratio": ratio}))


if __name__ == "__main__":
    main()
