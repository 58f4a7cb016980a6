"""Measures the full gate: `python -m tests.benchmarks.risk [--verdicts N]`. Prints one line of JSON per case.

Every verdict runs all checks with the default limits, on an account with a position, working orders in both directions
and a second instrument. The market moves between verdicts; building the events is not measured. `market_events` is what
the gate needs for a quote and a mark, `snapshot` what it needs to write its state down.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Sequence
from decimal import Decimal

from libs.domain.accounts import AccountState, Position
from libs.domain.events import Event
from libs.domain.instruments import INSTRUMENTS
from libs.domain.market import BestQuote, MarkPrice, Side
from libs.domain.numbers import NANOSECONDS, SCALE
from libs.domain.orders import IntentAction, OrderApproved, OrderIntent, OrderType, TimeInForce
from services.risk.core import RiskCore, RiskLimits

START = 1_767_225_600 * NANOSECONDS
PRICES = {"BTCUSDT.BINANCE": 60_000, "ETHUSDT.BINANCE": 2_000}
WORKING_ORDERS = 6


def make_market(instrument: str, number: int) -> list[Event]:
    """A quote and a mark, a few ticks apart from the last."""
    at = START + number * NANOSECONDS
    price = (PRICES[instrument] + number % 7) * SCALE
    name = f"{instrument}/{number}"
    return [
        BestQuote(instrument, f"{name}/q", at, at + 1_000_000, number, price - 10_000_000, SCALE, price, SCALE),
        MarkPrice(instrument, f"{name}/m", at, at + 1_000_000, price, price, 10_000, at + 3600 * NANOSECONDS),
    ]


def make_intent(number: int, quantity: str, side: Side, limit: str | None) -> OrderIntent:
    """An order of the paper account."""
    return OrderIntent(
        event_id=f"intent/bench/{number}",
        event_time=START + number * NANOSECONDS,
        account="paper",
        instrument="BTCUSDT.BINANCE",
        strategy="bench",
        action=IntentAction.PLACE,
        side=side,
        order_type=OrderType.MARKET if limit is None else OrderType.LIMIT,
        quantity=Decimal(quantity),
        time_in_force=TimeInForce.GTC,
        reduce_only=False,
        limit_price=None if limit is None else Decimal(limit),
        reference_price=Decimal(60_003),
    )


def make_core() -> RiskCore:
    """A gate in the middle of things."""
    core = RiskCore(RiskLimits(), INSTRUMENTS, "paper")
    for instrument in PRICES:
        for event in make_market(instrument, 0):
            core.handle(event)
    core.handle(
        AccountState(
            event_id="account/paper/1",
            event_time=START,
            account="paper",
            sequence=1,
            wallet_balance=Decimal(10_000),
            equity=Decimal(10_000),
            initial_margin=Decimal(1_600),
            available_balance=Decimal(8_400),
            positions=(
                Position("BTCUSDT.BINANCE", Decimal("0.05"), Decimal(59_000), Decimal(60_000)),
                Position("ETHUSDT.BINANCE", Decimal("-0.5"), Decimal(2_010), Decimal(2_000)),
            ),
            open_order_count=WORKING_ORDERS,
        )
    )
    for number in range(WORKING_ORDERS):
        side = Side.BUY if number % 2 else Side.SELL
        core.handle(make_intent(number + 1, f"0.0{number + 11}", side, "60000"))
    return core


def report(name: str, nanoseconds: Sequence[int], **numbers: object) -> None:
    """Print one case: how many a second, and the median and 99th percentile of one in microseconds."""
    ordered = sorted(nanoseconds)
    line = {
        "case": name,
        "per_second": round(len(ordered) / (sum(ordered) / 1e9)),
        "p50_us": round(ordered[len(ordered) // 2] / 1e3, 1),
        "p99_us": round(ordered[len(ordered) * 99 // 100] / 1e3, 1),
        "count": len(ordered),
        **numbers,
    }
    print(json.dumps(line))


def measure_verdicts(count: int, quantity: str, name: str) -> None:
    """Time one verdict at a time; approvals are forgotten again, so that every verdict sees the same state."""
    core = make_core()
    state = core.snapshot()
    taken: list[int] = []
    checks = approved = 0
    for number in range(count):
        if number % 10 == 0:
            core = make_core()
            core.restore(state)
        at = 10 + number % 10
        for event in make_market("BTCUSDT.BINANCE", at) + make_market("ETHUSDT.BINANCE", at):
            core.handle(event)
        intent = make_intent(at, quantity, Side.BUY, None)
        started = time.perf_counter_ns()
        outputs = core.handle(intent)
        taken.append(time.perf_counter_ns() - started)
        for verdict in outputs:
            approved += isinstance(verdict, OrderApproved)
            checks = len(verdict.checks) if isinstance(verdict, OrderApproved) else checks
    report(name, taken, checks=checks or None, approved=approved)


def measure_market(count: int) -> None:
    """Time quotes and marks."""
    core = make_core()
    taken: list[int] = []
    for number in range(count):
        for event in make_market("BTCUSDT.BINANCE", number + 1):
            started = time.perf_counter_ns()
            core.handle(event)
            taken.append(time.perf_counter_ns() - started)
    report("market_events", taken)


def measure_snapshot(count: int) -> None:
    """Time writing the state down."""
    core = make_core()
    taken: list[int] = []
    for _ in range(count):
        started = time.perf_counter_ns()
        state = core.snapshot()
        taken.append(time.perf_counter_ns() - started)
    report("snapshot", taken, bytes=len(state))


def main() -> None:
    """Run every case."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.risk", description=__doc__)
    parser.add_argument("--verdicts", type=int, default=5_000)
    count = parser.parse_args().verdicts
    gc.collect()
    gc.freeze()
    measure_verdicts(200, "0.002", "warm_up")
    measure_verdicts(count, "0.002", "verdict_full_gate")
    measure_verdicts(count, "9", "refusal_full_gate")
    measure_market(count)
    measure_snapshot(200)


if __name__ == "__main__":
    main()
