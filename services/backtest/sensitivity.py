"""Runs one strategy under other fees, latency and slippage, to say how much of a result hangs on each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from services.backtest.sweep import SweepPlan, SweepPoint, run_sweep

ASSUMPTIONS = {
    "taker fee rate": "execution.taker_fee_rate",
    "latency, ms": "execution.latency_ms",
    "slippage, bps": "execution.slippage_bps",
    "impact, bps": "execution.impact_bps",
}
"""What is varied, and the setting behind it."""


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """A run with one assumption changed: its value, and what came of it."""

    assumption: str
    value: str
    point: SweepPoint


def measure_sensitivity(
    plan: SweepPlan,
    values: Mapping[str, Sequence[str]],
    folder: Path,
    *,
    workers: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[SweepPoint, list[Sensitivity]]:
    """Return the run as it is, and one for each value of each assumption, the others left as they are.

    Finished runs are kept in the folder. Raises `BadInput`.
    """
    changes: list[tuple[str, str]] = [("", "")]
    changes += [(name, value) for name, given in values.items() for value in given]
    found: list[SweepPoint] = []
    for number, (name, value) in enumerate(changes):
        settings = {service: dict(chosen) for service, chosen in plan.options.settings.items()}
        if name:
            service, _, setting = ASSUMPTIONS[name].partition(".")
            settings.setdefault(service, {})[setting] = value
        varied = replace(plan, options=replace(plan.options, settings=settings), varied=())
        results = folder / f"sensitivity-{number:02d}.jsonl"
        only: Sequence[Mapping[str, Any]] = [{}]
        found += run_sweep(varied, only, results, workers=workers)
        progress(number + 1, len(changes))
    return found[0], [Sensitivity(*change, point) for change, point in zip(changes[1:], found[1:], strict=True)]
