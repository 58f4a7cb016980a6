"""N-BEATS (Oreshkin et al. 2020): fully connected blocks, each explaining away a part of the window and adding to the
answer. The inputs of a bar are first mixed into a few channels, since the original reads one series."""

# torch is not followed by the type checker, so its Module is Any there.
# mypy: allow-subclassing-any

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from services.training.families.family import Family, FitRequest, Task
from services.training.families.torch_models import TRAINING_PARAMETERS, fit_network


class _Block(nn.Module):
    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(size, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
        self.backcast = nn.Linear(width, size)
        self.forecast = nn.Linear(width, 3)

    def forward(self, rest: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.hidden(rest)
        return rest - self.backcast(hidden), self.forecast(hidden)


class Nbeats(nn.Module):
    """Reads (batch, window, inputs), answers logits of down, flat, up (batch, 3)."""

    def __init__(self, window: int, inputs: int, channels: int, width: int, blocks: int) -> None:
        super().__init__()
        self.mix = nn.Linear(inputs, channels)
        self.blocks = nn.ModuleList([_Block(window * channels, width) for _ in range(blocks)])

    def forward(self, bars: Tensor) -> Tensor:
        rest = self.mix(bars).flatten(1)
        answers = []
        for block in self.blocks:
            rest, answer = block(rest)
            answers.append(answer)
        return torch.stack(answers).sum(dim=0)


def _make(window: int, inputs: int, request: FitRequest) -> Nbeats:
    parameters = request.parameters
    return Nbeats(window, inputs, int(parameters["channels"]), int(parameters["width"]), int(parameters["blocks"]))


FAMILY = Family(
    name="nbeats",
    summary="N-BEATS over 60 bars",
    window=60,
    tasks=(Task.CLASSIFY,),
    fit=partial(fit_network, _make),
    parameters={**TRAINING_PARAMETERS, "channels": 8, "width": 64, "blocks": 4},
)
