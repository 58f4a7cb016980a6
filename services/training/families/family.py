"""What a family of models is: a name, defaults, and a fitter. Found by name; a family's libraries load when it is."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt
import onnx

from libs.runtime.errors import DependencyUnavailable
from services.training.core.examples import Examples

Number: TypeAlias = int | float
Answers: TypeAlias = npt.NDArray[np.float64]

GRAPH_INPUT = "scaled"
GRAPH_OUTPUT = "raw"
GRAPH_OUTLOOK = "raw_outlook"


class Task(StrEnum):
    """What a family answers: probabilities of the classes (n, 3), or a return in deviations (n,)."""

    CLASSIFY = "classify"
    REGRESS = "regress"


class FamilyError(ValueError):
    """There is no such family, or it cannot do what was asked; the message says what there is."""


@dataclass(frozen=True, slots=True)
class FitRequest:
    """What to fit: `train` to learn from, `validate` to stop by. `on_step` receives steps done, steps in all, loss.

    `names` are the inputs'.
    """

    train: Examples
    validate: Examples
    task: Task
    seed: int
    parameters: Mapping[str, Number] = field(default_factory=dict)
    on_step: Callable[[int, int, float], None] = lambda _done, _total, _loss: None
    names: tuple[str, ...] = ()


class FittedFamily(Protocol):
    """A fitted model of a family. Both ways give the same answers within 1e-5."""

    def answer(self, windows: npt.NDArray[np.float32]) -> Answers:
        """Answer scaled windows (n, window, inputs) in the family's own framework."""
        ...

    def graph(self) -> onnx.ModelProto:
        """Return the same as a graph from `GRAPH_INPUT` (batch, window, inputs) to `GRAPH_OUTPUT`."""
        ...


@runtime_checkable
class Explained(Protocol):
    """A fitted model that can say what each of its inputs contributes to an answer."""

    def contributions(self, windows: npt.NDArray[np.float32]) -> Answers:
        """Return SHAP values of scaled windows (n, window x inputs), their magnitudes added up over classes."""
        ...


@runtime_checkable
class Looking(Protocol):
    """A fitted model that answers an outlook too, and says what it looked at."""

    def outlook(self, windows: npt.NDArray[np.float32]) -> Answers:
        """Answer scaled windows: quantiles, mean, deviation and skew (n, days, levels + 3), in deviations.

        As a graph it is `GRAPH_OUTLOOK`.
        """
        ...

    def looked_at(self, windows: npt.NDArray[np.float32]) -> tuple[Answers, Answers]:
        """Return the mean weights of the variables (inputs,) and of the bars (window,)."""
        ...


@dataclass(frozen=True, slots=True)
class Family:
    """A family: its default window in bars, its tasks, the default first, and its parameters with their defaults."""

    name: str
    summary: str
    window: int
    tasks: tuple[Task, ...]
    fit: Callable[[FitRequest], FittedFamily]
    parameters: Mapping[str, Number] = field(default_factory=dict)
    has_outlook: bool = False

    def complete(self, given: Mapping[str, Number]) -> dict[str, Number]:
        """Return the defaults with what was given. Raises `FamilyError` for a parameter that there is not."""
        unknown = sorted(set(given) - set(self.parameters))
        if unknown:
            there_are = ", ".join(self.parameters) or "none"
            raise FamilyError(f"family {self.name} has no parameter {unknown[0]!r}; it has {there_are}")
        return {**self.parameters, **given}


FAMILIES = (
    "linear",
    "logistic",
    "forest",
    "boosting",
    "lightgbm",
    "xgboost",
    "ensemble",
    "stacked",
    "transformer",
    "tcn",
    "nbeats",
    "patchtst",
    "informer",
    "tft",
)
"""Every family there is, each a module here of that name."""

OPTIONAL = ("xgboost",)
"""Families whose library is an extra of its own, of the same name."""


def installed_families() -> tuple[str, ...]:
    """Return the families whose libraries are installed."""
    return tuple(name for name in FAMILIES if name not in OPTIONAL or importlib.util.find_spec(name) is not None)


def load_family(name: str) -> Family:
    """Return a family. Raises `FamilyError` for an unknown name, `DependencyUnavailable` without its libraries."""
    if name not in FAMILIES:
        raise FamilyError(f"no family {name!r}; there are {', '.join(FAMILIES)}")
    try:
        module: Any = importlib.import_module(f"services.training.families.{name}")
    except ModuleNotFoundError as error:
        extra = error.name if error.name in OPTIONAL else "training"
        raise DependencyUnavailable(
            f'{error.name} is not installed; in the checkout of perpflow: pip install -e ".[{extra}]"'
        ) from None
    family: Family = module.FAMILY
    return family
