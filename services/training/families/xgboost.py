"""XGBoost (Chen and Guestrin 2016), of the classes or of the return, stopped early on the validation examples."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import xgboost
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from services.training.families.family import Answers, Family, FitRequest, Task
from services.training.families.sklearn_models import (
    SklearnModel,
    add_up_contributions,
    balance,
    check_classes,
    clip_moves,
)
from services.training.graphs import flatten_first


class XgboostModel(SklearnModel):
    """A fitted estimator over flat windows; it keeps the rounds up to the best."""

    def contributions(self, windows: npt.NDArray[np.float32]) -> Answers:
        """Return exact SHAP values of trees (Lundberg et al. 2020), their magnitudes added up over classes."""
        flat = windows.reshape(len(windows), -1)
        made = self.estimator.get_booster().predict(xgboost.DMatrix(flat), pred_contribs=True)
        return add_up_contributions(np.asarray(made, dtype=np.float64), flat.shape)

    def graph(self) -> onnx.ModelProto:
        """Return the estimator as a graph."""
        types = [("flat", FloatTensorType([None, self._window * self._inputs]))]
        made = convert_xgboost(self.estimator, initial_types=types, target_opset=15)
        return flatten_first(made, self._window, self._inputs)


def _fit(request: FitRequest) -> XgboostModel:
    parameters, train, validate = request.parameters, request.train, request.validate
    rounds = int(parameters["trees"])

    class _Report(xgboost.callback.TrainingCallback):  # type: ignore[misc]
        def after_iteration(self, _model: object, epoch: int, evals_log: dict[str, dict[str, list[float]]]) -> bool:
            losses = next(iter(evals_log["validation_0"].values()))
            request.on_step(epoch + 1, rounds, float(losses[-1]))
            return False

    made = xgboost.XGBRegressor if request.task is Task.REGRESS else xgboost.XGBClassifier
    estimator = made(
        n_estimators=rounds,
        learning_rate=float(parameters["learning_rate"]),
        max_depth=int(parameters["depth"]),
        min_child_weight=float(parameters["leaf_weight"]),
        reg_lambda=float(parameters["penalty"]),
        colsample_bytree=float(parameters["feature_share"]),
        subsample=float(parameters["example_share"]),
        max_bin=int(parameters["bins"]),
        tree_method="hist",
        random_state=request.seed % 2**31,
        n_jobs=1,
        callbacks=[_Report(), xgboost.callback.EarlyStopping(rounds=int(parameters["patience"]), save_best=True)],
    )
    if request.task is Task.REGRESS:
        held_back = (validate.flat(), clip_moves(validate.moves))
        estimator.fit(train.flat(), clip_moves(train.moves), eval_set=[held_back], verbose=False)
    else:
        check_classes(train.classes)
        check_classes(validate.classes)
        estimator.fit(
            train.flat(),
            train.classes,
            sample_weight=balance(train.classes),
            eval_set=[(validate.flat(), validate.classes)],
            sample_weight_eval_set=[balance(validate.classes)],
            verbose=False,
        )
    # They hold on to this request; a kept model needs none.
    estimator.set_params(callbacks=None)
    request.on_step(rounds, rounds, float("nan"))
    return XgboostModel(estimator, request.task, train.window, train.rows.shape[1])


FAMILY = Family(
    name="xgboost",
    summary="gradient boosting of XGBoost",
    window=1,
    tasks=(Task.CLASSIFY, Task.REGRESS),
    fit=_fit,
    parameters={
        "trees": 200,
        "learning_rate": 0.05,
        "depth": 4,
        "leaf_weight": 100.0,
        "penalty": 10.0,
        "feature_share": 0.3,
        "example_share": 0.5,
        "bins": 64,
        "patience": 30,
    },
)
