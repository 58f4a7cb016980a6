"""Multinomial logistic regression of the classes."""

from __future__ import annotations

import warnings

from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from services.training.families.family import Family, FitRequest, Task
from services.training.families.sklearn_models import SklearnModel, fit_sklearn


def _fit(request: FitRequest) -> SklearnModel:
    parameters = request.parameters
    estimator = LogisticRegression(
        C=float(parameters["inverse_penalty"]), max_iter=int(parameters["iterations"]), tol=1e-3
    )
    with warnings.catch_warnings():
        # Stopping at so many iterations regularises; the report says what that reached.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return fit_sklearn(estimator, request)


FAMILY = Family(
    name="logistic",
    summary="multinomial logistic regression",
    window=1,
    tasks=(Task.CLASSIFY,),
    fit=_fit,
    parameters={"inverse_penalty": 1e-3, "iterations": 100},
)
