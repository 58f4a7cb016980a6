"""Short-term transformer: an encoder over sixty vectors, multi-head attention, the last bar's state classifies.

Attention Is All You Need (Vaswani et al. 2017), encoder only, pre-norm (Xiong et al. 2020), learned positions.
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


class EncoderLayer(nn.Module):
    """Self-attention and a two-layer perceptron, each behind a layer norm."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self._heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.norm_hidden = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, bars: Tensor) -> Tensor:
        batch, length, width = bars.shape
        size = width // self._heads
        normed = self.norm_attention(bars)
        query = self.query(normed).reshape(batch, length, self._heads, size).transpose(1, 2)
        key = self.key(normed).reshape(batch, length, self._heads, size).transpose(1, 2)
        value = self.value(normed).reshape(batch, length, self._heads, size).transpose(1, 2)
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(size), dim=-1)
        attended = (weights @ value).transpose(1, 2).reshape(batch, length, width)
        bars = bars + self.dropout(self.mix(attended))
        hidden = torch.relu(self.widen(self.norm_hidden(bars)))
        return bars + self.dropout(self.narrow(hidden))


class Transformer(nn.Module):
    """Reads (batch, window, inputs), answers logits of down, flat, up (batch, 3)."""

    def __init__(self, window: int, inputs: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.positions = nn.Parameter(torch.randn(window, width) * 0.02)
        self.layers = nn.ModuleList([EncoderLayer(width, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, 3)

    def forward(self, bars: Tensor) -> Tensor:
        state = self.embed(bars) + self.positions
        for layer in self.layers:
            state = layer(state)
        return self.classify(self.norm(state[:, -1]))


def _make(window: int, inputs: int, request: FitRequest) -> Transformer:
    width, heads = int(request.parameters["width"]), int(request.parameters["heads"])
    if width % heads:
        raise ValueError(f"width {width} does not divide among {heads} heads; choose a multiple")
    return Transformer(
        window, inputs, width, int(request.parameters["layers"]), heads, float(request.parameters["dropout"])
    )


FAMILY = Family(
    name="transformer",
    summary="transformer encoder over 60 bars",
    window=60,
    tasks=(Task.CLASSIFY,),
    fit=partial(fit_network, _make),
    parameters={**TRAINING_PARAMETERS, "width": 32, "layers": 2, "heads": 4, "dropout": 0.1},
)
