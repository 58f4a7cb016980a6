"""Temporal convolutional network (Bai, Kolter and Koltun 2018): dilated causal convolutions with residuals."""

# torch is not followed by the type checker, so its Module is Any there.
# mypy: allow-subclassing-any

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from services.training.families.family import Family, FitRequest, Task
from services.training.families.torch_models import TRAINING_PARAMETERS, fit_network

_KERNEL = 3


class _Block(nn.Module):
    def __init__(self, width: int, dilation: int, dropout: float) -> None:
        super().__init__()
        self.pad = nn.ConstantPad1d(((_KERNEL - 1) * dilation, 0), 0.0)
        self.first = nn.Conv1d(width, width, _KERNEL, dilation=dilation)
        self.second = nn.Conv1d(width, width, _KERNEL, dilation=dilation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, bars: Tensor) -> Tensor:
        hidden = self.dropout(torch.relu(self.first(self.pad(bars))))
        hidden = self.dropout(torch.relu(self.second(self.pad(hidden))))
        return torch.relu(bars + hidden)


class TemporalConvolutions(nn.Module):
    """Reads (batch, window, inputs), answers logits of down, flat, up (batch, 3) at the last bar."""

    def __init__(self, inputs: int, width: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList([_Block(width, 2**layer, dropout) for layer in range(layers)])
        self.classify = nn.Linear(width, 3)

    def forward(self, bars: Tensor) -> Tensor:
        state = self.embed(bars).transpose(1, 2)
        for block in self.blocks:
            state = block(state)
        return self.classify(state[:, :, -1])


def _make(_window: int, inputs: int, request: FitRequest) -> TemporalConvolutions:
    parameters = request.parameters
    return TemporalConvolutions(
        inputs, int(parameters["width"]), int(parameters["layers"]), float(parameters["dropout"])
    )


FAMILY = Family(
    name="tcn",
    summary="temporal convolutional network over 60 bars",
    window=60,
    tasks=(Task.CLASSIFY,),
    fit=partial(fit_network, _make),
    parameters={**TRAINING_PARAMETERS, "width": 24, "layers": 4, "dropout": 0.1},
)
