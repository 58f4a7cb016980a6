"""What the ensembles share: fitting the members, and putting their graphs into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx

from services.training.families.family import GRAPH_OUTPUT, Answers, FitRequest, FittedFamily, load_family
from services.training.graphs import GraphPart, join_graphs

MEMBERS = ("logistic", "forest", "lightgbm")
_LEAST = 1e-7


def fit_members(request: FitRequest) -> list[FittedFamily]:
    """Fit every member by its own defaults."""
    members = []
    for number, name in enumerate(MEMBERS):
        family = load_family(name)
        members.append(family.fit(replace(request, parameters=family.complete({}), on_step=lambda *_: None)))
        request.on_step(number + 1, len(MEMBERS), float("nan"))
    return members


def join_logs(members: Sequence[FittedFamily], windows: npt.NDArray[np.float32]) -> Answers:
    """Return the members' log-probabilities side by side, (n, 3 x members)."""
    return np.log(np.clip(np.column_stack([one.answer(windows) for one in members]), _LEAST, 1.0))


class MeanModel:
    """The mean of the members' probabilities."""

    def __init__(self, members: Sequence[FittedFamily]) -> None:
        self._members = members

    def answer(self, windows: npt.NDArray[np.float32]) -> Answers:
        """Answer windows (n, window, inputs)."""
        return np.asarray(np.mean([one.answer(windows) for one in self._members], axis=0))

    def graph(self) -> onnx.ModelProto:
        """Return the members and their mean as one graph."""
        names = [f"answer_{number}" for number in range(len(self._members))]
        part = GraphPart()
        part.node("Mean", names, GRAPH_OUTPUT)
        return join_graphs([one.graph() for one in self._members], names, part)


class StackedModel:
    """A logistic regression on the members' log-probabilities."""

    def __init__(self, members: Sequence[FittedFamily], weights: Answers, offsets: Answers) -> None:
        self._members = members
        self._weights = weights
        self._offsets = offsets

    def answer(self, windows: npt.NDArray[np.float32]) -> Answers:
        """Answer windows (n, window, inputs)."""
        logits = join_logs(self._members, windows) @ self._weights.T + self._offsets
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(raised / raised.sum(axis=1, keepdims=True))

    def graph(self) -> onnx.ModelProto:
        """Return the members and the regression on them as one graph."""
        names = [f"answer_{number}" for number in range(len(self._members))]
        part = GraphPart()
        part.constant("smallest", _LEAST)
        part.constant("largest", 1.0)
        part.constant("weights", self._weights.T)
        part.constant("offsets", self._offsets)
        part.node("Concat", names, "joined", axis=1)
        part.node("Clip", ["joined", "smallest", "largest"], "joined_held")
        part.node("Log", ["joined_held"], "joined_logs")
        part.node("MatMul", ["joined_logs", "weights"], "weighed")
        part.node("Add", ["weighed", "offsets"], "top_logits")
        part.node("Softmax", ["top_logits"], GRAPH_OUTPUT, axis=-1)
        return join_graphs([one.graph() for one in self._members], names, part)
