"""How much market the cores carry on this machine: events a second without a growing lag, and memory, fused and spread.

`python -m tests.benchmarks.throughput [--instruments 10 50] [--flows simulated recorded] [--layouts fused spread]` puts
a market of each instrument on the SQLite bus and has the cores catch up with it, each service of a spread session in a
process of its own, all at once: what they handle in a second then is what they sustain. Two accounts trade the first
two instruments. A table says on paper what more instruments need. Recorded is the capture of BTCUSDT on a busy day.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from libs.bus.open import open_bus
from libs.clock import SystemClock
from libs.domain.events import DeadInput
from libs.domain.market import MarketEvent
from libs.runtime.chain import ChainShell
from libs.runtime.lag import read_lags
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import Placement
from libs.runtime.shell import CoreShell
from libs.wire.topics import CORE_SERVICES
from services.backtest.inputs import open_recording, open_simulation
from services.chain.building import SERVICES, build_cores
from tests.kit.scaled import REPOSITORY, Size, make_placement, multiply, publish

_WIDTH = 14
LAYOUTS = {"fused": ("chain",), "spread": tuple(CORE_SERVICES)}
_RECORDING = "data/market/capture/binance_um_BTCUSDT_20240808.ns-jsonl.gz"
_ON_PAPER = (10, 50, 100, 200, 500)
_SPAWN = multiprocessing.get_context("spawn")
_PAUSE_S = 0.002


@dataclass(frozen=True, slots=True)
class Flow:
    """What one instrument brings: its events, and how many a second."""

    tapes: Sequence[Sequence[MarketEvent]]
    rate: float


def load_flow(name: str, seconds: int) -> Flow:
    """Return so many seconds of a market. Raises `SystemExit` where the recording is not there."""
    if name == "simulated":
        found = [open_simulation(seed, minutes=-(-seconds // 60), history_bars=60).events for seed in (1, 2, 3, 4)]
        tapes = [[event for event in events if not isinstance(event, DeadInput)] for events in found]
    else:
        path = Path(os.environ.get("PERPFLOW_SHARED", REPOSITORY.parent / "shared")) / _RECORDING
        if not path.is_file():
            raise SystemExit(f"no recording at {path}: set PERPFLOW_SHARED, or give --flows simulated")
        events = open_recording(path, instrument="BTCUSDT.BINANCE", history=None, history_bars=0).events
        tape = [event for event in events if not isinstance(event, DeadInput)]
        until = tape[0].received_time + seconds * 1_000_000_000
        tapes = [[event for event in tape if event.received_time < until]]
    live = sum(not getattr(event, "is_history", False) for event in tapes[0])
    return Flow(tapes, live / seconds)


def run_service(address: str, placement: Placement, service: str, ready: Any, go: Any, stop: Any, results: Any) -> None:
    """Run a service's tasks, or all in a chain, until asked to stop; hand over processor time and memory."""
    logger = configure_logging(service, level="error")
    metrics = ServiceMetrics(service)
    with open_bus(address, partitioner=placement.choose) as bus:
        shells: list[CoreShell | ChainShell]
        if service == "chain":
            cores = build_cores(placement, placement.chain_tasks())
            shells = [ChainShell(service, cores, bus, metrics, logger, clock=SystemClock(), choose=placement.choose)]
        else:
            declared = SERVICES[service]
            shells = [
                CoreShell(
                    service,
                    declared.build_core(declared.load_settings(placement, task)),
                    declared.inputs,
                    bus,
                    metrics,
                    logger,
                    clock=SystemClock(),
                    task=task,
                )
                for task in placement.tasks(service)
            ]
        for shell in shells:
            shell.open()
        ready.release()
        go.wait()
        begun = time.process_time()
        while not stop.is_set():
            if not sum(shell.step(0) for shell in shells):
                stop.wait(_PAUSE_S)
        spent = time.process_time() - begun
        for shell in shells:
            shell.close()
    results.put((spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


@dataclass(frozen=True, slots=True)
class Sustained:
    """What a layout did with a market."""

    instruments: int
    events: int
    rate: float
    cpu_s: float
    megabytes: float


def measure(layout: str, instruments: int, flow: Flow, folder: Path) -> Sustained:
    """Have a layout catch up with a market, which takes as long as it takes."""
    size = Size(instruments, min(2, instruments), 2 if instruments > 1 else 1)
    placement = make_placement(size)
    events = multiply(flow.tapes, placement)
    address = f"sqlite:{folder / f'{time.time_ns()}.db'}"
    ready, go, stop, results = _SPAWN.Semaphore(0), _SPAWN.Event(), _SPAWN.Event(), _SPAWN.Queue()
    with open_bus(address, partitioner=placement.choose) as bus:
        bus.create_topics(placement.topics())
        publish(bus, events)
        services = LAYOUTS[layout]
        processes = [
            _SPAWN.Process(
                target=run_service, args=(address, placement, service, ready, go, stop, results), daemon=True
            )
            for service in services
        ]
        for process in processes:
            process.start()
        for _ in processes:
            if not ready.acquire(timeout=300):
                raise SystemExit("a process was not ready after 300 s")
        begun = time.monotonic()
        go.set()
        while any(read_lags(bus, CORE_SERVICES, placement=placement).values()):
            if not all(process.is_alive() for process in processes):
                raise SystemExit("a process ended by itself")
            stop.wait(0.2)
        took = time.monotonic() - begun
        stop.set()
        found = [results.get(timeout=60) for _ in processes]
        for process in processes:
            process.join(30)
    cpu_s, megabytes = (sum(each[part] for each in found) for part in (0, 1))
    return Sustained(instruments, len(events), len(events) / took, cpu_s, megabytes)


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instruments", type=int, nargs="+", default=[10, 50])
    parser.add_argument("--flows", nargs="+", choices=("simulated", "recorded"), default=["simulated", "recorded"])
    parser.add_argument("--layouts", nargs="+", choices=tuple(LAYOUTS), default=list(LAYOUTS))
    chosen = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    heads = ("flow", "layout", "instruments", "events", "events/s", "CPU µs/event", "MB")
    print("".join(f"{head:>{_WIDTH}}" for head in heads))
    sizes: list[tuple[str, str, float, Sequence[Sustained]]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.flows:
            flow = load_flow(name, 120 if name == "simulated" else 5)
            for layout in chosen.layouts:
                rows = []
                for instruments in chosen.instruments:
                    row = measure(layout, instruments, flow, Path(folder))
                    rows.append(row)
                    cells = (
                        name,
                        layout,
                        instruments,
                        row.events,
                        f"{row.rate:.0f}",
                        f"{row.cpu_s / row.events * 1e6:.0f}",
                        f"{row.megabytes:.0f}",
                    )
                    print("".join(f"{cell:>{_WIDTH}}" for cell in cells), flush=True)
                sizes.append((name, layout, flow.rate, rows))
    for size in sizes:
        print_sizing(*size)
    print(f"load {os.getloadavg()[0]:.1f}")


def print_sizing(flow: str, layout: str, rate: float, rows: Sequence[Sustained]) -> None:
    """Print what numbers of instruments need, on paper, by the smallest and the largest that were measured."""
    first, last = rows[0], rows[-1]
    more = (last.megabytes - first.megabytes) / max(1, last.instruments - first.instruments)
    cpu_s = last.cpu_s / last.events
    print(f"{flow}, {layout}: {rate:.0f} events/s and {more:.1f} MB for each instrument")
    for instruments in _ON_PAPER:
        events = instruments * rate
        megabytes = last.megabytes + more * (instruments - last.instruments)
        print(f"{instruments:>6} instruments: {events:>8.0f} events/s, {events * cpu_s:>6.1f} processors, "
              f"{megabytes:>6.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
