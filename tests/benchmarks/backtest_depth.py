"""Measures a backtest on full depth beside hftbacktest: `python -m tests.benchmarks.backtest_depth`; JSON lines.

The recorded capture of six minutes (depth, best quotes, trades) from its beginning to its end, its book followed level
by level; a strategy that decides on the minutes. Messages are those of the capture. perpflow and the peer each run over
what they converted it to before (`perpflow prepare-market`, the peer's own tool), after a run that compiles; the ratio
is messages per CPU second, perpflow's over the peer's. A run over the capture itself is shown too, and one that handles
each event.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

from services.backtest.inputs import open_recording
from services.backtest.market_file import write_market
from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.run import run_backtest
from tests.benchmarks.backtest import PEER_PYTHON, PEERS, run_script
from tests.unit.backtest.test_oracle import BTC, SHARED, WIDE_LIMITS

CASES = ("prepared", "capture", "each")
WARM_UP = 1_723_161_270 * 10**9
CAPTURE = SHARED / "data/market/capture/binance_um_BTCUSDT_20240808.ns-jsonl.gz"


def measure(case: str) -> None:
    """Run perpflow once, after the compiled parts were loaded, and print what it took."""
    with gzip.open(CAPTURE) as stream:
        messages = sum(1 for _ in stream)
    with tempfile.TemporaryDirectory() as folder:
        path = CAPTURE
        if case == "prepared":
            path = Path(folder) / "capture.market"
            market = open_recording(CAPTURE, instrument=BTC, history=None, history_bars=0)
            write_market(path, BTC, market.events, market.description)
        for until in (WARM_UP, None):
            market = open_recording(path, instrument=BTC, history=None, history_bars=0)
            options = BacktestOptions(
                BTC,
                strategies=parse_strategies(['ema_cross={"fast_bars": 1, "slow_bars": 2, "warm_up_bars": 1}']),
                starting_balance_usdt=Decimal(1_000_000),
                settings=parse_settings(WIDE_LIMITS),
                until=until,
                fast=case != "each",
            )
            began, cpu = time.perf_counter(), time.process_time()
            result = run_backtest(market, options)
            cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - began
    told = {
        "messages": messages,
        "orders": result.record.counts["orders_submitted"],
        "final_equity": round(result.record.equity.equity_e8[-1] / 1e8, 8),
        "cpu_s": round(cpu_s, 4),
        "wall_s": round(wall_s, 4),
        "messages_per_cpu_s": round(messages / cpu_s),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(told))


def main() -> None:
    """Measure perpflow and the peer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not CAPTURE.is_file():
        print(json.dumps({"skipped": f"no recorded capture at {CAPTURE}; set PERPFLOW_SHARED"}))
        return
    if arguments.one:
        measure(arguments.one)
        return
    measured = {}
    for case in CASES:
        measured[case] = run_script([sys.executable, "-m", "tests.benchmarks.backtest_depth", "--one", case])
        print(json.dumps({"case": f"perpflow, {case}", **measured[case]}))
    ours = measured["prepared"]
    if not PEER_PYTHON.is_file():
        print(json.dumps({"skipped": f"no peers at {PEER_PYTHON}; make peers, or set PERPFLOW_PEERS"}))
        return
    peer = run_script([str(PEER_PYTHON), str(PEERS / "depth_hftbacktest.py"), str(CAPTURE)])
    ratio = round(ours["messages_per_cpu_s"] / peer["messages_per_cpu_s"], 3)
    print(json.dumps({"case": "hftbacktest, full depth", **peer, "ratio": ratio}))


if __name__ == "__main__":
    main()
