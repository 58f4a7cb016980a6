"""Gradient boosting of scikit-learn, by histograms, of the classes or of the return."""

from __future__ import annotations

from typing import Any

import numpy as np
from skl2onnx import update_registered_converter
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._registration import get_converter, get_shape_calculator
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

from services.training.families.family import Family, FitRequest, Task
from services.training.families.sklearn_models import SklearnModel, fit_sklearn


def _fit(request: FitRequest) -> SklearnModel:
    parameters = request.parameters
    made = HistGradientBoostingRegressor if request.task is Task.REGRESS else HistGradientBoostingClassifier
    estimator = made(
        max_iter=int(parameters["trees"]),
        learning_rate=float(parameters["learning_rate"]),
        max_leaf_nodes=int(parameters["leaves"]),
        min_samples_leaf=int(parameters["leaf_examples"]),
        l2_regularization=float(parameters["penalty"]),
        max_features=float(parameters["feature_share"]),
        early_stopping=False,
        random_state=request.seed % 2**32,
    )
    # Weights would have its binning take a weighted percentile per bin and input: a minute where it takes none.
    return fit_sklearn(estimator, request, balances=False)


class _PlainNumbers:
    """A container of the converter that turns numpy's truth values, which onnx refuses since 1.19, into integers."""

    def __init__(self, container: Any) -> None:
        self._container = container

    def __getattr__(self, name: str) -> Any:
        return getattr(self._container, name)

    def add_node(self, *arguments: Any, **attributes: Any) -> Any:
        """Add a node, its lists of truth values as integers."""
        plain = {
            name: [int(one) if isinstance(one, bool | np.bool_) else one for one in value]
            if isinstance(value, list)
            else value
            for name, value in attributes.items()
        }
        return self._container.add_node(*arguments, **plain)


def _register_converters() -> None:
    for kind in (HistGradientBoostingClassifier, HistGradientBoostingRegressor):
        alias = sklearn_operator_name_map[kind]
        options: dict[str, list[Any]] = {}
        if kind is HistGradientBoostingClassifier:
            options = {"zipmap": [True, False, "columns"], "raw_scores": [True, False], "nocl": [True, False]}
        update_registered_converter(
            kind,
            f"{alias}OfPlainNumbers",
            get_shape_calculator(alias),
            _convert_by(get_converter(alias)),
            options=options,
        )


def _convert_by(convert: Any) -> Any:
    def convert_plainly(scope: Any, operator: Any, container: Any) -> None:
        convert(scope, operator, _PlainNumbers(container))

    return convert_plainly


_register_converters()

FAMILY = Family(
    name="boosting",
    summary="gradient boosting of scikit-learn",
    window=1,
    tasks=(Task.CLASSIFY, Task.REGRESS),
    fit=_fit,
    parameters={
        "trees": 80,
        "learning_rate": 0.05,
        "leaves": 15,
        "leaf_examples": 300,
        "penalty": 10.0,
        "feature_share": 0.3,
    },
)
