"""Measures execution on paper: `python -m tests.benchmarks.execution [--minutes N]`. Prints one line of JSON.

The market is the simulated one, as ingestion publishes it. The account holds a position and has two orders resting far
from the market, so that every event may concern it. Building the events is not measured. `digest` is of everything the
core put out: the figures of two builds can be compared only where it is equal.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import time
from collections import deque
from collections.abc import Sequence
from decimal import Decimal

from libs.domain.events import Event
from libs.domain.market import Side
from libs.domain.orders import CancelOrder, PlaceOrder, VenueReport
from libs.venues.binance_frames import decode_frame, open_frame
from libs.wire import encode
from services.execution.building import build_core
from services.execution.core import ExecutionCore
from services.execution.settings import ExecutionSettings
from tests.kit.captures import simulated_capture
from tests.unit.execution.builders import an_approval


def make_events(minutes: int) -> list[Event]:
    """The simulated market's events, in order."""
    events: list[Event] = []
    for line in simulated_capture(7, minutes):
        received, _, frame = line.partition(" ")
        at = int(received)
        opened = open_frame(frame.encode())
        event = None if opened is None else decode_frame(opened, received_time=at, fallback_time=at, symbol="BTCUSDT")
        if event is not None:
            events.append(event)
    return events


def run(core: ExecutionCore, events: Sequence[Event], outputs: list[Event]) -> None:
    """Feed events; commands and reports come back in at once, as from their topics."""
    waiting: deque[Event] = deque()
    handle = core.handle
    for event in events:
        made = handle(event)
        while made:
            outputs.extend(made)
            waiting.extend(each for each in made if isinstance(each, PlaceOrder | CancelOrder | VenueReport))
            made = handle(waiting.popleft()) if waiting else ()
        while waiting:
            made = handle(waiting.popleft())
            outputs.extend(made)
            waiting.extend(each for each in made if isinstance(each, PlaceOrder | CancelOrder | VenueReport))


def measure(minutes: int) -> dict[str, object]:
    """Return the CPU time per market event, in microseconds, with what there was of it."""
    events = make_events(minutes)
    core = build_core(ExecutionSettings())
    outputs: list[Event] = []
    warmup = len(events) // 10
    run(core, events[:warmup], outputs)
    orders = [
        an_approval(1, "0.05"),
        an_approval(2, "0.01", limit="40000"),
        an_approval(3, "0.01", side=Side.SELL, limit="150000"),
    ]
    run(core, [*orders, *events[warmup : 2 * warmup]], outputs)
    assert core.held("BTCUSDT.BINANCE").quantity == Decimal("0.05")
    measured = events[2 * warmup :]
    gc.collect()
    gc.disable()
    began = time.process_time_ns()
    run(core, measured, outputs)
    spent = time.process_time_ns() - began
    gc.enable()
    digest = hashlib.sha256()
    for output in outputs:
        digest.update(encode(output).payload)
    return {
        "events": len(measured),
        "outputs": len(outputs),
        "cpu_us_per_event": round(spent / 1000 / len(measured), 2),
        "digest": digest.hexdigest()[:16],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=int, default=10)
    print(json.dumps(measure(parser.parse_args().minutes)))


if __name__ == "__main__":
    main()
