"""The mean of several families' probabilities: logistic regression, random forest and LightGBM by default sizes."""

from __future__ import annotations

from services.training.families.family import Family, FitRequest, Task
from services.training.families.members import MeanModel, fit_members


def _fit(request: FitRequest) -> MeanModel:
    return MeanModel(fit_members(request))


FAMILY = Family(
    name="ensemble",
    summary="mean of logistic, forest and lightgbm",
    window=1,
    tasks=(Task.CLASSIFY,),
    fit=_fit,
)
