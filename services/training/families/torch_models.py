"""What the neural families share: a seeded fit on one CPU thread, early stopping, and a module's export to ONNX."""

# torch is not followed by the type checker, so its Module is Any there.
# mypy: allow-subclassing-any

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from functools import partial

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from services.training.core.examples import Examples
from services.training.core.outlook import LEVELS
from services.training.families.family import GRAPH_INPUT, GRAPH_OUTLOOK, GRAPH_OUTPUT, Answers, FitRequest
from services.training.families.sklearn_models import balance, check_classes

MakeNetwork = Callable[[int, int, FitRequest], nn.Module]
"""Makes an untrained module: window, inputs and request to logits of the classes (batch, 3), with an outlook or not."""

_AT_ONCE = 2048


class _Probabilities(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, bars: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        answer = self.network(bars)
        if isinstance(answer, tuple):
            return torch.softmax(answer[0], dim=-1), answer[1]
        return torch.softmax(answer, dim=-1)


class TorchModel:
    """A trained module that answers probabilities."""

    _outputs: tuple[str, ...] = (GRAPH_OUTPUT,)

    def __init__(self, network: nn.Module, window: int, inputs: int) -> None:
        self._served = _Probabilities(network).eval()
        self._window = window
        self._inputs = inputs

    def answer(self, windows: npt.NDArray[np.float32]) -> Answers:
        """Answer windows (n, window, inputs)."""
        return self._answer(windows, 0)

    def _answer(self, windows: npt.NDArray[np.float32], place: int) -> Answers:
        with torch.no_grad():
            parts = [self._served(part) for part in torch.from_numpy(windows).split(_AT_ONCE)]
        chosen = [part[place] if isinstance(part, tuple) else part for part in parts]
        return np.asarray(torch.cat(chosen).numpy().astype(np.float64))

    def graph(self) -> onnx.ModelProto:
        """Return the module as a graph with an open batch."""
        exporter = logging.getLogger("torch.onnx")
        level = exporter.level
        exporter.setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                # torch 2.13's exporter uses a pytree check that its own release deprecates.
                warnings.simplefilter("ignore", FutureWarning)
                warnings.simplefilter("ignore", DeprecationWarning)
                warnings.simplefilter("ignore", UserWarning)
                program = torch.onnx.export(
                    self._served,
                    (torch.zeros(2, self._window, self._inputs),),
                    dynamo=True,
                    opset_version=20,
                    input_names=[GRAPH_INPUT],
                    output_names=self._outputs,
                    dynamic_shapes=({0: torch.export.Dim("batch")},),
                    external_data=False,
                    verbose=False,
                )
        finally:
            exporter.setLevel(level)
        proto: onnx.ModelProto = program.model_proto
        return proto


class LookingModel(TorchModel):
    """A trained module that answers an outlook too."""

    _outputs = (GRAPH_OUTPUT, GRAPH_OUTLOOK)

    def outlook(self, windows: npt.NDArray[np.float32]) -> Answers:
        """Answer quantiles and moments of each day ahead."""
        return self._answer(windows, 1)

    def looked_at(self, windows: npt.NDArray[np.float32]) -> tuple[Answers, Answers]:
        """Return the mean weights of the variables and of the bars."""
        with torch.no_grad():
            _, variables, bars = self._served.network.explain(torch.from_numpy(windows))
        return (
            np.asarray(variables.mean(dim=(0, 1)).numpy().astype(np.float64)),
            np.asarray(bars.mean(dim=0).numpy().astype(np.float64)),
        )


def fit_network(make: MakeNetwork, request: FitRequest) -> TorchModel:
    """Fit a network: class-weighted cross-entropy, AdamW with a one-cycle rate, the epoch best on validation kept.

    On a GPU where there is one, then in mixed precision; what is served runs in single precision on a CPU.
    """
    parameters = request.parameters
    train, validate = request.train, request.validate
    check_classes(train.classes)
    torch.manual_seed(request.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    shuffle = np.random.default_rng(request.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    mixed = partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=device.type == "cuda")
    network = make(train.window, train.rows.shape[1], request).to(device)
    rate = float(parameters["learning_rate"])
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=rate, weight_decay=float(parameters["weight_decay"]), foreach=False
    )
    epochs, size = int(parameters["epochs"]), int(parameters["batch"])
    per_epoch = min(len(train), int(parameters["examples_per_epoch"]))
    steps = max(1, -(-per_epoch // size))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=rate, total_steps=steps * epochs)
    weights = np.array([balance(train.classes)[train.classes == one][0] for one in range(3)])
    loss_of = nn.CrossEntropyLoss(weight=torch.from_numpy(weights.astype(np.float32))).to(device)
    best, kept = float("inf"), copy.deepcopy(network.state_dict())
    for epoch in range(epochs):
        network.train()
        order = shuffle.permutation(len(train))[:per_epoch]
        for first in range(0, per_epoch, size):
            chosen = order[first : first + size]
            paths = None if train.paths is None else train.paths[chosen]
            with mixed():
                loss = _loss_of(network(_windows(train, chosen).to(device)), train.classes[chosen], paths, loss_of)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=False)
            optimiser.step()
            schedule.step()
        reached = _loss(network, validate, loss_of, device)
        request.on_step(epoch + 1, epochs, reached)
        if reached < best:
            best, kept = reached, copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)
    network.to("cpu")
    made = TorchModel if train.paths is None else LookingModel
    return made(network, train.window, train.rows.shape[1])


def _windows(examples: Examples, chosen: npt.NDArray[np.int64]) -> Tensor:
    offsets = np.arange(-examples.window + 1, 1)
    return torch.from_numpy(examples.rows[examples.places[chosen][:, np.newaxis] + offsets])


def _loss(network: nn.Module, examples: Examples, loss_of: nn.Module, device: torch.device) -> float:
    network.eval()
    total = 0.0
    with torch.no_grad():
        for first in range(0, len(examples), _AT_ONCE):
            part = torch.from_numpy(examples.windows(first, first + _AT_ONCE)).to(device)
            classes = examples.classes[first : first + _AT_ONCE]
            paths = None if examples.paths is None else examples.paths[first : first + _AT_ONCE]
            total += float(_loss_of(network(part), classes, paths, loss_of)) * len(classes)
    return total / max(1, len(examples))


def _loss_of(
    answer: Tensor | tuple[Tensor, Tensor],
    classes: npt.NDArray[np.int64],
    paths: npt.NDArray[np.float64] | None,
    loss_of: nn.Module,
) -> Tensor:
    """Return the classes' loss, and with an outlook the quantile loss of the days that are known on top of it."""
    labels = torch.from_numpy(classes).to((answer[0] if isinstance(answer, tuple) else answer).device)
    if not isinstance(answer, tuple) or paths is None:
        return loss_of(answer, labels)
    logits, outlook = answer
    levels = torch.tensor(LEVELS, device=outlook.device)
    happened = torch.from_numpy(paths.astype(np.float32)).to(outlook.device).unsqueeze(-1)
    is_known = torch.isfinite(happened)
    gaps = torch.where(is_known, happened, 0.0) - outlook[..., : len(LEVELS)]
    losses = torch.maximum(levels * gaps, (levels - 1.0) * gaps) * is_known
    return loss_of(logits, labels) + losses.sum() / torch.clamp(is_known.sum() * len(LEVELS), min=1)


TRAINING_PARAMETERS = {
    "epochs": 4,
    "batch": 256,
    "learning_rate": 1e-3,
    "weight_decay": 1e-2,
    "examples_per_epoch": 20_000,
}
"""Defaults that every neural family shares."""
