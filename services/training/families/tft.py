"""Temporal fusion transformer (Lim et al. 2021): variable selection, an LSTM for what is near, interpretable attention
for what is far, gates between them.

Every variable has a linear embedding of its own; which of them count is decided anew at every bar by a gated network
over all of them and the static context. Static is what a window has once: the inputs of the day's timeframe at its last
bar. Observed is every input at every bar. Known of the future are the calendar and the funding times of each day to
come, worked out from the last bar's. The attention's heads share their values, so that its weights say which bars
mattered.

The classes are answered from the last bar. With an outlook a decoder answers quantiles of the return up to the end of
each day ahead, in units of the volatility up to there, and from them mean, deviation and skew.
"""

# torch is not followed by the type checker, so its Module is Any there.
# mypy: allow-subclassing-any

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn

from services.training.core.outlook import LEVELS, MASSES, SPREAD
from services.training.families.family import Family, FitRequest, Task
from services.training.families.torch_models import TRAINING_PARAMETERS, fit_network

STATIC_SUFFIX = "_1d"
WEEK = ("weekday_sine", "weekday_cosine")
KNOWN = (*WEEK, "hour_sine", "hour_cosine", "time_to_funding")
"""Inputs whose future is known: a day later all but the time of week are the same."""


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
    """Variable selection: the weights of the variables at each step, and their weighted embeddings."""

    def __init__(self, inputs: int, width: int, dropout: float) -> None:
        super().__init__()
        self.weigh = _GatedResidual(inputs + width, width, inputs, dropout)
        self.embed = nn.Parameter(torch.randn(inputs, width) / math.sqrt(inputs))
        self.offset = nn.Parameter(torch.zeros(inputs, width))

    def forward(self, steps: Tensor, context: Tensor) -> tuple[Tensor, Tensor]:
        spread = context.unsqueeze(1).expand(-1, steps.shape[1], -1)
        weights = torch.softmax(self.weigh(torch.cat([steps, spread], dim=-1)), dim=-1)
        return (weights * steps) @ self.embed * steps.shape[-1] + weights @ self.offset, weights


