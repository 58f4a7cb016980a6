"""Several families stacked (Wolpert 1992): a logistic regression on the log-probabilities of logistic regression,
random forest and LightGBM, fitted on the validation examples, which none of them has learnt from."""

from __future__ import annotations

import numpy as np
from sklearn.linear_model import LogisticRegression

from services.training.families.family import Family, FitRequest, Task
from services.training.families.members import StackedModel, fit_members, join_logs


def _fit(request: FitRequest) -> StackedModel:
    members = fit_members(request)
    logs = join_logs(members, request.validate.windows())
    top = LogisticRegression(C=float(request.parameters["inverse_penalty"]), max_iter=200)
    top.fit(logs, request.validate.classes)
    if not np.array_equal(top.classes_, (0, 1, 2)):
        raise ValueError("the validation examples lack a class; give more bars")
    return StackedModel(members, top.coef_, top.intercept_)


FAMILY = Family(
    name="stacked",
    summary="logistic, forest and lightgbm, stacked",
    window=1,
    tasks=(Task.CLASSIFY,),
    fit=_fit,
    parameters={"inverse_penalty": 0.1},
)
