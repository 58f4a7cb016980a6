"""Measures the codecs of every message: `python -m tests.benchmarks.wire`. Fails below a floor.

Processor time, the best of many short rounds: what the code costs, not what else the machine does.
"""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from functools import partial

from libs.wire import decode, encode
from tests.kit.golden import examples

ROUNDS, CALLS = 30, 300
# Per second; the busiest messages of a market. Codecs written by hand reached 300,000 and 180,000 on the machine where
# these reach 360,000 and 200,000; a floor is for mistakes such as reading descriptors for every event.
FLOORS = {"trade": 60_000.0, "best_quote": 40_000.0}


def cost_us(call: Callable[[], object]) -> float:
    """Return the least cost of a call in microseconds."""
    return min(timeit.repeat(call, number=CALLS, repeat=ROUNDS, timer=time.process_time)) / CALLS * 1e6


def main() -> int:
    """Print the table; the answer is 1 where a floor is not reached."""
    is_slow = False
    print(f"{'message':<18}{'bytes':>8}{'encode us':>12}{'decode us':>12}")
    for kind, event in examples().items():
        encoded = encode(event)
        costs = cost_us(partial(encode, event)), cost_us(partial(decode, encoded.topic, encoded.payload))
        floor = FLOORS.get(kind, 0.0)
        is_slow |= any(1e6 / cost < floor for cost in costs)
        note = f"   floor {floor:,.0f} a second" if floor else ""
        print(f"{kind:<18}{len(encoded.payload):>8}{costs[0]:>12.2f}{costs[1]:>12.2f}{note}")
    return 1 if is_slow else 0


if __name__ == "__main__":
    raise SystemExit(main())
