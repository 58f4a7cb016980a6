"""Chooses parameters on one stretch of time and trades them on the next, window after window."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from libs.domain.numbers import NANOSECONDS
from libs.runtime.errors import BadInput
from services.backtest.options import BacktestOptions
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
    """A window, what was chosen in training with its measures there, and what it came to in the test.

    `model` is the one that was trained for the test, where models are.
    """

    window: Window
    chosen: dict[str, Any]
    trained: dict[str, Any]
    tested: SweepPoint
    model: str = ""


@dataclass(frozen=True, slots=True)
class Retraining:
    """How a window's models are trained: `fit` trains one between two times (ns) and names it in `models_dir`.

    A model is trained up to `purge_ns` before what it trades, so that no label reaches into it. Parameters are chosen
    on the last `choosing_share` of the training, by a model that is trained before it.
    """

    fit: Callable[[int, int], str]
    models_dir: str
    purge_ns: int
    choosing_share: float = 0.25


def walk_forward(
    plan: SweepPlan,
    points: Sequence[Mapping[str, Any]],
    windows: Sequence[Window],
    folder: Path,
    *,
    by: str,
    workers: int,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    retraining: Retraining | None = None,
) -> list[WalkedWindow]:
    """Walk the windows; each one's training is a sweep of its own that goes on where it was. Raises `BadInput`.

    With `retraining` each window trains a model to choose parameters by and, on all of its training, one for the test.
    """
    walked: list[WalkedWindow] = []
    for number, window in enumerate(windows):
        train = replace(plan.options, trade_from=window.train_from, until=window.train_to)
        test = replace(plan.options, trade_from=window.test_from, until=window.test_to)
        model = ""
        if retraining is not None:
            train, test = _fit_models(retraining, window, train, test)
            model = test.champion or ""
        results = folder / f"window-{number:03d}.jsonl"
        ranked = rank(run_sweep(replace(plan, options=train), points, results, workers=workers), by)
        if not ranked:
            raise BadInput(f"no choice of parameters ran in training window {number + 1}; see {results}")
        tested = run_point(replace(plan, options=test), ranked[0].parameters)
        walked.append(WalkedWindow(window, ranked[0].parameters, ranked[0].measures, tested, model))
        progress(number + 1, len(windows))
    return walked


def _fit_models(
    retraining: Retraining, window: Window, train: BacktestOptions, test: BacktestOptions
) -> tuple[BacktestOptions, BacktestOptions]:
    """Train a window's two models; return the options of choosing and of testing by them."""
    choose_from = window.train_to - round((window.train_to - window.train_from) * retraining.choosing_share)
    first = retraining.fit(window.train_from, choose_from - retraining.purge_ns)
    last = retraining.fit(window.train_from, min(window.train_to, window.test_from - retraining.purge_ns))
    where = retraining.models_dir
    return (
        replace(train, trade_from=choose_from, champion=first, models_dir=where),
        replace(test, champion=last, models_dir=where),
    )


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
