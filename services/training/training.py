"""The training job: bars to features, walk-forward scores, one model fitted on everything, ONNX and manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from libs.runtime.errors import BadInput
from services.inference.core import Manifest, ModelInput
from services.inference.core.inference import normalise
from services.training.core.bars import BarTable
from services.training.core.examples import (
    ChosenInputs,
    TooFewBars,
    choose_inputs,
    find_usable_bars,
    gather_windows,
)
from services.training.core.features import FeatureTable, compute_features
from services.training.core.labels import classify, fit_dead_band, forward_returns, scaled_moves
from services.training.core.scores import score_forecasts
from services.training.core.splits import split_calibration, split_walk_forward
from services.training.export import check_export, export_onnx, name_version, write_model
from services.training.fitting import Examples, FitOptions, FittedModel, fit_model
from services.training.market_data import TrainingBars

BPS = 1e4
CLIP = 5.0
CALIBRATION_SHARE = 0.15

Progress = Callable[[str, int, int], None]
"""Receives the current stage, the steps done and the steps in all."""


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What to train. `horizon` and `window` are in bars; `folds` walk-forward tests are made before the final fit."""

    name: str
    seed: int
    feature_set: str = "core_v1"
    window: int = 16
    horizon: int = 5
    folds: int = 3
    epochs: int = 6


@dataclass(frozen=True, slots=True)
class _Prepared:
    bars: BarTable
    features: FeatureTable
    usable: npt.NDArray[np.int64]
    moves: npt.NDArray[np.float64]
    moved_bps: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Fit:
    model: FittedModel
    inputs: ChosenInputs
    dead_band: float


@dataclass(frozen=True, slots=True)
class TrainedModel:
    """A model in the registry."""

    folder: Path
    manifest: Manifest


def train_model(data: TrainingBars, options: TrainingOptions, output: Path, progress: Progress) -> TrainedModel:
    """Train, score and export into ``output/NAME/VERSION``. Raises `BadInput`."""
    version, exported, manifest = _train(data, options, progress)
    folder = output / options.name / version
    return TrainedModel(folder, write_model(folder, exported, manifest))


def train_into(data: TrainingBars, options: TrainingOptions, folder: Path, progress: Progress) -> TrainedModel:
    """Train, score and export into exactly this folder, as the starter model is."""
    _, exported, manifest = _train(data, options, progress)
    return TrainedModel(folder, write_model(folder, exported, manifest))


def _train(data: TrainingBars, options: TrainingOptions, progress: Progress) -> tuple[str, bytes, Manifest]:
    bars = data.table
    progress("features", 0, 1)
    features = compute_features(bars, options.feature_set)
    progress("features", 1, 1)
    try:
        usable = find_usable_bars(
            bars.open_times, bars.step_ns, window=options.window, horizon=options.horizon, warm_up=options.window + 60
        )
        moves = scaled_moves(bars.close, options.horizon)
        usable = usable[np.isfinite(moves[usable])]
        prepared = _Prepared(bars, features, usable, moves, forward_returns(bars.close, options.horizon) * BPS)
        folds = split_walk_forward(
            usable,
            folds=options.folds,
            purge_bars=options.horizon,
            embargo_bars=options.window,
            calibration_share=CALIBRATION_SHARE,
        )
        scored = []
        for number, fold in enumerate(folds, start=1):
            fit = _fit(prepared, fold.train, fold.calibrate, options, progress, f"fold {number} of {options.folds}")
            scored.append(_score(prepared, fit, fold.train, fold.test, options))
        train, calibrate = split_calibration(usable, options.horizon + options.window, CALIBRATION_SHARE)
        final = _fit(prepared, train, calibrate, options, progress, "final fit")
    except (TooFewBars, ValueError) as error:
        raise BadInput(str(error)) from error
    progress("export", 0, 1)
    exported = export_onnx(final.model, options.window, len(final.inputs.names))
    checked = _examples(prepared, final.inputs, final.dead_band, usable[-64:], options).windows
    check_export(exported, final.model, checked)
    progress("export", 1, 1)
    names = sorted(scored[0])
    mean = {name: _rounded(float(np.mean([one[name] for one in scored]))) for name in names}
    version = name_version(exported)
    manifest = Manifest(
        name=options.name,
        version=version,
        onnx_sha256="",
        feature_set=features.feature_set,
        schema_hash=features.schema_hash,
        timeframe=bars.timeframe,
        window=options.window,
        horizon_ns=options.horizon * bars.step_ns,
        clip=CLIP,
        inputs=tuple(
            ModelInput(name, int(index), float(center), float(scale))
            for name, index, center, scale in zip(
                final.inputs.names, final.inputs.indices, final.inputs.means, final.inputs.scales, strict=True
            )
        ),
        training={
            "data": dict(data.description),
            "first_open_time": int(bars.open_times[0]),
            "last_open_time": int(bars.open_times[-1]),
            "examples": len(train),
            "calibration_examples": len(calibrate),
            "seed": options.seed,
            "epochs": options.epochs,
            "dead_band_deviations": final.dead_band,
            "temperature": final.model.temperature,
            "move_scale_bps": final.model.move_scale_bps,
            "left_out_inputs": list(final.inputs.left_out),
            "torch": torch.__version__.partition("+")[0],
        },
        metrics={
            "walk_forward_mean": dict(mean),
            "walk_forward": [{name: _rounded(one[name]) for name in names} for one in scored],
        },
    )
    return version, exported, manifest


def _fit(
    prepared: _Prepared,
    train: npt.NDArray[np.int64],
    calibrate: npt.NDArray[np.int64],
    options: TrainingOptions,
    progress: Progress,
    what: str,
) -> _Fit:
    if not len(train) or not len(calibrate):
        raise TooFewBars("too few bars remain to train and calibrate on; give more bars")
    inputs = choose_inputs(prepared.features.names, prepared.features.values, train)
    dead_band = fit_dead_band(prepared.moves[train])
    progress(what, 0, options.epochs)
    model = fit_model(
        _examples(prepared, inputs, dead_band, train, options),
        _examples(prepared, inputs, dead_band, calibrate, options),
        FitOptions(seed=options.seed, epochs=options.epochs),
        lambda epoch, _loss: progress(what, epoch, options.epochs),
    )
    return _Fit(model, inputs, dead_band)


def _score(
    prepared: _Prepared,
    fit: _Fit,
    train: npt.NDArray[np.int64],
    test: npt.NDArray[np.int64],
    options: TrainingOptions,
) -> dict[str, float]:
    examples = _examples(prepared, fit.inputs, fit.dead_band, test, options)
    probabilities, expected_bps = fit.model.forecast(examples.windows)
    train_classes = classify(prepared.moves[train], fit.dead_band)
    return score_forecasts(probabilities, expected_bps, examples.classes, examples.moved_bps, train_classes)


def _examples(
    prepared: _Prepared,
    inputs: ChosenInputs,
    dead_band: float,
    places: npt.NDArray[np.int64],
    options: TrainingOptions,
) -> Examples:
    normalised, _ = normalise(prepared.features.values[:, inputs.indices], inputs.means, inputs.scales, CLIP)
    return Examples(
        windows=gather_windows(normalised, places, options.window),
        classes=classify(prepared.moves[places], dead_band),
        moved_bps=prepared.moved_bps[places],
    )


def _rounded(value: float) -> float:
    return round(value, 6)
