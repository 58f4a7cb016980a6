"""Informer (Zhou et al. 2021): sparse attention and distilling between layers.

The original draws keys by chance to find the queries that attend to something in particular, and cuts off the rest.
Here every key is looked at, and the cut is a steep slope: the same answer every time, and a graph that says what torch
says, which a hard cut would not where two queries are nearly alike.
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

_STEEPNESS = 10.0


class _SparseAttention(nn.Module):
    def __init__(self, width: int, heads: int, length: int) -> None:
        super().__init__()
        self._heads = heads
        self._chosen = min(length, math.ceil(5 * math.log(length)))
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)

    def forward(self, bars: Tensor) -> Tensor:
        batch, length, width = bars.shape
        size = width // self._heads
        query = self.query(bars).reshape(batch, length, self._heads, size).transpose(1, 2)
        key = self.key(bars).reshape(batch, length, self._heads, size).transpose(1, 2)
        value = self.value(bars).reshape(batch, length, self._heads, size).transpose(1, 2)
        scores = query @ key.transpose(2, 3) / math.sqrt(size)
        # How far a query is from attending to everything alike (equation 4).
        sparsity = scores.amax(dim=-1) - scores.mean(dim=-1)
        least = torch.topk(sparsity, self._chosen, dim=-1).values[..., -1:]
        share = torch.sigmoid((sparsity - least) * _STEEPNESS).unsqueeze(-1)
        attended = torch.softmax(scores, dim=-1) @ value
        mean = value.mean(dim=2, keepdim=True)
        mixed = share * attended + (1.0 - share) * mean
        return self.mix(mixed.transpose(1, 2).reshape(batch, length, width))


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int, length: int, dropout: float) -> None:
        super().__init__()
        self.attention = _SparseAttention(width, heads, length)
        self.norm_attention = nn.LayerNorm(width)
        self.norm_hidden = nn.LayerNorm(width)
        self.hidden = nn.Sequential(nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, bars: Tensor) -> Tensor:
        bars = bars + self.dropout(self.attention(self.norm_attention(bars)))
        return bars + self.dropout(self.hidden(self.norm_hidden(bars)))


class Informer(nn.Module):
    """Reads (batch, window, inputs), answers logits of down, flat, up (batch, 3)."""

    def __init__(self, window: int, inputs: int, width: int, layers: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, width)
        self.positions = nn.Parameter(torch.randn(window, width) * 0.02)
        lengths = [window]
        for _ in range(layers - 1):
            lengths.append((lengths[-1] + 1) // 2)
        self.layers = nn.ModuleList([_Layer(width, heads, length, dropout) for length in lengths])
        self.distil = nn.ModuleList([nn.Conv1d(width, width, 3, padding=1) for _ in lengths[1:]])
        self.pool = nn.MaxPool1d(3, stride=2, padding=1)
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(width, 3)

    def forward(self, bars: Tensor) -> Tensor:
        state = self.layers[0](self.embed(bars) + self.positions)
        for layer, distil in zip(list(self.layers)[1:], self.distil, strict=True):
            state = self.pool(torch.nn.functional.elu(distil(state.transpose(1, 2)))).transpose(1, 2)
            state = layer(state)
        return self.classify(self.norm(state[:, -1]))


def _make(window: int, inputs: int, request: FitRequest) -> Informer:
    parameters = request.parameters
    return Informer(
        window,
        inputs,
        int(parameters["width"]),
        int(parameters["layers"]),
        int(parameters["heads"]),
        float(parameters["dropout"]),
    )


FAMILY = Family(
    name="informer",
    summary="Informer over 96 bars",
    window=96,
    tasks=(Task.CLASSIFY,),
    fit=partial(fit_network, _make),
    parameters={**TRAINING_PARAMETERS, "width": 32, "layers": 2, "heads": 4, "dropout": 0.1},
)
