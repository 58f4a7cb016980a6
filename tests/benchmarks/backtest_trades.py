"""Measures a backtest on trades beside nautilus_trader: `python -m tests.benchmarks.backtest_trades`; JSON lines.

The recorded trades of one stretch follow one another `REPEATS` times. `bars`: an EMA cross on the minutes that they
make; `every`: a Python strategy that is called for every trade. Only running is measured, in CPU seconds, after a run
that compiles; ratios are the peer's seconds over perpflow's.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from libs.domain.market import Trade
from services.backtest.inputs import open_recording
from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.run import run_backtest
from services.strategy import AccountView, Strategy, TargetPosition, state
from tests.benchmarks.backtest import PEER_PYTHON, PEERS, run_script
from tests.unit.backtest.test_oracle import BTC, SHARED, WIDE_LIMITS

TRADES = SHARED / "data/market/trades/binance_um_BTCUSDT_20240808_trades.parquet"
REPEATS = 20
CASES = {
    "bars": 'ema_cross={"fast_bars": 3, "slow_bars": 8, "warm_up_bars": 8, "quantity": "1"}',
    "every": "tests.benchmarks.backtest_trades:Runs",
}


class Runs(Strategy):
    """Follows twelve rising or falling trades in a row."""

    run: int = state(0)
    last_e8: int = state(0)

    def on_trade(self, trade: Trade, _view: AccountView) -> Sequence[TargetPosition]:
        """Count the run; turn where it is long enough."""
        price = trade.price_e8
        rose = (price > self.last_e8) - (price < self.last_e8)
        if rose:
            self.run = self.run + rose if self.run * rose > 0 else rose
            self.last_e8 = price
            if self.run in (12, -12):
                return (TargetPosition(trade.instrument, Decimal(0), "a run", quantity=Decimal(rose)),)
        return ()


def write_trades(path: Path) -> int:
    """Write the trades, so many times one after the other; return how many they are."""
    table = pq.read_table(TRADES)
    kind = table.column("time").type
    times = table.column("time").cast(pa.timestamp("ns", tz=kind.tz)).cast(pa.int64()).to_numpy()
    span = -(-(times[-1] - times[0]) // 60_000_000_000) * 60_000_000_000
    count = len(times) * REPEATS
    columns = {
        "time": pa.array(np.concatenate([times + at * span for at in range(REPEATS)]), pa.timestamp("ns", tz="UTC")),
        **{
            name: np.tile(table.column(name).to_numpy(zero_copy_only=False), REPEATS)
            for name in ("price", "qty", "is_buyer_maker")
        },
        "id": np.arange(1, count + 1),
    }
    pq.write_table(pa.table(columns), path)
    return count


def measure(path: Path, case: str) -> None:
    """Run perpflow twice and print what the second run took."""
    options = BacktestOptions(
        BTC,
        strategies=parse_strategies([CASES[case]]),
        starting_balance_usdt=Decimal(1_000_000),
        settings=parse_settings((*WIDE_LIMITS, "execution.latency_ms=0", "execution.slippage_bps=0")),
    )
    for _ in range(2):
        market = open_recording(path, instrument=BTC, history=None, history_bars=0)
        began, cpu = time.perf_counter(), time.process_time()
        result = run_backtest(market, options)
        cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - began
    assert market.trades is not None
    told = {
        "orders": result.record.counts["orders_submitted"],
        "final_equity": round(result.record.equity.equity_e8[-1] / 1e8, 2),
        "cpu_s": round(cpu_s, 3),
        "wall_s": round(wall_s, 3),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "trades_per_cpu_s": round(len(market.trades) / cpu_s),
    }
    print(json.dumps(told))


def main() -> None:
    """Measure perpflow and the peer on both cases."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        measure(Path(arguments.one[0]), arguments.one[1])
        return
    if not TRADES.is_file():
        print(json.dumps({"skipped": f"no recorded trades at {TRADES}; set PERPFLOW_SHARED"}))
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trades.parquet"
        print(json.dumps({"trades": write_trades(path)}))
        for case in CASES:
            ours = run_script([sys.executable, "-m", "tests.benchmarks.backtest_trades", "--one", str(path), case])
            print(json.dumps({"case": f"perpflow, {case}", **ours}))
            if not PEER_PYTHON.is_file():
                print(json.dumps({"skipped": f"no peers at {PEER_PYTHON}; make peers, or set PERPFLOW_PEERS"}))
                continue
            peer = run_script([str(PEER_PYTHON), str(PEERS / "trades_nautilus.py"), str(path), case])
            ratio = round(peer["cpu_s"] / ours["cpu_s"], 2)
            print(json.dumps({"case": f"nautilus_trader, {case}", **peer, "ratio": ratio}))


if __name__ == "__main__":
    main()
