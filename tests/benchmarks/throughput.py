"""How much market the cores carry: events a second for each processor, and memory, fused and spread.

`python -m tests.benchmarks.throughput [--instruments 1 10 50] [--minutes N]` publishes a simulated market on the SQLite
bus and has the cores catch up with it, fused in one process, then spread, each service alone in a process of its own,
so that nothing competes. Two accounts trade the first two instruments. What two processors sustain is twice what one
does while the tasks divide evenly; the last lines say on paper what 500 instruments need.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from libs.bus.open import open_bus
from libs.clock import SystemClock
from libs.runtime.chain import ChainShell
from libs.runtime.log import configure_logging
from libs.runtime.metrics import ServiceMetrics
from libs.runtime.placement import Placement
from libs.runtime.shell import CoreShell
from libs.wire.topics import CORE_SERVICES
from services.chain.building import SERVICES, build_cores
from tests.kit.scaled import Size, make_market, make_placement, publish

# What one instrument brings: the simulated market's, and the recorded capture of BTCUSDT on a busy day.
FLOWS = {"simulated": 14, "BTCUSDT recorded": 270}
_SPAWN = multiprocessing.get_context("spawn")
_IDLE_ROUNDS = 3


def catch_up(address: str, placement: Placement, service: str, told: Any) -> None:
    """Run a service's tasks, or all in a chain, until nothing is left; tell processor time and memory."""
    logger = configure_logging(service, level="error")
    with open_bus(address, partitioner=placement.choose) as bus:
        shells: list[CoreShell | ChainShell]
        if service == "chain":
            shells = [
                ChainShell(
                    service,
                    build_cores(placement, placement.chain_tasks()),
                    bus,
                    ServiceMetrics(service),
                    logger,
                    clock=SystemClock(),
                    choose=placement.choose,
                )
            ]
        else:
            shells = [
                CoreShell(
                    service,
                    SERVICES[service].build_core(SERVICES[service].load_settings(placement, task)),
                    SERVICES[service].inputs,
                    bus,
                    ServiceMetrics(service),
                    logger,
                    clock=SystemClock(),
                    task=task,
                )
                for task in placement.tasks(service)
            ]
        for shell in shells:
            shell.open()
        begun, idle = time.process_time(), 0
        while idle < _IDLE_ROUNDS:
            idle = 0 if sum(shell.step(0) for shell in shells) else idle + 1
        spent = time.process_time() - begun
        for shell in shells:
            shell.close()
    told.put((spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measure(layout: str, size: Size, folder: Path) -> tuple[int, float, float]:
    """Return the market events of a size, the processor seconds that a layout took for them, and its megabytes."""
    placement = make_placement(size)
    events = make_market(size, placement)
    address = f"sqlite:{folder / f'{layout}-{size.instruments}.db'}"
    with open_bus(address, partitioner=placement.choose) as bus:
        bus.create_topics(placement.topics())
        publish(bus, events)
    cpu_s = megabytes = 0.0
    for service in ("chain",) if layout == "fused" else CORE_SERVICES:
        told = _SPAWN.Queue()
        process = _SPAWN.Process(target=catch_up, args=(address, placement, service, told))
        process.start()
        spent, held = told.get(timeout=1800)
        process.join()
        cpu_s, megabytes = cpu_s + spent, megabytes + held
    return len(events), cpu_s, megabytes


def main() -> None:
    """Measure the sizes that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--instruments", type=int, nargs="+", default=[1, 10, 50])
    parser.add_argument("--minutes", type=int, default=3)
    chosen = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors")
    print(f"{'layout':<8}{'instruments':>12}{'events':>9}{'µs/event':>10}{'events/s a processor':>22}{'MB':>7}")
    found: dict[str, list[tuple[int, float, float]]] = {"fused": [], "spread": []}
    with tempfile.TemporaryDirectory() as folder:
        for layout, rows in found.items():
            for instruments in chosen.instruments:
                size = Size(instruments, min(2, instruments), 2 if instruments > 1 else 1, chosen.minutes)
                events, cpu_s, megabytes = measure(layout, size, Path(folder))
                rows.append((instruments, events / cpu_s, megabytes))
                print(
                    f"{layout:<8}{instruments:>12}{events:>9}{cpu_s / events * 1e6:>10.0f}"
                    f"{events / cpu_s:>22.0f}{megabytes:>7.0f}",
                    flush=True,
                )
    print_sizing(found)


def print_sizing(found: dict[str, Sequence[tuple[int, float, float]]] | Any) -> None:
    """Print what 500 instruments need by the largest size that was measured."""
    for layout, rows in found.items():
        first, last = rows[0], rows[-1]
        more = (last[2] - first[2]) / max(1, last[0] - first[0])
        needs = {
            name: f"{500 * flow / last[1]:.1f} processors at {500 * flow:,} events/s ({name})"
            for name, flow in FLOWS.items()
        }
        print(f"{layout}: {more:.2f} MB for each further instrument; 500 need {json.dumps(list(needs.values()))[1:-1]}")
    print(f"load {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
