"""PatchTST (Nie et al. 2023): patches of bars as tokens, every channel by itself through one shared encoder."""

# torch is not followed by the type checker, so its Module is Any there.
# mypy: allow-subclassing-any

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from services.training.families.family import Family, FitRequest, Task
from services.training.families.torch_models import TRAINING_PARAMETERS, fit_network
from services.training.families.transformer import EncoderLayer


class PatchTransformer(nn.Module):
    """Reads (batch, window, inputs), answers logits of down, flat, up (batch, 3)."""

    def __init__(
        self, window: int, inputs: int, channels: int, patch: int, width: int, layers: int, heads: int, dropout: float
    ) -> None:
        super().__init__()
        if patch > window:
            raise ValueError(f"a patch of {patch} bars is longer than the window of {window}; choose a shorter one")
        self._channels, self._patch, self._width = channels, patch, width
        step = max(1, patch // 2)
        starts = range((window - patch) % step, window - patch + 1, step)
        self._patches = len(starts)
        places = torch.tensor([[start + place for place in range(patch)] for start in starts])
        self.register_buffer("places", places.flatten())
        self.mix = nn.Linear(inputs, channels)
        self.embed = nn.Linear(patch, width)
        self.positions = nn.Parameter(torch.randn(self._patches, width) * 0.02)
        self.layers = nn.ModuleList([EncoderLayer(width, heads, dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)
        self.classify = nn.Linear(channels * width, 3)

    def forward(self, bars: Tensor) -> Tensor:
        series = self.mix(bars).transpose(1, 2)
        patches = series[:, :, self.places].reshape(-1, self._patches, self._patch)
        state = self.embed(patches) + self.positions
        for layer in self.layers:
            state = layer(state)
        last = self.norm(state[:, -1])
        return self.classify(last.reshape(-1, self._channels * self._width))


def _make(window: int, inputs: int, request: FitRequest) -> PatchTransformer:
    parameters = request.parameters
    return PatchTransformer(
        window,
        inputs,
        int(parameters["channels"]),
        int(parameters["patch"]),
        int(parameters["width"]),
        int(parameters["layers"]),
        int(parameters["heads"]),
        float(parameters["dropout"]),
    )


FAMILY = Family(
    name="patchtst",
    summary="PatchTST over 60 bars",
    window=60,
    tasks=(Task.CLASSIFY,),
    fit=partial(fit_network, _make),
    parameters={
        **TRAINING_PARAMETERS,
        "channels": 8,
        "patch": 12,
        "width": 16,
        "layers": 2,
        "heads": 4,
        "dropout": 0.1,
    },
)
