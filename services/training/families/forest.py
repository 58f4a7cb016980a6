"""Random forest (Breiman 2001), of the classes or of the return."""

from __future__ import annotations

from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor

from services.training.families.family import Family, FitRequest, Task
from services.training.families.sklearn_models import SklearnModel, fit_sklearn


def _fit(request: FitRequest) -> SklearnModel:
    parameters = request.parameters
    made = RandomForestRegressor if request.task is Task.REGRESS else RandomForestClassifier
    estimator = made(
        n_estimators=int(parameters["trees"]),
        max_depth=int(parameters["depth"]),
        min_samples_leaf=int(parameters["leaf_examples"]),
        max_features="sqrt",
        max_samples=min(1.0, float(parameters["sampled_share"])),
        random_state=request.seed % 2**32,
        n_jobs=1,
    )
    return fit_sklearn(estimator, request)


FAMILY = Family(
    name="forest",
    summary="random forest",
    window=1,
    tasks=(Task.CLASSIFY, Task.REGRESS),
    fit=_fit,
    parameters={"trees": 100, "depth": 8, "leaf_examples": 100, "sampled_share": 0.3},
)
