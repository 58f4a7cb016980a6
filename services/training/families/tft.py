"""Temporal fusion transformer (Lim et al. 2021): variable selection, an LSTM for what is near, interpretable attention
for what is far, gates between them.

Every variable has a linear embedding of its own; which of them count is decided anew at every bar by a gated network
over all of them. The attention's heads share their values, so that its weights say which bars mattered.
"""

# torch is not followed by the type checker, so its Module is Any there.
# mypy: allow-subclassing-any

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from services.training.families.family import Family, FitRequest, Task
from services.training.families.torch_models import TRAINING_PARAMETERS, fit_network


class _Gate(nn.Module):
    """A gated linear unit onto a residual, normalised (equation 5)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.value = nn.Linear(width, width)
        self.gate = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, state: Tensor, residual: Tensor) -> Tensor:
        state = self.dropout(state)
        return self.norm(residual + self.value(state) * torch.sigmoid(self.gate(state)))


class _GatedResidual(nn.Module):
    """A gated residual network (equations 2 to 4)."""

    def __init__(self, inputs: int, width: int, outputs: int, dropout: float) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.second = nn.Linear(width, outputs)
        self.skip = nn.Linear(inputs, outputs)
        self.gate = _Gate(outputs, dropout)

    def forward(self, state: Tensor) -> Tensor:
        hidden = self.second(torch.nn.functional.elu(self.first(state)))
        return self.gate(hidden, self.skip(state))


class _Selection(nn.Module):
    """Variable selection: the weights of the variables at each bar, and their weighted embeddings."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.weigh = _GatedResidual(inputs, width, inputs, dropout)
        self.embed = nn.Parameter(torch.randn(inputs, width) / math.sqrt(inputs))
        self.offset = nn.Parameter(torch.zeros(inputs, width))

    def forward(self, bars: Tensor) -> tuple[Tensor, Tensor]:
        weights = torch.softmax(self.weigh(bars), dim=-1)
        return (weights * bars) @ self.embed * bars.shape[-1] + weights @ self.offset, weights


class TemporalFusion(nn.Module):
    """Reads (batch, window, inputs), answers logits of down, flat, up (batch, 3)."""

    def __init__(self, inputs: int, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads, self._size = heads, width // heads
        self.select = _Selection(inputs, width, dropout)
        self.near = nn.LSTM(width, width, batch_first=True)
        self.gate_near = _Gate(width, dropout)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, self._size)
        self.mix = nn.Linear(self._size, width)
        self.gate_far = _Gate(width, dropout)
        self.hidden = _GatedResidual(width, width, width, dropout)
        self.classify = nn.Linear(width, 3)

    def forward(self, bars: Tensor) -> Tensor:
        return self.explain(bars)[0]

    def explain(self, bars: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answer logits, the weights of the variables (batch, window, inputs) and of the bars (batch, window)."""
        batch, length, _ = bars.shape
        chosen, variables = self.select(bars)
        near, _ = self.near(chosen)
        state = self.gate_near(near, chosen)
        # Only the last bar asks: it is the one that is forecast from.
        query = self.query(state[:, -1:]).reshape(batch, 1, self._heads, self._size).transpose(1, 2)
        key = self.key(state).reshape(batch, length, self._heads, self._size).transpose(1, 2)
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(self._size), dim=-1).mean(dim=1)
        far = self.gate_far(self.mix(weights @ self.value(state)), state[:, -1:])
        return self.classify(self.hidden(far)[:, 0]), variables, weights[:, 0]


def _make(_window: int, inputs: int, request: FitRequest) -> TemporalFusion:
    parameters = request.parameters
    return TemporalFusion(inputs, int(parameters["width"]), int(parameters["heads"]), float(parameters["dropout"]))


FAMILY = Family(
    name="tft",
    summary="temporal fusion transformer over 168 bars",
    window=168,
    tasks=(Task.CLASSIFY,),
    fit=partial(fit_network, _make),
    parameters={**TRAINING_PARAMETERS, "width": 16, "heads": 4, "dropout": 0.1},
)
