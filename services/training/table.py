"""Every family on recorded bars, one table a span: `python -m services.training.table --data FOLDER`.

Each cell is a family on a span of bars, tested by the same walk-forward folds. Cells are kept as they are done, so that
the command goes on where it was stopped; what the time does not suffice for is marked as left out. The verdicts are
made at the end, when it is known how much was tried.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from libs.clock import SYSTEM_CLOCK, Clock
from services.training.checkpoints import write_whole
from services.training.core.bars import BarTable
from services.training.core.labels import LabelOptions
from services.training.core.trading import Costs
from services.training.core.verdict import judge
from services.training.evaluation import Competitor, evaluate, volatility_inputs, weigh_evidence
from services.training.families import FAMILIES, Task, installed_families, load_family
from services.training.families.family import Number
from services.training.fitting import ModelChoice, Sample
from services.training.market_data import read_bars
from services.training.report import describe_evaluation
from services.training.training import (
    TrainingOptions,
    find_examples,
    make_folds,
    make_sample,
    split_cross_validation,
)

_SEED = 1
_LONGEST_WINDOW = 168


@dataclass(frozen=True, slots=True)
class Span:
    """The last `bars` of a file, and the horizon to forecast, in bars."""

    title: str
    file: str
    bars: int
    horizon: int


SPANS = (
    Span("BTCUSDT 1h, 4 h ahead", "binance_um_BTCUSDT_1h_20190908_20250630.parquet", 30_000, 4),
    Span("BTCUSDT 5m, 1 h ahead", "binance_um_BTCUSDT_5m_20230101_20240514.parquet", 40_000, 12),
    Span("BTCUSDT 1m, 15 min ahead", "binance_um_BTCUSDT_1m_20250504_20250624.parquet", 30_000, 15),
)

_FOLDS = 3
_CROSS_FOLDS = 4
_NEURAL: Mapping[str, Number] = {"epochs": 2, "examples_per_epoch": 8_000}
_SIZES: Mapping[str, Mapping[str, Number]] = {
    "lightgbm": {"trees": 150},
    **dict.fromkeys(("transformer", "tcn", "nbeats", "patchtst", "informer", "tft"), _NEURAL),
}
_ORDER = ("logistic", "lightgbm", "linear", "forest", "boosting", "ensemble", "stacked")
"""What is quick comes first; whatever else there is follows."""

_VOLATILITY = "volatility only"
_NAMED = 5
_COLUMNS = (
    ("auc", "AUC", 3),
    ("balanced_accuracy", "bal. acc.", 3),
    ("auc_direction", "AUC up/down", 3),
    ("auc_move", "AUC move", 3),
    ("log_loss", "log loss", 4),
    ("brier", "Brier", 4),
    ("calibration_error", "ECE", 3),
    ("r2", "R2", 4),
    ("direction_accuracy", "direction", 3),
    ("crps", "CRPS, bps", 2),
    ("coverage", "coverage of 0.9", 3),
)
_REGRESSION = "regression"
_REGRESSION_COLUMNS = tuple(
    one for one in _COLUMNS if one[0] in ("r2", "direction_accuracy", "auc", "crps", "coverage")
)


def main(arguments: Sequence[str] | None = None, clock: Clock = SYSTEM_CLOCK) -> int:
    """Make what the time suffices for and write the table; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m services.training.table", description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of recorded bars")
    parser.add_argument("--output", type=Path, default=Path("docs/models.md"), help="page to write")
    parser.add_argument("--cells", type=Path, default=Path("var/models-table"), help="folder that keeps cells")
    parser.add_argument("--minutes", type=float, default=180.0, help="time in which cells are begun")
    parser.add_argument("--only-write", action="store_true", help="write the page of the cells there are")
    given = parser.parse_args(arguments)
    missing = [span.file for span in SPANS if not (given.data / span.file).is_file()]
    if missing:
        sys.stderr.write(f"{given.data / missing[0]} is not there; give the folder of recorded bars as --data\n")
        return 2
    given.cells.mkdir(parents=True, exist_ok=True)
    until = clock.monotonic_s() + given.minutes * 60.0
    order = [*_ORDER, *(name for name in FAMILIES if name not in _ORDER)]
    prepared: dict[str, tuple[BarTable, Sample]] = {}
    for span in SPANS:
        for name, task in _rows(order):
            path = _cell_path(given.cells, span, name, task)
            if given.only_write or path.exists() or clock.monotonic_s() > until:
                continue
            if span.file not in prepared:
                prepared[span.file] = _prepare(given.data / span.file, span)
            began, used = clock.monotonic_s(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
            cell = make_cell(*prepared[span.file], span, name, task)
            cell["seconds"] = round(clock.monotonic_s() - began, 1)
            cell["cpu_seconds"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_utime - used, 1)
            write_whole(path, json.dumps(cell).encode())
            sys.stderr.write(f"{span.title}: {path.stem}: {cell['seconds']} s\n")
    given.output.write_text(write_table(given.cells, order))
    return 0


def _rows(order: Sequence[str]) -> list[tuple[str, Task | None]]:
    """Return what there is a cell of: each family by its own task, then those that regress, cross-validated."""
    there_are = [name for name in order if name in installed_families()]
    regressing = [name for name in there_are if Task.REGRESS in load_family(name).tasks]
    return [(_VOLATILITY, None), *((name, None) for name in there_are), *((name, Task.REGRESS) for name in regressing)]


def _cell_path(cells: Path, span: Span, name: str, task: Task | None) -> Path:
    kind = f"-{_REGRESSION}" if task is Task.REGRESS else ""
    return cells / f"{span.file.removesuffix('.parquet')}-{name.replace(' ', '-')}{kind}.json"


def make_cell(bars: BarTable, sample: Sample, span: Span, name: str, task: Task | None = None) -> dict[str, Any]:
    """Test a family on a span; return its measures, its net returns by day, and those of the rules.

    By its own task walk-forward, as a regression by purged cross-validation: each fold by a fit to the others.
    """
    family = load_family("logistic" if name == _VOLATILITY else name)
    wanted = volatility_inputs(sample.wanted) if name == _VOLATILITY else ()
    choice = ModelChoice(family, task or family.tasks[0], family.window, _SEED, _SIZES.get(name, {}))
    label, costs = LabelOptions(span.horizon), Costs()
    # Every family is tested on the same bars, whatever its window.
    usable = find_examples(bars, sample, label, _LONGEST_WINDOW)
    if task is Task.REGRESS:
        folds = split_cross_validation(usable, bars, label, _CROSS_FOLDS)
    else:
        folds = make_folds(usable, bars, TrainingOptions("table", _SEED, label=label, folds=_FOLDS))
    made = evaluate(
        bars, sample, folds, [Competitor(name, choice, wanted)], label, costs, _SEED, lambda *_progress: None
    )
    described = describe_evaluation(made)
    return {
        "tested_bars": described["tested_bars"],
        "scored": {one.name: entry for one, entry in zip(made.scored, _entries(described, name), strict=True)},
        "daily": {one.name: [round(float(net), 4) for net in one.traded.net_bps] for one in made.scored},
        "suspects": described["suspects"],
        "importance": described["importance"],
        "contributions": described["contributions"],
    }


def write_table(cells: Path, order: Sequence[str]) -> str:
    """Return the page that the kept cells make."""
    parts = [_HEAD]
    for span in SPANS:
        made = {
            name: json.loads(path.read_text())
            for name in [*order, _VOLATILITY]
            if (path := _cell_path(cells, span, name, None)).exists()
        }
        parts.append(f"## {span.title}\n")
        if not made:
            parts.append("Left out: the time did not suffice.\n")
            continue
        parts.append(_write_span(span, made, order))
        parts.append(_write_regressions(cells, span, order))
        parts.append(_write_importance(made, order))
    return "\n".join(parts)


def _write_regressions(cells: Path, span: Span, order: Sequence[str]) -> str:
    heads = ["", *(label for _, label, _ in _REGRESSION_COLUMNS), "CPU s"]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, task in _rows(order):
        if task is None:
            continue
        path = _cell_path(cells, span, name, task)
        if not path.exists():
            lines.append(f"| {name} | left out |" + " |" * (len(heads) - 2))
            continue
        cell = json.loads(path.read_text())
        measured = [_cell(cell["scored"][name].get(column), digits) for column, _, digits in _REGRESSION_COLUMNS]
        lines.append("| " + " | ".join([name, *measured, f"{cell['cpu_seconds']:.0f}"]) + " |")
    return f"The return itself, by purged cross-validation in {_CROSS_FOLDS} folds:\n\n" + "\n".join(lines) + "\n"


def _write_importance(made: Mapping[str, dict[str, Any]], order: Sequence[str]) -> str:
    lines = ["| | permutation | SHAP |", "|---|---|---|"]
    for name in order:
        if name in made:
            firsts = [", ".join(list(made[name][kind])[:_NAMED]) for kind in ("importance", "contributions")]
            lines.append(f"| {name} | {firsts[0]} | {firsts[1]} |")
    return f"The {_NAMED} inputs that matter most:\n\n" + "\n".join(lines) + "\n"


def _write_span(span: Span, made: Mapping[str, dict[str, Any]], order: Sequence[str]) -> str:
    first = next(iter(made.values()))
    rules = [name for name in first["scored"] if name != next(iter(made))]
    daily = {name: np.array(cell["daily"][name]) for name, cell in made.items()}
    daily |= {name: np.array(first["daily"][name]) for name in rules}
    trials = np.column_stack(list(daily.values()))
    tail_heads = ["net bps a day", "Sharpe", "trades", "DSR", "CPU s", "verdict"]
    heads = ["", *(label for _, label, _ in _COLUMNS), *tail_heads]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    overfitting: float | None = None
    for name in [*order, _VOLATILITY, *rules]:
        if name not in daily:
            lines.append(f"| {name} | left out |" + " |" * (len(heads) - 2))
            continue
        scored = made.get(name, first)["scored"][name]
        auc_low = scored.get("auc", {}).get("low")
        interval = (scored["net_bps_per_day_low"], scored["net_bps_per_day_high"])
        evidence = weigh_evidence(math.nan if auc_low is None else auc_low, daily[name], interval, trials)
        overfitting = evidence.overfitting
        cells = [_cell(scored.get(column), digits) for column, _, digits in _COLUMNS]
        net = f"{scored['net_bps_per_day']:.1f} ({interval[0]:.1f} to {interval[1]:.1f})"
        tail = [net, f"{scored['sharpe_net']:.2f}", str(scored["trades"]), f"{evidence.deflated_sharpe:.2f}"]
        tail.append(f"{made[name]['cpu_seconds']:.0f}" if name in made else "")
        verdict = judge(evidence)[0].value if name in made and name != _VOLATILITY else ""
        lines.append("| " + " | ".join([name, *cells, *tail, verdict]) + " |")
    said = "too few days to tell" if overfitting is None else f"{overfitting:.2f}"
    return (
        f"The last {span.bars:,} bars of `{span.file}`, {first['tested_bars']:,} of them tested in {_FOLDS} folds, "
        f"{trials.shape[0]} days. Probability of backtest overfitting over all rows: {said}.\n\n"
        + "\n".join(lines)
        + "\n"
    )


def _prepare(path: Path, span: Span) -> tuple[BarTable, Sample]:
    whole = read_bars(path).table
    cut = {one.name: getattr(whole, one.name)[-span.bars :] for one in fields(whole) if one.name != "timeframe"}
    bars = replace(whole, **cut)
    return bars, make_sample(bars, "core_v1", LabelOptions(span.horizon))


def _entries(described: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    entries: dict[str, dict[str, Any]] = {name: described["model"], **described["beside"]}
    return list(entries.values())


def _cell(measured: Any, digits: int) -> str:
    if measured is None or measured["value"] is None:
        return ""
    low, high = measured["low"], measured["high"]
    value = f"{measured['value']:.{digits}f}"
    return value if low is None else f"{value} ({low:.{digits}f} to {high:.{digits}f})"


_HEAD = """# Models

Written by `make models-table` (`python -m services.training.table`); do not edit it by hand. Every family by its
defaults, smaller where a neural one would take longer, on all inputs of `core_v1` that mean the same at every price,
labels by terciles of the return from the next open, purged and embargoed walk-forward tests, an expanding fit. All
tested bars are pooled; in brackets is what 95 of 100 resamples of whole days hold. Net returns are after 4.6 bps a
side, entered only where the expected return beats a round trip; rules trade every horizon. DSR is the deflated Sharpe
ratio over all rows of a table. CRPS is of the forecast distribution (a mixture of what each class was followed by, in
units of the volatility known), coverage that of its conformal interval for 90 of 100 returns. CPU s is what fitting,
testing and measuring took on one thread. The verdict's rules are in `services/training/core/verdict.py`.

Not measured: funding (the recorded bars have none).
"""


if __name__ == "__main__":
    raise SystemExit(main())
