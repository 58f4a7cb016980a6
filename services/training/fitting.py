"""Fits a model of any family: scales the inputs, fits the family, calibrates it, and makes one graph of all three."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from services.training.calibration import Calibration, ExpectedReturn, fit_calibration, fit_expected_return
from services.training.core.distribution import ReturnDistribution, fit_distribution
from services.training.core.examples import ChosenInputs, Examples, choose_inputs, gather_windows
from services.training.core.labels import Labels, classify, fit_dead_band
from services.training.core.outlook import LEVELS, SCALE_INPUT, day_scales_bps
from services.training.families import Family, FitRequest, FittedFamily, Looking, Task
from services.training.families.family import Number
from services.training.graphs import GraphPart, graph_bytes, serve

Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Places: TypeAlias = npt.NDArray[np.int64]
OnStep: TypeAlias = Callable[[int, int, float], None]

_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """What to fit: a family with its parameters, the task, the window and the seed."""

    family: Family
    task: Task
    window: int
    seed: int
    parameters: Mapping[str, Number]


@dataclass(frozen=True, slots=True)
class Sample:
    """What can be learnt from: feature values (bars, features) by name, their labels, and the inputs wanted.

    `paths` (bars, days) are the returns up to each day's end, where an outlook is asked for.
    """

    names: tuple[str, ...]
    values: Floats
    labels: Labels
    wanted: tuple[str, ...]
    paths: Floats | None = None
    step_ns: int = 0

    def classes(self, places: Places, dead_band: float) -> npt.NDArray[np.int64]:
        """Return the classes of bars."""
        if self.labels.classes is not None:
            return self.labels.classes[places]
        return classify(self.labels.moves[places], dead_band)


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A model ready to forecast from features as they are, and to be exported."""

    inputs: ChosenInputs
    window: int
    dead_band: float
    fitted: FittedFamily
    calibration: Calibration
    expected: ExpectedReturn
    returns: ReturnDistribution
    day_scales_bps: Floats | None = None

    def forecast(self, windows: Singles) -> tuple[Floats, Floats]:
        """Return probabilities (n, 3) and expected returns in bps (n,) of windows (n, window, inputs), not scaled."""
        probabilities = self.calibration.apply(self.fitted.answer(self.inputs.scale(windows)))
        return probabilities, self.expected.apply(probabilities)

    def forecast_bars(self, sample: Sample, places: Places) -> tuple[Floats, Floats]:
        """Forecast from the windows that end at `places`."""
        rows = self.raw_rows(sample)
        parts = [
            self.forecast(gather_windows(rows, places[first : first + _AT_ONCE], self.window))
            for first in range(0, len(places), _AT_ONCE)
        ]
        return np.concatenate([one for one, _ in parts]), np.concatenate([one for _, one in parts])

    def raw_rows(self, sample: Sample) -> Singles:
        """Return the values of this model's inputs, (bars, inputs), NaN where unknown."""
        return as_singles(sample.values[:, self.inputs.indices])

    def export(self) -> bytes:
        """Return the model as ONNX bytes."""
        tail = GraphPart()
        self.calibration.extend(tail)
        self.expected.extend(tail)
        return graph_bytes(serve(self.fitted.graph(), self.inputs, self.window, tail, self.day_scales_bps))

    def outlook(self, windows: Singles) -> Floats | None:
        """Return mean and deviation, in bps, and skew (n, days, 3) of windows that are not scaled, or None."""
        if self.day_scales_bps is None or not isinstance(self.fitted, Looking):
            return None
        moments = self.fitted.outlook(self.inputs.scale(windows))[:, :, len(LEVELS) :]
        volatility = windows[:, -1, self.inputs.names.index(SCALE_INPUT)].astype(np.float64)
        moments[:, :, :2] *= volatility[:, np.newaxis, np.newaxis] * self.day_scales_bps[:, np.newaxis]
        return moments


def fit_model(
    sample: Sample, train: Places, calibrate: Places, choice: ModelChoice, on_step: OnStep = lambda _d, _t, _l: None
) -> FittedModel:
    """Fit on `train`; stop, calibrate and scale the expected return on `calibrate`, which is later and apart."""
    inputs = choose_inputs(sample.names, sample.values, train, sample.wanted)
    dead_band = 0.0 if sample.labels.classes is not None else fit_dead_band(sample.labels.moves[train])
    rows = inputs.scale(as_singles(sample.values[:, inputs.indices]))

    def examples(places: Places) -> Examples:
        paths = None if sample.paths is None or not choice.family.has_outlook else sample.paths[places]
        moves = sample.labels.moves[places]
        return Examples(rows, places, choice.window, sample.classes(places, dead_band), moves, paths)

    held_back = examples(calibrate)
    fitted = choice.family.fit(
        FitRequest(
            examples(train),
            held_back,
            choice.task,
            choice.seed,
            choice.family.complete(choice.parameters),
            on_step,
            inputs.names,
        )
    )
    answers = np.concatenate(
        [fitted.answer(held_back.windows(first, first + _AT_ONCE)) for first in range(0, len(held_back), _AT_ONCE)]
    )
    calibration = fit_calibration(answers, held_back.classes, choice.task)
    probabilities = calibration.apply(answers)
    expected = fit_expected_return(probabilities, held_back.classes, sample.labels.moved_bps[calibrate])
    moves = sample.labels.moves
    returns = fit_distribution(moves[train], sample.classes(train, dead_band), moves[calibrate], probabilities)
    scales: Floats | None = None
    if isinstance(fitted, Looking) and sample.paths is not None:
        if SCALE_INPUT not in inputs.names:
            raise ValueError(f"an outlook needs the input {SCALE_INPUT}; choose a feature set that has it")
        scales = day_scales_bps(sample.paths.shape[1], sample.step_ns)
    return FittedModel(inputs, choice.window, dead_band, fitted, calibration, expected, returns, scales)


def as_singles(values: Floats) -> Singles:
    """Return values in single precision, NaN where they are not finite in it."""
    with np.errstate(over="ignore"):
        singles = values.astype(np.float32)
    singles[~np.isfinite(singles)] = np.nan
    return singles
