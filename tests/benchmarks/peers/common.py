"""What the scripts of the peers share: the bars, and the line of JSON at the end. Imports nothing of perpflow."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import pandas as pd

FAST, SLOW, WARM_UP = 10, 20, 20
CASH, FEE = 1_000_000, 0.0005


def read_bars() -> pd.DataFrame:
    """Read the Parquet file that the command line names."""
    return pd.read_parquet(sys.argv[1])


def run(trade: Callable[[], tuple[int, float]], count: int = 0, **facts: Any) -> None:
    """Run a peer and print what came of it; `count` is of the choices that it tried at once."""
    began, cpu = time.perf_counter(), time.process_time()
    orders, equity = trade()
    told = {
        "orders": orders,
        "final_equity": round(equity, 2),
        "cpu_s": round(cpu_s := time.process_time() - cpu, 3),
        "wall_s": round(time.perf_counter() - began, 3),
        **({"choices": count, "cpu_ms_per_choice": round(1000 * cpu_s / count, 3)} if count else {}),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        **facts,
    }
    print(json.dumps(told))