class TemporalFusion(nn.Module):
    """Reads (batch, window, inputs), answers logits of down, flat, up (batch, 3).

    With `days` above 0 it answers (logits, outlook) with the outlook (batch, days, levels + 3): quantiles at `LEVELS`,
    mean, deviation and skew. `static` and `known` are places of inputs; `known` begins with the time of week.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        heads: int,
        dropout: float,
        static: Sequence[int] = (),
        known: Sequence[int] = (),
        days: int = 0,
    ) -> None:
        super().__init__()
        self._heads, self._size, self._width, self._days = heads, width // heads, width, days
        self._static, self._known = list(static), list(known)
        self.context = _GatedResidual(len(self._static), width, width, dropout) if self._static else None
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
        if days:
            self.select_known = _Selection(len(self._known) + 1, width, dropout)
            self.ahead = nn.LSTM(width, width, batch_first=True)
            self.gate_ahead = _Gate(width, dropout)
            self.enrich = _GatedResidual(2 * width, width, width, dropout)
            self.quantiles = nn.Linear(width, len(LEVELS))
            numbers = torch.arange(1, days + 1, dtype=torch.float32)
            angle = numbers * (2.0 * math.pi / 7.0)
            self.register_buffer("turns", torch.stack([torch.cos(angle), torch.sin(angle)]))
            self.register_buffer("numbers", numbers / days)
            self.register_buffer("masses", torch.tensor(MASSES))

    def forward(self, bars: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        state, context, memory, _ = self._encode(bars)
        logits, _ = self._classify(state)
        return (logits, self._look_ahead(bars, state, context, memory)[0]) if self._days else logits

    def explain(self, bars: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answer logits, the weights of the variables (batch, window, inputs) and of the bars (batch, window).

        The bars' weights are those of the classes, or with an outlook their mean over the days ahead.
        """
        state, context, memory, variables = self._encode(bars)
        logits, weights = self._classify(state)
        if self._days:
            weights = self._look_ahead(bars, state, context, memory)[1].mean(dim=1)
        return logits, variables, weights

    def _encode(self, bars: Tensor) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor], Tensor]:
        context = bars.new_zeros(bars.shape[0], self._width)
        if self.context is not None:
            context = self.context(bars[:, -1][:, self._static])
        chosen, variables = self.select(bars, context)
        begun = context.unsqueeze(0)
        near, memory = self.near(chosen, (begun, begun))
        return self.gate_near(near, chosen), context, memory, variables

    def _attend(self, asking: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        batch, length, _ = state.shape
        count = asking.shape[1]
        query = self.query(asking).reshape(batch, count, self._heads, self._size).transpose(1, 2)
        key = self.key(state).reshape(batch, length, self._heads, self._size).transpose(1, 2)
        weights = torch.softmax(query @ key.transpose(2, 3) / math.sqrt(self._size), dim=-1).mean(dim=1)
        return self.hidden(self.gate_far(self.mix(weights @ self.value(state)), asking)), weights

    def _classify(self, state: Tensor) -> tuple[Tensor, Tensor]:
        # Only the last bar asks: it is the one that is forecast from.
        far, weights = self._attend(state[:, -1:], state)
        return self.classify(far[:, 0]), weights[:, 0]

    def _look_ahead(
        self, bars: Tensor, state: Tensor, context: Tensor, memory: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        chosen, _ = self.select_known(self._known_of(bars[:, -1]), context)
        ahead, _ = self.ahead(chosen, memory)
        ahead = self.gate_ahead(ahead, chosen)
        spread = context.unsqueeze(1).expand(-1, self._days, -1)
        far, weights = self._attend(self.enrich(torch.cat([ahead, spread], dim=-1)), state)
        raw = self.quantiles(far)
        # The first is the lowest; the others are above one another by construction.
        lowest, steps = raw[..., :1] - 1.0, torch.nn.functional.softplus(raw[..., 1:])
        levels = torch.cat([lowest, lowest + torch.cumsum(steps, dim=-1)], dim=-1)
        mean = (levels * self.masses).sum(dim=-1, keepdim=True)
        centred = levels - mean
        deviation = torch.sqrt((centred**2 * self.masses).sum(dim=-1, keepdim=True)) / SPREAD
        skew = (centred**3 * self.masses).sum(dim=-1, keepdim=True) / deviation**3
        return torch.cat([levels, mean, deviation, skew], dim=-1), weights

    def _known_of(self, last: Tensor) -> Tensor:
        known = last[:, self._known]
        sine, cosine = known[:, :1], known[:, 1:2]
        turned = [sine * self.turns[0] + cosine * self.turns[1], cosine * self.turns[0] - sine * self.turns[1]]
        others = known[:, 2:].unsqueeze(1).expand(-1, self._days, -1)
        number = self.numbers.reshape(1, -1, 1).expand(last.shape[0], -1, -1)
        return torch.cat([torch.stack(turned, dim=-1), others, number], dim=-1)


def _make(_window: int, inputs: int, request: FitRequest) -> TemporalFusion:
    parameters, names = request.parameters, list(request.names)
    days = 0 if request.train.paths is None else request.train.paths.shape[1]
    known = [names.index(name) for name in KNOWN if name in names]
    if days and not set(WEEK) <= set(names):
        raise ValueError(f"an outlook needs the inputs {', '.join(WEEK)}; choose a feature set that has them")
    return TemporalFusion(
        inputs,
        int(parameters["width"]),
        int(parameters["heads"]),
        float(parameters["dropout"]),
        [place for place, name in enumerate(names) if name.endswith(STATIC_SUFFIX)],
        known,
        days,
    )


FAMILY = Family(
    name="tft",
    summary="temporal fusion transformer over 168 bars",
    window=168,
    tasks=(Task.CLASSIFY,),
    fit=partial(fit_network, _make),
    parameters={**TRAINING_PARAMETERS, "width": 16, "heads": 4, "dropout": 0.1},
    has_outlook=True,
)
