"""The network: a small transformer encoder over a window of bars with two heads, direction and return."""

# torch is not followed by the type checker, so its Module is Any there.
# mypy: allow-subclassing-any

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MODEL_WIDTH = 32
LAYERS = 2
HEADS = 4
HIDDEN_WIDTH = 64
DROPOUT = 0.1


class _EncoderLayer(nn.Module):
    """Self-attention and a two-layer perceptron, each behind a layer norm (pre-norm; Xiong et al. 2020)."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self._heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.norm_hidden = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.mix = nn.Linear(width, width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)
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


class DirectionTransformer(nn.Module):
    """Reads (batch, window, inputs), answers logits of down, flat, up (batch, 3) and a scaled return (batch,).

    Attention Is All You Need (Vaswani et al. 2017), encoder only, with learned positions; the last bar's state feeds
    both heads.
    """

    def __init__(self, inputs: int, window: int) -> None:
        super().__init__()
        self.embed = nn.Linear(inputs, MODEL_WIDTH)
        self.positions = nn.Parameter(torch.randn(window, MODEL_WIDTH) * 0.02)
        self.layers = nn.ModuleList([_EncoderLayer(MODEL_WIDTH, HEADS, HIDDEN_WIDTH, DROPOUT) for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(MODEL_WIDTH)
        self.direction = nn.Linear(MODEL_WIDTH, 3)
        self.move = nn.Linear(MODEL_WIDTH, 1)

    def forward(self, bars: Tensor) -> tuple[Tensor, Tensor]:
        state = self.embed(bars) + self.positions
        for layer in self.layers:
            state = layer(state)
        last = self.norm(state[:, -1])
        return self.direction(last), self.move(last)[:, 0]


class ServedModel(nn.Module):
    """What is exported: calibrated probabilities (1, 3) and the expected return in bps (1,)."""

    def __init__(self, network: DirectionTransformer, temperature: float, move_scale_bps: float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("inverse_temperature", torch.tensor(1.0 / temperature))
        self.register_buffer("move_scale_bps", torch.tensor(move_scale_bps))

    def forward(self, bars: Tensor) -> tuple[Tensor, Tensor]:
        logits, move = self.network(bars)
        return torch.softmax(logits * self.inverse_temperature, dim=-1), move * self.move_scale_bps
