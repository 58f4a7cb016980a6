"""Calibration: what turns a family's answers into probabilities and bps, set on bars it was not fitted to, and in the
graph as in numpy.

Probabilities are sharpened or softened by a temperature (Guo et al. 2017); a forecast return becomes probabilities by a
multinomial logistic regression on it. The expected return is the probability-weighted mean of what each class was
followed by, shrunk by the least-squares slope, held to [0, 1].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.linear_model import LogisticRegression

from services.inference.core.manifest import JsonValue
from services.training.families.family import GRAPH_OUTPUT, Answers, Task
from services.training.graphs import GraphPart

Floats: TypeAlias = npt.NDArray[np.float64]
Classes: TypeAlias = npt.NDArray[np.int64]

_TEMPERATURES = np.geomspace(0.5, 8.0, 81)
_LEAST = 1e-7


class Calibration(Protocol):
    """Answers to probabilities."""

    def apply(self, answers: Answers) -> Floats:
        """Return probabilities (n, 3)."""
        ...

    def extend(self, tail: GraphPart) -> None:
        """Add the same to a graph, from `GRAPH_OUTPUT` to ``probabilities``."""
        ...

    def describe(self) -> dict[str, JsonValue]:
        """Name the numbers, for the manifest."""
        ...


@dataclass(frozen=True, slots=True)
class Temperature:
    """Probabilities raised to 1 / `temperature` and normalised."""

    temperature: float

    def apply(self, answers: Answers) -> Floats:
        """Return probabilities (n, 3)."""
        return softmax(np.log(np.clip(answers, _LEAST, 1.0)) / self.temperature)

    def extend(self, tail: GraphPart) -> None:
        """Add the same to a graph."""
        tail.constant("least", _LEAST)
        tail.constant("one", 1.0)
        tail.constant("sharpness", 1.0 / self.temperature)
        tail.node("Clip", [GRAPH_OUTPUT, "least", "one"], "held")
        tail.node("Log", ["held"], "logs")
        tail.node("Mul", ["logs", "sharpness"], "logits")
        tail.node("Softmax", ["logits"], "probabilities", axis=-1)

    def describe(self) -> dict[str, JsonValue]:
        """Name the numbers."""
        return {"temperature": self.temperature}


@dataclass(frozen=True, slots=True)
class Response:
    """Logits of the classes as straight lines over a forecast return."""

    slopes: tuple[float, ...]
    offsets: tuple[float, ...]

    def apply(self, answers: Answers) -> Floats:
        """Return probabilities (n, 3)."""
        return softmax(answers[:, np.newaxis] * np.array(self.slopes) + np.array(self.offsets))

    def extend(self, tail: GraphPart) -> None:
        """Add the same to a graph."""
        tail.constant("column", [-1, 1], np.int64)
        tail.constant("slopes", [self.slopes])
        tail.constant("offsets", self.offsets)
        tail.node("Reshape", [GRAPH_OUTPUT, "column"], "forecast")
        tail.node("MatMul", ["forecast", "slopes"], "sloped")
        tail.node("Add", ["sloped", "offsets"], "logits")
        tail.node("Softmax", ["logits"], "probabilities", axis=-1)

    def describe(self) -> dict[str, JsonValue]:
        """Name the numbers."""
        return {"slopes": [*self.slopes], "offsets": [*self.offsets]}


@dataclass(frozen=True, slots=True)
class ExpectedReturn:
    """The bps that each class counts for."""

    class_bps: tuple[float, float, float]

    def apply(self, probabilities: Floats) -> Floats:
        """Return expected returns in bps (n,)."""
        return np.asarray(probabilities @ np.array(self.class_bps))

    def extend(self, tail: GraphPart) -> None:
        """Add the same to a graph, from ``probabilities`` to ``expected_return_bps``."""
        tail.constant("class_bps", [[one] for one in self.class_bps])
        tail.constant("row", [-1], np.int64)
        tail.node("MatMul", ["probabilities", "class_bps"], "expected")
        tail.node("Reshape", ["expected", "row"], "expected_return_bps")


def fit_calibration(answers: Answers, classes: Classes, task: Task) -> Calibration:
    """Fit the calibration of a task's answers."""
    if task is Task.CLASSIFY:
        return Temperature(fit_temperature(np.log(np.clip(answers, _LEAST, 1.0)), classes))
    present = np.unique(classes)
    slopes, offsets = np.zeros(3), np.full(3, np.log(_LEAST))
    if len(present) == 1:
        offsets[present[0]] = 0.0
    else:
        scale = float(answers.std()) or 1.0
        fitted = LogisticRegression(C=10.0).fit(answers[:, np.newaxis] / scale, classes)
        if len(present) == 2:
            slopes[present[1]], offsets[present] = fitted.coef_[0, 0] / scale, (0.0, fitted.intercept_[0])
        else:
            slopes, offsets = fitted.coef_[:, 0] / scale, fitted.intercept_
    return Response(tuple(float(one) for one in slopes), tuple(float(one) for one in offsets))


def fit_expected_return(probabilities: Floats, classes: Classes, moved_bps: Floats) -> ExpectedReturn:
    """Fit what each class counts for: its mean return less the mean of all, shrunk to what the bars bear out."""
    overall = float(moved_bps.mean())
    means = np.array(
        [float(moved_bps[classes == one].mean()) - overall if (classes == one).any() else 0.0 for one in range(3)]
    )
    forecast = probabilities @ means
    centred = forecast - forecast.mean()
    power = float((centred**2).sum())
    slope = float((centred * (moved_bps - overall)).sum()) / power if power > 1e-12 else 0.0
    shrunk = means * min(1.0, max(0.0, slope))
    return ExpectedReturn((float(shrunk[0]), float(shrunk[1]), float(shrunk[2])))


def fit_temperature(logits: Floats, classes: Classes) -> float:
    """Return the temperature of a fixed grid (0.5 to 8) with the least log loss (Guo et al. 2017)."""
    rows = np.arange(len(classes))
    losses = [
        float(-np.log(np.clip(softmax(logits / temperature)[rows, classes], 1e-12, 1.0)).mean())
        for temperature in _TEMPERATURES
    ]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def softmax(logits: Floats) -> Floats:
    """Return probabilities (n, 3) of logits."""
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float64)
