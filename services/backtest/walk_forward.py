"""Chooses parameters on one stretch of time and trades them on the next, window after window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from libs.domain.numbers import NANOSECONDS
from libs.runtime.errors import BadInput
from services.backtest.sweep import SweepPlan, SweepPoint, rank, run_point, run_sweep


@dataclass(frozen=True, slots=True)
class Window:
    """Times (ns): trained from `train_from` to `train_to`, tested from `test_from` to `test_to`."""

    train_from: int
    train_to: int
    test_from: int
    test_to: int


@dataclass(frozen=True, slots=True)
class WalkedWindow:
    """A window, what was chosen in training with its measures there, and what it came to in the test."""

    window: Window
    chosen: dict[str, Any]
    trained: dict[str, Any]
    tested: SweepPoint


def walk_forward(
    plan: SweepPlan,
    points: Sequence[Mapping[str, Any]],
    windows: Sequence[Window],
    folder: Path,
    *,
    by: str,
    workers: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[WalkedWindow]:
    """Walk the windows; each one's training is a sweep of its own that goes on where it was. Raises `BadInput`."""
    walked: list[WalkedWindow] = []
    for number, window in enumerate(windows):
        train = replace(plan.options, trade_from=window.train_from, until=window.train_to)
        results = folder / f"window-{number:03d}.jsonl"
        ranked = rank(run_sweep(replace(plan, options=train), points, results, workers=workers), by)
        if not ranked:
            raise BadInput(f"no choice of parameters ran in training window {number + 1}; see {results}")
        test = replace(plan.options, trade_from=window.test_from, until=window.test_to)
        tested = run_point(replace(plan, options=test), ranked[0].parameters)
        walked.append(WalkedWindow(window, ranked[0].parameters, ranked[0].measures, tested))
        progress(number + 1, len(windows))
    return walked


def split_windows(
    start: int, end: int, *, train_ns: int, test_ns: int, embargo_ns: int = 0, is_anchored: bool = False
) -> list[Window]:
    """Return windows that walk over a period; their tests never overlap.

    Anchored windows train from the period's start on. The embargo is left out between training and test. Raises
    `BadInput` where not one fits.
    """
    windows: list[Window] = []
    test_from = start + train_ns + embargo_ns
    while test_from + test_ns <= end:
        train_to = test_from - embargo_ns
        train_from = start if is_anchored else train_to - train_ns
        windows.append(Window(train_from, train_to, test_from, test_from + test_ns))
        test_from += test_ns
    if not windows:
        days = (end - start) / NANOSECONDS / 86_400
        raise BadInput(f"the market of {days:.1f} days is too short for one window of training and test")
    return windows
