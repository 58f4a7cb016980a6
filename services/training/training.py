"""The training job: bars to features and labels, evaluation out of sample, a fit to everything, its bundle."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from libs.indicators.feature_sets import load_feature_set
from libs.runtime.errors import BadInput
from services.inference.core import Manifest, ModelInput
from services.training.checkpoints import open_checkpoints
from services.training.core.bars import BarTable
from services.training.core.examples import TooFewBars, choose_names, find_usable_bars, gather_windows
from services.training.core.features import compute_features
from services.training.core.labels import DAY_NS, LabelOptions, make_labels
from services.training.core.outlook import SCALE_INPUT, make_paths
from services.training.core.splits import Fold, split_calibration, split_combinatorial, split_walk_forward
from services.training.core.trading import Costs
from services.training.evaluation import Competitor, Evaluation, FitKept, Progress, evaluate, volatility_inputs
from services.training.export import check_export, sign_manifest, write_bundle
from services.training.families import FamilyError, Task, load_family
from services.training.families.family import Number
from services.training.fitting import ModelChoice, Sample, fit_model
from services.training.market_data import TrainingBars
from services.training.report import describe_evaluation, write_html, write_json

Floats: TypeAlias = npt.NDArray[np.float64]
Validation: TypeAlias = Literal["walk-forward", "combinatorial"]

CALIBRATION_SHARE = 0.15
REPORT_JSON = "report.json"
REPORT_HTML = "report.html"
_CHECKED_WINDOWS = 256


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What to train and how to test it.

    `window` is in bars, the family's own by default; `folds` are walk-forward tests, or the groups of which two at a
    time are tested. With `compares` the report has simpler models beside the one that is trained.
    """

    name: str
    seed: int
    family: str = "lightgbm"
    task: str = ""
    feature_set: str = "core_v1"
    window: int = 0
    label: LabelOptions = field(default_factory=lambda: LabelOptions(horizon=5))
    folds: int = 3
    validation: Validation = "walk-forward"
    parameters: Mapping[str, Number] = field(default_factory=dict)
    costs: Costs = field(default_factory=Costs)
    compares: bool = True


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model in the registry, and what its report says."""

    folder: Path
    manifest: Manifest
    evaluation: Evaluation


def train_model(data: TrainingBars, options: TrainingOptions, output: Path, progress: Progress) -> TrainedModel:
    """Train, evaluate and export into ``output/NAME/VERSION``. Raises `BadInput`.

    Goes on where a training of the same data, options and code was killed; the files come out the same.
    """
    facts = {"data": data.description, "options": asdict(options)}
    checkpoints = open_checkpoints(output, facts)
    exported, manifest, evaluation = _train(data, options, progress, checkpoints.fit)
    folder = output / options.name / manifest.version
    reports = {REPORT_JSON: write_json(manifest, evaluation), REPORT_HTML: write_html(manifest, evaluation)}
    write_bundle(folder, exported, manifest, reports)
    checkpoints.clear()
    return TrainedModel(folder, manifest, evaluation)


def train_into(data: TrainingBars, options: TrainingOptions, folder: Path, progress: Progress) -> TrainedModel:
    """Train, evaluate and export into exactly this folder, without reports, as the starter model is."""
    exported, manifest, evaluation = _train(data, options, progress)
    write_bundle(folder, exported, manifest, {})
    return TrainedModel(folder, manifest, evaluation)


def make_sample(bars: BarTable, feature_set: str, label: LabelOptions) -> Sample:
    """Return features and labels of every bar; the inputs wanted are those that mean the same at every price."""
    features = compute_features(bars, feature_set)
    wanted = choose_names(load_feature_set(feature_set, bars.timeframe))
    paths: Floats | None = None
    if label.outlook_days:
        if SCALE_INPUT not in features.names:
            raise BadInput(f"an outlook needs the feature {SCALE_INPUT}, which {feature_set} does not have")
        volatility = features.values[:, features.names.index(SCALE_INPUT)]
        paths = make_paths(bars, volatility, label.outlook_days)
    return Sample(features.names, features.values, make_labels(bars, label), wanted, paths, bars.step_ns)


def find_examples(bars: BarTable, sample: Sample, label: LabelOptions, window: int) -> npt.NDArray[np.int64]:
    """Return the bars that can be learnt from or tested. Raises `TooFewBars`."""
    reach = label.reach(bars.step_ns)
    usable = find_usable_bars(bars.open_times, bars.step_ns, window=window, ahead=reach, warm_up=window + 60)
    return usable[np.isfinite(sample.labels.moves[usable])]


def make_folds(usable: npt.NDArray[np.int64], bars: BarTable, options: TrainingOptions) -> list[Fold]:
    """Split for the options' validation: purged by the labels' reach, with an embargo of a day, a tenth at most."""
    shared = _gaps(usable, bars, options.label, options.folds)
    if options.validation == "combinatorial":
        return split_combinatorial(
            usable, groups=options.folds, test_groups=2, calibration_share=CALIBRATION_SHARE, **shared
        )
    return split_walk_forward(usable, folds=options.folds, calibration_share=CALIBRATION_SHARE, **shared)


def split_cross_validation(
    usable: npt.NDArray[np.int64], bars: BarTable, label: LabelOptions, folds: int
) -> list[Fold]:
    """Split for purged cross-validation: each fold is tested by a fit to all the others, those behind it too."""
    return split_combinatorial(
        usable,
        groups=folds,
        test_groups=1,
        calibration_share=CALIBRATION_SHARE,
        **_gaps(usable, bars, label, folds),
    )


def _gaps(usable: npt.NDArray[np.int64], bars: BarTable, label: LabelOptions, folds: int) -> dict[str, int]:
    embargo = min(DAY_NS // bars.step_ns, len(usable) // 10 // max(1, folds))
    return {"purge_bars": label.reach(bars.step_ns), "embargo_bars": embargo}


def choose_model(options: TrainingOptions) -> ModelChoice:
    """Return what the options ask for. Raises `BadInput` for what there is not."""
    try:
        family = load_family(options.family)
        family.complete(options.parameters)
        if options.task and options.task not in family.tasks:
            raise FamilyError(f"family {family.name} cannot {options.task}; it can {', '.join(family.tasks)}")
        if options.label.outlook_days and not family.has_outlook:
            raise FamilyError(f"family {family.name} gives no outlook; tft does")
    except FamilyError as error:
        raise BadInput(str(error)) from error
    task = Task(options.task) if options.task else family.tasks[0]
    return ModelChoice(family, task, options.window or family.window, options.seed, options.parameters)


def choose_competitors(choice: ModelChoice, wanted: tuple[str, ...], seed: int, *, compares: bool) -> list[Competitor]:
    """Return the model and, to compare, the simpler ones that it is not."""
    competitors = [Competitor(choice.family.name, choice)]
    if compares:
        for name in ("logistic", "lightgbm"):
            family = load_family(name)
            if name != choice.family.name:
                competitors.append(Competitor(name, ModelChoice(family, family.tasks[0], family.window, seed, {})))
        logistic = load_family("logistic")
        volatility = volatility_inputs(wanted)
        if volatility:
            choice = ModelChoice(logistic, logistic.tasks[0], 1, seed, {})
            competitors.append(Competitor("volatility only", choice, volatility))
    return competitors


def _train(
    data: TrainingBars,
    options: TrainingOptions,
    progress: Progress,
    fit_kept: FitKept = lambda _name, fit: fit(),
) -> tuple[bytes, Manifest, Evaluation]:
    choice = choose_model(options)
    bars = data.table
    progress("features", 0, 1, math.nan)
    sample = make_sample(bars, options.feature_set, options.label)
    progress("features", 1, 1, math.nan)
    try:
        usable = find_examples(bars, sample, options.label, choice.window)
        folds = make_folds(usable, bars, options)
        competitors = choose_competitors(choice, sample.wanted, options.seed, compares=options.compares)
        evaluation = evaluate(
            bars, sample, folds, competitors, options.label, options.costs, options.seed, progress, fit_kept
        )
        train, calibrate = split_calibration(usable, options.label.reach(bars.step_ns), CALIBRATION_SHARE)
        if not len(train) or not len(calibrate):
            raise TooFewBars("too few bars remain to train and calibrate on; give more bars")
        on_step = partial(progress, "final fit")
        final = fit_kept("final fit", partial(fit_model, sample, train, calibrate, choice, on_step))
    except (TooFewBars, ValueError) as error:
        raise BadInput(str(error)) from error
    progress("export", 0, 1, math.nan)
    exported = final.export()
    windows = gather_windows(final.raw_rows(sample), usable[-_CHECKED_WINDOWS:], choice.window)
    worst = check_export(exported, final, windows)
    progress("export", 1, 1, math.nan)
    feature_set = load_feature_set(options.feature_set, bars.timeframe)
    manifest = Manifest(
        name=options.name,
        family=choice.family.name,
        onnx_sha256="",
        feature_set=feature_set.name,
        schema_hash=feature_set.schema_hash,
        timeframe=bars.timeframe,
        window=choice.window,
        horizon_ns=options.label.horizon * bars.step_ns,
        inputs=tuple(
            ModelInput(name, int(index), tuple(float(one) for one in deciles))
            for name, index, deciles in zip(final.inputs.names, final.inputs.indices, final.inputs.deciles, strict=True)
        ),
        verdict=evaluation.verdict.value,
        label={
            "kind": options.label.kind,
            "horizon_bars": options.label.horizon,
            "barrier_deviations": options.label.barrier_deviations,
            "round_trip_bps": options.label.round_trip_bps,
            "outlook_days": options.label.outlook_days,
            "dead_band_deviations": final.dead_band,
        },
        training={
            "data": dict(data.description),
            "first_open_time": int(bars.open_times[0]),
            "last_open_time": int(bars.open_times[-1]),
            "examples": len(train),
            "calibration_examples": len(calibrate),
            "seed": options.seed,
            "task": choice.task.value,
            "parameters": {name: float(one) for name, one in choice.family.complete(options.parameters).items()},
            "calibration": final.calibration.describe(),
            "class_bps": list(final.expected.class_bps),
            "left_out_inputs": list(final.inputs.left_out),
            "largest_difference": float(f"{worst:.0e}"),
            "perpflow": version_of("perpflow"),
            "validation": options.validation,
        },
        metrics=describe_evaluation(evaluation),
    )
    return exported, sign_manifest(exported, manifest), evaluation
