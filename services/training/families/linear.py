"""Linear regression of the return, ridge-penalised."""

from __future__ import annotations

from sklearn.linear_model import Ridge

from services.training.families.family import Family, FitRequest, Task
from services.training.families.sklearn_models import SklearnModel, fit_sklearn


def _fit(request: FitRequest) -> SklearnModel:
    return fit_sklearn(Ridge(alpha=float(request.parameters["penalty"]), solver="cholesky"), request)


FAMILY = Family(
    name="linear",
    summary="linear regression of the return, ridge penalty",
    window=1,
    tasks=(Task.REGRESS,),
    fit=_fit,
    parameters={"penalty": 1000.0},
)
