"""Measures every ratio of a backtest to its peers in one go: `python -m tests.benchmarks.backtest_ratios [CASE ...]`.

Each case runs three times, perpflow and the peer in turn, each in a process of its own; the ratio is that of the median
CPU seconds, on the same work. It prints a table with the smallest and the largest of the ratios of a round, memory, and
how loaded the machine was. Without peers (`make peers`) it says so and measures nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.backtest import COMPILED, PASSING, PEER_PYTHON, PEERS, SWEPT, run_script
from tests.benchmarks.backtest_depth import CAPTURE
from tests.benchmarks.backtest_trades import write_trades
from tests.unit.backtest.test_oracle import BARS

ROUNDS = 3
_SWEPT_BARS = "20000"


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured: perpflow's command and the peer's, and the number that tells what each took."""

    name: str
    peer: str
    wanted: float
    ours: Sequence[str]
    theirs: Sequence[str]
    cost: Callable[[dict[str, float]], float] = lambda told: told["cpu_s"]


def make_cases(trades: Path) -> dict[str, Case]:
    """Return every case by its short name."""
    own, peer = [sys.executable, "-m"], str(PEER_PYTHON)

    def bars(kind: str) -> list[str]:
        return [*own, "tests.benchmarks.backtest", "--one", kind]

    def on_trades(case: str) -> list[str]:
        return [*own, "tests.benchmarks.backtest_trades", "--one", str(trades), case]

    def script(name: str, *arguments: str) -> list[str]:
        return [peer, str(PEERS / f"{name}.py"), *arguments]

    return {
        "bars": Case(
            "bars, Python strategy", "backtesting.py", 1.0, bars(PASSING), script("run_backtesting", str(BARS))
        ),
        "compiled": Case(
            "bars, compiled strategy", "backtesting.py", 10.0, bars(COMPILED), script("run_backtesting", str(BARS))
        ),
        "single": Case(
            "bars, one vectorised run", "vectorbt (Rust)", 1.0, bars(SWEPT), script("run_vectorbt", str(BARS))
        ),
        "sweep": Case(
            "sweep of 1,000 choices",
            "vectorbt (Rust)",
            3.0,
            [*own, "tests.benchmarks.backtest_sweep", "--one", "--bars", _SWEPT_BARS],
            script("sweep_vectorbt", str(BARS), _SWEPT_BARS),
            lambda told: told["cpu_ms_per_choice"],
        ),
        "trades": Case(
            "trades, strategy on bars",
            "nautilus_trader",
            10.0,
            on_trades("bars"),
            script("trades_nautilus", str(trades), "bars"),
        ),
        "every": Case(
            "trades, every one seen",
            "nautilus_trader",
            1.5,
            on_trades("every"),
            script("trades_nautilus", str(trades), "every"),
        ),
        "depth": Case(
            "full depth",
            "hftbacktest",
            0.5,
            [*own, "tests.benchmarks.backtest_depth", "--one", "prepared"],
            script("depth_hftbacktest", str(CAPTURE)),
            lambda told: told["messages"] / told["messages_per_cpu_s"],
        ),
    }


def measure(case: Case) -> str:
    """Run a case and return its row."""
    rounds = [(run_script(list(case.ours)), run_script(list(case.theirs))) for _ in range(ROUNDS)]
    ours, theirs = ([case.cost(told[side]) for told in rounds] for side in (0, 1))
    each = sorted(their / our for our, their in zip(ours, theirs, strict=True))
    ratio = statistics.median(theirs) / statistics.median(ours)
    memory = [statistics.median(told[side]["peak_mb"] for told in rounds) for side in (0, 1)]
    return (
        f"| {case.name} | {case.peer} | {statistics.median(ours):.4g} | {statistics.median(theirs):.4g} | {ratio:.2f} "
        f"({each[0]:.2f} to {each[-1]:.2f}) | {case.wanted:g} | {memory[0]:.0f} / {memory[1]:.0f} |"
    )


def main() -> None:
    """Measure the cases named, all of them by default."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("cases", nargs="*", help="bars, compiled, single, sweep, trades, every, depth")
    arguments = parser.parse_args()
    if not BARS.is_file() or not PEER_PYTHON.is_file():
        print(f"skipped: needs the recorded market ({BARS}; set PERPFLOW_SHARED) and the peers (make peers)")
        return
    with tempfile.TemporaryDirectory() as folder:
        trades = Path(folder) / "trades.parquet"
        cases = make_cases(trades)
        unknown = sorted(set(arguments.cases) - cases.keys())
        if unknown:
            raise SystemExit(f"unknown case {', '.join(unknown)}: use {', '.join(cases)}")
        chosen = arguments.cases or list(cases)
        if {"trades", "every"} & set(chosen):
            write_trades(trades)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
        print("| case | peer | perpflow, CPU s | peer, CPU s | ratio (rounds) | wanted | MB |")
        print("|---|---|---|---|---|---|---|")
        for name in chosen:
            print(measure(cases[name]), flush=True)
        print(f"load {os.getloadavg()[0]:.1f} after; sweeps are CPU ms a choice")


if __name__ == "__main__":
    main()
