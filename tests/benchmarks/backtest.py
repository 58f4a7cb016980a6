"""Measures a backtest on bars beside its peers: `python -m tests.benchmarks.backtest [--bars N]`; one JSON line each.

The strategy, the data and the result are those of `tests/unit/backtest/test_oracle.py`. Each runs in a process of its
own, on CPU seconds without loading the data; ratios are the peer's seconds over perpflow's. The peers run in
`.venv-peers` (`make peers`) or the environment whose Python PERPFLOW_PEERS names, and are left out where there is none.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

from services.backtest.bar_sweep import BarSweep
from services.backtest.inputs import open_recording
from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.run import run_backtest
from services.backtest.sweep import MarketSource, SweepPlan
from services.strategy.settings import StrategyChoice
from tests.unit.backtest.test_oracle import BARS, BTC, ORACLE, STRATEGY

ROOT = Path(__file__).resolve().parents[2]
PASSING, HANDLING, COMPILED = "a Python strategy", "a Python strategy, handling every bar", "a compiled strategy"
SWEPT = "a compiled strategy, a choice of a sweep"
KINDS = (PASSING, COMPILED, SWEPT, HANDLING)
PEERS = Path(__file__).with_name("peers")
PEER_PYTHON = Path(os.environ.get("PERPFLOW_PEERS", ROOT / ".venv-peers/bin/python"))


def measure(kind: str, bars: int) -> None:
    """Run perpflow once, after a short run that compiles, and print what it took."""
    for count in (500, bars):
        market = open_recording(BARS, instrument=BTC, history=None, history_bars=0)
        assert market.columns is not None
        until = int(market.columns.open_time[count]) if count < len(market.columns) else None
        options = BacktestOptions(
            BTC,
            strategies=parse_strategies([f"compiled_{STRATEGY}" if kind == COMPILED else STRATEGY]),
            starting_balance_usdt=Decimal(1_000_000),
            settings=parse_settings(ORACLE),
            until=until,
            fast=kind != HANDLING,
        )
        began, cpu = time.perf_counter(), time.process_time()
        result = run_backtest(market, options)
        cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - began
    handled = result.record.counts["bars.closed.v1"]
    told = {
        "orders": result.record.counts["orders_submitted"],
        "final_equity": round(result.record.equity.equity_e8[-1] / 1e8, 2),
        "cpu_s": round(cpu_s, 3),
        "wall_s": round(wall_s, 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "bars_per_cpu_s": round(handled / cpu_s),
    }
    print(json.dumps(told))


def measure_swept() -> None:
    """Run one choice of a sweep on the opened market, after one that compiles, and print what it took."""
    name, _, given = f"compiled_{STRATEGY}".partition("=")
    options = BacktestOptions(BTC, starting_balance_usdt=Decimal(1_000_000), settings=parse_settings(ORACLE))
    plan = SweepPlan(MarketSource(BTC, str(BARS)), options, StrategyChoice(path=name), ())
    parameters = json.loads(given)
    swept = BarSweep.open(plan, parameters)
    assert swept is not None, "bars with fills at the close can be swept"
    swept.run(parameters)
    began, cpu = time.perf_counter(), time.process_time()
    found = swept.run(parameters)
    cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - began
    assert found is not None, "wide limits leave nothing to the engine"
    told = {
        "final_equity": round(1_000_000 + float(found[0]["pnl_usdt"]), 2),
        "cpu_s": round(cpu_s, 4),
        "wall_s": round(wall_s, 4),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(told))


def run_script(command: list[str]) -> dict[str, float]:
    """Run a process and read the last line that it prints."""
    answer = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if answer.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {answer.stderr[-400:]}")
    told: dict[str, float] = json.loads(answer.stdout.strip().splitlines()[-1])
    return told


def main() -> None:
    """Measure perpflow every way and every peer that is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bars", type=int, default=143_900, help="how many bars perpflow runs over")
    parser.add_argument("--one", choices=KINDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not BARS.is_file():
        print(json.dumps({"skipped": f"no recorded bars at {BARS}; set PERPFLOW_SHARED"}))
        return
    if arguments.one:
        if arguments.one == SWEPT:
            measure_swept()
        else:
            measure(arguments.one, arguments.bars)
        return
    own = [sys.executable, "-m", "tests.benchmarks.backtest", "--bars", str(arguments.bars), "--one"]
    cases = {kind: run_script([*own, kind]) for kind in KINDS}
    for kind, told in cases.items():
        print(json.dumps({"case": f"perpflow, {kind}", **told}))
    if not PEER_PYTHON.is_file():
        print(json.dumps({"skipped": f"no peers at {PEER_PYTHON}; make peers, or set PERPFLOW_PEERS"}))
        return
    for script in sorted(PEERS.glob("run_*.py")):
        peer = run_script([str(PEER_PYTHON), str(script), str(BARS)])
        ratios = {
            f"ratio to {kind}": round(peer["cpu_s"] / cases[kind]["cpu_s"] * arguments.bars / 143_900, 3)
            for kind in (PASSING, COMPILED, SWEPT)
        }
        print(json.dumps({"case": script.stem.removeprefix("run_"), **peer, **ratios}))


if __name__ == "__main__":
    main()
