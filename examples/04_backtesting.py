"""Run two strategies over the same simulated hour, through the very cores that trade live, and compare."""
# ruff: noqa: T201

from __future__ import annotations

import sys
import tempfile
from decimal import Decimal
from pathlib import Path

from services.backtest.inputs import SIMULATED_INSTRUMENT, open_simulation
from services.backtest.options import BacktestOptions, parse_strategies
from services.backtest.report import write_report
from services.backtest.run import run_backtest

STRATEGIES = ("forecast_threshold", 'ema_cross={"fast_bars": 5, "slow_bars": 20}')


def main() -> None:
    """Print one line per strategy; the digest shows that the same run gives the same orders."""
    with tempfile.TemporaryDirectory() as name:
        for number, strategy in enumerate(STRATEGIES):
            options = BacktestOptions(
                instrument=SIMULATED_INSTRUMENT,
                strategies=parse_strategies([strategy]),
                starting_balance_usdt=Decimal(10_000),
                digests=True,
            )
            market = open_simulation(seed=7, minutes=60, history_bars=1500)
            report = write_report(run_backtest(market, options), Path(name) / str(number))
            counts = report["counts"]
            print(strategy)
            print(f"  net profit {report['pnl_usdt']} USDT, fees {report['fees_usdt']}")
            print(f"  {counts['intents']} intents, {counts['refused']} refused, {counts['orders']} orders")
            print(f"  orders' digest {report['digests']['orders'][:16]}")
    sys.stderr.write("One hour of one simulated market says nothing about any other.\n")


if __name__ == "__main__":
    main()
