"""What the families of scikit-learn share: fitting on flat windows, and the graph that skl2onnx makes."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

from services.training.families.family import Answers, FitRequest, Task
from services.training.graphs import OPSET, flatten_first


class SklearnModel:
    """A fitted estimator of scikit-learn over flat windows."""

    def __init__(self, estimator: Any, task: Task, window: int, inputs: int) -> None:
        self.estimator = estimator
        self._task = task
        self._window = window
        self._inputs = inputs

    def answer(self, windows: npt.NDArray[np.float32]) -> Answers:
        """Answer windows (n, window, inputs)."""
        flat = windows.reshape(len(windows), -1)
        if self._task is Task.REGRESS:
            return np.asarray(self.estimator.predict(flat), dtype=np.float64).reshape(-1)
        return np.asarray(self.estimator.predict_proba(flat), dtype=np.float64)

    def graph(self) -> onnx.ModelProto:
        """Return the estimator as a graph."""
        width = self._window * self._inputs
        options = {} if self._task is Task.REGRESS else {"zipmap": False}
        with warnings.catch_warnings():
            # The converter names classes of scikit-learn and numpy that their own releases deprecate.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", UserWarning)
            made = to_onnx(
                self.estimator,
                initial_types=[("flat", FloatTensorType([None, width]))],
                options=options,
                target_opset={"": OPSET, "ai.onnx.ml": 3},
            )
        return flatten_first(made, self._window, self._inputs)


def fit_sklearn(estimator: Any, request: FitRequest, *, balances: bool = True) -> SklearnModel:
    """Fit an estimator on the examples, with `balances` the classes balanced by weight where it classifies."""
    train = request.train
    flat = train.flat()
    if request.task is Task.REGRESS:
        estimator.fit(flat, clip_moves(train.moves))
    else:
        check_classes(train.classes)
        estimator.fit(flat, train.classes, sample_weight=balance(train.classes) if balances else None)
    request.on_step(1, 1, float("nan"))
    return SklearnModel(estimator, request.task, train.window, train.rows.shape[1])


def add_up_contributions(made: npt.NDArray[np.float64], shape: tuple[int, int]) -> Answers:
    """Return the magnitudes of SHAP values by example and input (`shape`), added up over classes.

    `made` has for each class, in a row or a matrix, a value an input and a last one for the base.
    """
    count, width = shape
    return np.asarray(np.abs(made.reshape(count, -1, width + 1)[:, :, :-1]).sum(axis=1))


def clip_moves(moves: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Hold returns to four deviations, so that a crash does not decide a fit."""
    return np.clip(moves, -4.0, 4.0)


def balance(classes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return weights under which every class counts alike, one on average."""
    counts = np.bincount(classes, minlength=3).astype(np.float64)
    weights: npt.NDArray[np.float64] = (len(classes) / (3.0 * np.maximum(counts, 1.0)))[classes]
    return weights


def check_classes(classes: npt.NDArray[np.int64]) -> None:
    """Refuse examples that lack a class: no model of three could be fitted. Raises ValueError."""
    missing = [
        name for name, count in zip(("down", "flat", "up"), np.bincount(classes, minlength=3), strict=True) if not count
    ]
    if missing:
        raise ValueError(
            f"no training example is labelled {', '.join(missing)}; give more bars, a longer horizon or nearer barriers"
        )
