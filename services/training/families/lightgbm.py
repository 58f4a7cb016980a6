"""LightGBM (Ke et al. 2017), of the classes or of the return, stopped early on the validation examples.

With `trials` its other parameters are tuned first, by Optuna, within the training examples."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import replace

import lightgbm
import numpy as np
import numpy.typing as npt
import onnx
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

from libs.runtime.errors import DependencyUnavailable
from services.training.core.examples import Examples
from services.training.families.family import Answers, Family, FitRequest, Number, Task
from services.training.families.sklearn_models import add_up_contributions, balance, check_classes, clip_moves
from services.training.graphs import flatten_first

_THRESHOLDS = re.compile(r"(?m)^threshold=(.*)$")


class LightgbmModel:
    """A fitted booster over flat windows."""

    def __init__(self, booster: lightgbm.Booster, window: int, inputs: int) -> None:
        self.booster = booster
        self._window = window
        self._inputs = inputs

    def answer(self, windows: npt.NDArray[np.float32]) -> Answers:
        """Answer windows (n, window, inputs)."""
        flat = windows.reshape(len(windows), -1)
        return np.asarray(self.booster.predict(flat, num_threads=1), dtype=np.float64)

    def contributions(self, windows: npt.NDArray[np.float32]) -> Answers:
        """Return exact SHAP values of trees (Lundberg et al. 2020), their magnitudes added up over classes."""
        flat = windows.reshape(len(windows), -1)
        made = self.booster.predict(flat, pred_contrib=True, num_threads=1)
        return add_up_contributions(np.asarray(made, dtype=np.float64), flat.shape)

    def graph(self) -> onnx.ModelProto:
        """Return the booster as a graph."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = convert_lightgbm(
                self.booster,
                initial_types=[("flat", FloatTensorType([None, self._window * self._inputs]))],
                zipmap=False,
                target_opset=15,
            )
        return flatten_first(made, self._window, self._inputs)


def _fit(request: FitRequest) -> LightgbmModel:
    parameters = {**request.parameters, **tune(request, int(request.parameters["trials"]))}
    train, validate = (_dataset(one, request.task) for one in (request.train, request.validate))
    booster = _boost(train, validate, parameters, request)
    best = booster.model_to_string(num_iteration=max(1, booster.best_iteration))
    rounds = int(parameters["trees"])
    request.on_step(rounds, rounds, float("nan"))
    return LightgbmModel(round_thresholds(best), request.train.window, request.train.rows.shape[1])


def tune(request: FitRequest, trials: int) -> dict[str, Number]:
    """Return the parameters that serve best within the training examples alone.

    Fitted to the first four fifths of them, scored on the last, a gap of a fiftieth between. The examples that stop and
    calibrate the model are never looked at.

    Tree-structured Parzen estimator (Bergstra et al. 2011), seeded. Nothing is tuned for no trials.
    """
    if trials < 1:
        return {}
    try:
        import optuna
    except ModuleNotFoundError:
        raise DependencyUnavailable(
            'optuna is not installed; in the checkout of perpflow: pip install -e ".[training]"'
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    count = len(request.train)
    cut, gap = count * 4 // 5, max(1, count // 50)
    first, last = _part(request.train, 0, cut - gap), _part(request.train, cut, count)

    def loss_of(trial: optuna.Trial) -> float:
        chosen: dict[str, Number] = {
            "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
            "leaves": trial.suggest_int("leaves", 4, 63, log=True),
            "leaf_examples": trial.suggest_int("leaf_examples", 50, 2_000, log=True),
            "penalty": trial.suggest_float("penalty", 0.1, 100.0, log=True),
            "feature_share": trial.suggest_float("feature_share", 0.1, 0.8),
        }
        train, validate = (_dataset(one, request.task) for one in (first, last))
        booster = _boost(train, validate, {**request.parameters, **chosen}, replace(request, on_step=_say_nothing))
        return float(next(iter(booster.best_score["valid_0"].values())))

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=request.seed))
    for number in range(trials):
        study.optimize(loss_of, n_trials=1)
        request.on_step(number, trials, float(study.best_value))
    return dict(study.best_params)


def _say_nothing(_done: int, _total: int, _loss: float) -> None:
    return None


def _part(examples: Examples, first: int, last: int) -> Examples:
    part = slice(first, last)
    return replace(examples, places=examples.places[part], classes=examples.classes[part], moves=examples.moves[part])


def _boost(
    train: lightgbm.Dataset, validate: lightgbm.Dataset, parameters: Mapping[str, Number], request: FitRequest
) -> lightgbm.Booster:
    options = {
        "objective": "regression" if request.task is Task.REGRESS else "multiclass",
        "num_class": 1 if request.task is Task.REGRESS else 3,
        "learning_rate": float(parameters["learning_rate"]),
        "num_leaves": int(parameters["leaves"]),
        "min_data_in_leaf": int(parameters["leaf_examples"]),
        "lambda_l2": float(parameters["penalty"]),
        "feature_fraction": float(parameters["feature_share"]),
        "bagging_fraction": float(parameters["example_share"]),
        "bagging_freq": 1,
        "max_bin": int(parameters["bins"]),
        "seed": request.seed % 2**31,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 1,
        "verbose": -1,
    }
    rounds = int(parameters["trees"])

    def report(environment: lightgbm.callback.CallbackEnv) -> None:
        loss = environment.evaluation_result_list[0][2] if environment.evaluation_result_list else float("nan")
        request.on_step(environment.iteration + 1, rounds, float(loss))

    return lightgbm.train(
        options,
        train,
        rounds,
        valid_sets=[validate],
        callbacks=[lightgbm.early_stopping(int(parameters["patience"]), verbose=False), report],
    )


def round_thresholds(model: str) -> lightgbm.Booster:
    """Return a booster whose thresholds are single-precision numbers, rounded down.

    A single-precision value is at most a threshold exactly where it is at most the threshold so rounded, so that the
    graph, which has no others, decides as the booster does.
    """

    def rounded(line: re.Match[str]) -> str:
        exact = np.array(line[1].split(), dtype=np.float64)
        single = exact.astype(np.float32)
        below = np.where(single > exact, np.nextafter(single, np.float32(-np.inf)), single)
        return "threshold=" + " ".join(repr(float(one)) for one in below)

    # The sizes of the trees' texts would be wrong; without them the reader measures.
    text = _THRESHOLDS.sub(rounded, model)
    return lightgbm.Booster(model_str=re.sub(r"(?m)^tree_sizes=.*\n", "", text))


def _dataset(examples: Examples, task: Task) -> lightgbm.Dataset:
    if task is Task.REGRESS:
        return lightgbm.Dataset(examples.flat(), clip_moves(examples.moves))
    check_classes(examples.classes)
    return lightgbm.Dataset(examples.flat(), examples.classes, weight=balance(examples.classes))


FAMILY = Family(
    name="lightgbm",
    summary="gradient boosting of LightGBM",
    window=1,
    tasks=(Task.CLASSIFY, Task.REGRESS),
    fit=_fit,
    parameters={
        "trees": 300,
        "learning_rate": 0.03,
        "leaves": 15,
        "leaf_examples": 300,
        "penalty": 10.0,
        "feature_share": 0.3,
        "example_share": 0.5,
        "bins": 63,
        "patience": 40,
        "trials": 0,
    },
)
