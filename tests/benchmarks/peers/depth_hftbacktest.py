"""hftbacktest on a raw capture, converted by its own tool; the first run, which compiles, is not counted."""

from __future__ import annotations

import gzip
import json
import resource
import sys
import time

import numpy as np
from hftbacktest import BacktestAsset, HashMapMarketDepthBacktest
from hftbacktest.data.utils import binancefutures
from numba import njit


@njit
def follow(hbt: HashMapMarketDepthBacktest) -> float:
    """Look at the top of the book every 100 ms to the end."""
    seen = 0.0
    while hbt.elapse(100_000_000) == 0:
        depth = hbt.depth(0)
        seen += depth.best_bid - depth.best_ask
    return seen


def open_backtest(events: np.ndarray) -> HashMapMarketDepthBacktest:
    """Open the events with a constant latency and a queue model."""
    asset = (
        BacktestAsset()
        .data(events)
        .linear_asset(1.0)
        .constant_order_latency(50_000_000, 50_000_000)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(0.0002, 0.0005)
        .tick_size(0.1)
        .lot_size(0.001)
    )
    return HashMapMarketDepthBacktest([asset])


def main() -> None:
    """Run twice, count the second."""
    with gzip.open(sys.argv[1]) as stream:
        messages = sum(1 for _ in stream)
    events = binancefutures.convert(sys.argv[1], combined_stream=True, buffer_size=5_000_000)
    for _ in range(2):
        hbt = open_backtest(events)
        began, cpu = time.perf_counter(), time.process_time()
        follow(hbt)
        cpu_s, wall_s = time.process_time() - cpu, time.perf_counter() - began
        hbt.close()
    told = {
        "messages": messages,
        "events": len(events),
        "cpu_s": round(cpu_s, 3),
        "wall_s": round(wall_s, 3),
        "messages_per_cpu_s": round(messages / max(cpu_s, 1e-9)),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
