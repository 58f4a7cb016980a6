"""Walks a strategy through the past with a model that is trained again as it goes, by the job's own training.

At each time of the schedule a model is trained on the bars that had closed by then, and takes over by the same
PROMOTE_MODEL command as in a session, between two vectors. No bar that came later is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from libs.domain.control import ALL_ACCOUNTS, ControlAction, ControlCommand
from libs.domain.events import Event
from libs.runtime.errors import BadInput
from services.backtest.inputs import MarketInput
from services.backtest.options import BacktestOptions
from services.backtest.run import BacktestResult, run_accounts
from services.training.core.bars import BarTable
from services.training.core.retraining import RetrainRule
from services.training.evaluation import Progress
from services.training.market_data import TrainingBars
from services.training.training import TrainingOptions, train_model


@dataclass(frozen=True, slots=True)
class RetrainedRun:
    """A backtest whose model was trained again: each model's reference with the time (ns) it was trained at.

    `results` are by account.
    """

    models: tuple[tuple[int, str], ...]
    results: dict[str, BacktestResult]


def run_retrained(
    market: MarketInput,
    bars: TrainingBars,
    options: BacktestOptions,
    training: TrainingOptions,
    rule: RetrainRule,
    registry: Path,
    progress: Progress,
    listen: Callable[[Event], None] | None = None,
) -> RetrainedRun:
    """Train at `options.trade_from` and by the rule's schedule after it, on `bars`, and run the market.

    Raises `BadInput`. `listen` gets every event of the run. The models go into the registry. Bars before `trade_from`
    are what the first one is trained on.
    """
    table = bars.table
    end = int(table.open_times[-1]) + table.step_ns
    end = end if options.until is None else min(end, options.until)
    times = rule.times(options.trade_from, end)
    if options.trade_from <= int(table.open_times[0]):
        raise BadInput("the first model is trained on what is before --from; give a --from within the input")
    models = []
    for number, time in enumerate(times):
        progress("retraining", number, len(times), math.nan)
        trained = train_model(cut_bars(bars, time), training, registry, progress)
        models.append((time, trained.manifest.reference))
    progress("retraining", len(times), len(times), math.nan)
    first, *later = models
    # Where two trainings made the same bytes they are one model, which goes on.
    shadows = dict.fromkeys(reference for _, reference in later if reference != first[1])
    promotions = [_promote(time, reference) for time, reference in later]
    results = run_accounts(
        # Event by event: commands come between them.
        replace(market, commands=tuple(promotions), columns=None, trades=None),
        replace(options, champion=first[1], shadows=tuple(shadows), models_dir=str(registry)),
        listen=listen,
    )
    return RetrainedRun(tuple(models), results)


def cut_bars(bars: TrainingBars, until: int, since: int = 0) -> TrainingBars:
    """Return the bars that had closed by a time (ns), those that opened before another left out."""
    table = bars.table
    end = int(np.searchsorted(table.open_times + table.step_ns, until, side="right"))
    begin = int(np.searchsorted(table.open_times, since))
    columns = {
        field.name: getattr(table, field.name)[begin:end] for field in fields(BarTable) if field.name != "timeframe"
    }
    return TrainingBars(replace(table, **columns), {**bars.description, "bars": max(0, end - begin)})


def fit_between(
    bars: TrainingBars, training: TrainingOptions, registry: Path, progress: Progress
) -> Callable[[int, int], str]:
    """Return what trains a model on the bars between two times (ns), puts it into the registry and names it."""

    def fit(since: int, until: int) -> str:
        return train_model(cut_bars(bars, until, since), training, registry, progress).manifest.reference

    return fit


def _promote(time: int, reference: str) -> ControlCommand:
    return ControlCommand(
        f"control/retraining/{time}",
        time,
        ALL_ACCOUNTS,
        ControlAction.PROMOTE_MODEL,
        "retraining",
        "trained again on what had happened by then",
        {"model": reference},
    )
