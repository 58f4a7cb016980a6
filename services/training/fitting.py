"""Fits the network: seeded, on one CPU thread, deterministic; then calibrates it on bars it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from services.training.network import DirectionTransformer

_TEMPERATURES = np.geomspace(0.5, 4.0, 61)
_MOVE_WEIGHT = 0.2


@dataclass(frozen=True, slots=True)
class FitOptions:
    """How to fit; `seed` decides weights, dropout and the order of examples."""

    seed: int
    epochs: int = 6
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2


@dataclass(frozen=True, slots=True)
class Examples:
    """Windows (n, window, inputs), classes (n,) and what followed in bps (n,)."""

    windows: npt.NDArray[np.float32]
    classes: npt.NDArray[np.int64]
    moved_bps: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A network with what turns its answers into probabilities and bps."""

    network: DirectionTransformer
    temperature: float
    move_scale_bps: float
    train_loss: float

    def forecast(self, windows: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return probabilities (n, 3) and expected returns in bps (n,)."""
        logits, moves = _infer(self.network, windows)
        return _softmax(logits / self.temperature), moves * self.move_scale_bps


def fit_model(
    train: Examples, calibrate: Examples, options: FitOptions, on_epoch: Callable[[int, float], None]
) -> FittedModel:
    """Fit on `train`, then set temperature and return scale on `calibrate`; `on_epoch` receives epoch and loss.

    Cross-entropy plus a small weight on the Huber loss of the return in units of its training deviation; AdamW with a
    one-cycle rate. The expected return is shrunk by the least-squares slope on `calibrate`, held to [0, 1].
    """
    torch.manual_seed(options.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    shuffle = np.random.default_rng(options.seed)
    network = DirectionTransformer(train.windows.shape[2], train.windows.shape[1])
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=options.learning_rate, weight_decay=options.weight_decay, foreach=False
    )
    count = len(train.classes)
    steps = max(1, -(-count // options.batch_size))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=options.learning_rate, total_steps=steps * options.epochs
    )
    windows = torch.from_numpy(train.windows)
    classes = torch.from_numpy(train.classes)
    scale_bps = max(float(train.moved_bps.std()), 1e-9)
    moves = torch.from_numpy((train.moved_bps / scale_bps).astype(np.float32))
    direction_loss, move_loss = nn.CrossEntropyLoss(), nn.HuberLoss()
    mean_loss = 0.0
    for epoch in range(options.epochs):
        network.train()
        order = shuffle.permutation(count)
        total = 0.0
        for first in range(0, count, options.batch_size):
            chosen = torch.from_numpy(order[first : first + options.batch_size])
            logits, move = network(windows[chosen])
            loss = direction_loss(logits, classes[chosen]) + _MOVE_WEIGHT * move_loss(move, moves[chosen])
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0, foreach=False)
            optimiser.step()
            schedule.step()
            total += float(loss.detach()) * len(chosen)
        mean_loss = total / count
        on_epoch(epoch + 1, mean_loss)
    network.eval()
    logits, raw_moves = _infer(network, calibrate.windows)
    shrink = _least_squares_slope(raw_moves * scale_bps, calibrate.moved_bps)
    return FittedModel(
        network=network,
        temperature=fit_temperature(logits, calibrate.classes),
        move_scale_bps=scale_bps * min(1.0, max(0.0, shrink)),
        train_loss=mean_loss,
    )


def fit_temperature(logits: npt.NDArray[np.float64], classes: npt.NDArray[np.int64]) -> float:
    """Return the temperature of a fixed grid (0.5 to 4) with the least log loss (Guo et al. 2017)."""
    rows = np.arange(len(classes))
    losses = [
        float(-np.log(np.clip(_softmax(logits / temperature)[rows, classes], 1e-12, 1.0)).mean())
        for temperature in _TEMPERATURES
    ]
    return float(_TEMPERATURES[int(np.argmin(losses))])


def _infer(
    network: DirectionTransformer, windows: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    with torch.no_grad():
        parts = [network(part) for part in torch.from_numpy(windows).split(4096)]
    logits = torch.cat([part[0] for part in parts]).numpy().astype(np.float64)
    moves = torch.cat([part[1] for part in parts]).numpy().astype(np.float64)
    return logits, moves


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), dtype=np.float64)


def _least_squares_slope(forecast: npt.NDArray[np.float64], moved: npt.NDArray[np.float64]) -> float:
    power = float((forecast**2).sum())
    return float((forecast * moved).sum()) / power if power > 0.0 else 0.0
