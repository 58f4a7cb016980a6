"""Whether models forecast otherwise than they did, and whether what they say still comes true. No clock, no I/O.

Per model and instrument two streams are watched by ADWIN: the share of up in the probability of a move, and, once the
horizon has passed, whether the price rose less that share, which is 0 on average while the model is calibrated.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from libs.domain.bars import Bar
from libs.domain.forecasts import Forecast

PREDICTIONS, CALIBRATION = "predictions", "calibration"
DELTA = 0.002
"""How likely a change is seen where there is none, at each look."""

_BUCKETS_A_ROW = 5
_LOOK_EVERY = 32
_GRACE = 10
_LEAST = 5
_MOST_PENDING = 100_000
# A bar later than this behind a horizon says nothing of the price at its end.
_LATEST_NS = 300 * 10**9


class Adwin:
    """An adaptive window over values in [0, 1] or so, which begins anew where its newer part has another mean.

    Bifet and Gavalda, Learning from Time-Changing Data with Adaptive Windowing, 2007, as river has it: an exponential
    histogram of five buckets a row, looked at every 32 values. Tested to find what river 0.26 finds.
    """

    def __init__(self, delta: float = DELTA) -> None:
        self._delta = delta
        self._begin()

    def _begin(self) -> None:
        # Row i holds the totals of buckets of 2^i values, oldest first.
        self._rows: list[deque[float]] = [deque()]
        self._total = self._deviations = 0.0
        self.width = 0

    @property
    def mean(self) -> float:
        """The mean of the window, 0 while it is empty."""
        return self._total / self.width if self.width else 0.0

    def update(self, value: float) -> bool:
        """Add a value; return whether the mean has changed."""
        if self.width:
            self._deviations += self.width * (value - self.mean) ** 2 / (self.width + 1)
        self.width += 1
        self._total += value
        self._rows[0].append(value)
        self._compress()
        if self.width % _LOOK_EVERY or self.width <= _GRACE or not self._differs():
            return False
        self._begin()
        return True

    def _compress(self) -> None:
        for level, row in enumerate(self._rows):
            if len(row) <= _BUCKETS_A_ROW:
                return
            if level + 1 == len(self._rows):
                self._rows.append(deque())
            self._rows[level + 1].append(row.popleft() + row.popleft())

    def _differs(self) -> bool:
        old = 0
        old_total = 0.0
        variance = self._deviations / self.width
        bound = math.log(2.0 * math.log(self.width) / self._delta)
        for level in range(len(self._rows) - 1, -1, -1):
            for total in self._rows[level]:
                old += 2**level
                old_total += total
                new = self.width - old
                if old < _LEAST or new < _LEAST:
                    continue
                harmonic = 1.0 / (old - _LEAST + 1) + 1.0 / (new - _LEAST + 1)
                allowed = math.sqrt(2.0 * harmonic * variance * bound) + 2.0 / 3.0 * bound * harmonic
                if abs(old_total / old - (self._total - old_total) / new) > allowed:
                    return True
        return False


@dataclass(slots=True)
class _WatchedModel:
    predictions: Adwin = field(default_factory=Adwin)
    calibration: Adwin = field(default_factory=Adwin)
    # The end of the horizon, the share of up, and the price that it is from.
    pending: deque[tuple[int, float, int]] = field(default_factory=lambda: deque(maxlen=_MOST_PENDING))
    newest: int = 0


@dataclass(frozen=True, slots=True)
class DriftRow:
    """A model's drift over all instruments: changes found so far and the present mean, by what is watched."""

    model: str
    drifts: dict[str, int]
    means: dict[str, float]


class ModelDriftWatch:
    """Takes forecasts and closed bars; tells how often each model's streams have changed."""

    def __init__(self) -> None:
        self._watched: dict[tuple[str, str], _WatchedModel] = {}
        self._drifts: dict[tuple[str, str], int] = {}

    def see_forecast(self, forecast: Forecast) -> bool:
        """Take a forecast; return whether the model's predictions have changed."""
        model = f"{forecast.model_name}/{forecast.model_version}"
        known = self._watched.setdefault((model, forecast.instrument), _WatchedModel())
        moves = forecast.probability_up + forecast.probability_down
        if forecast.event_time <= known.newest or not moves > 0.0:
            return False
        known.newest = forecast.event_time
        share = forecast.probability_up / moves
        known.pending.append((forecast.event_time + forecast.horizon_ns, share, forecast.reference_price_e8))
        return self._note(model, PREDICTIONS, known.predictions.update(share))

    def see_bar(self, bar: Bar) -> bool:
        """Take a closed bar: forecasts whose horizon it ends come true or not. Return whether a calibration changed."""
        has_changed = False
        for (model, instrument), known in self._watched.items():
            if instrument != bar.instrument:
                continue
            while known.pending and known.pending[0][0] <= bar.event_time:
                end, share, price_e8 = known.pending.popleft()
                if bar.event_time - end <= _LATEST_NS and bar.close_e8 != price_e8:
                    gap = float(bar.close_e8 > price_e8) - share
                    has_changed |= self._note(model, CALIBRATION, known.calibration.update(gap))
        return has_changed

    def rows(self) -> list[DriftRow]:
        """Return every model seen, by name."""
        rows = []
        for model in sorted({model for model, _ in self._watched}):
            own = [known for (name, _), known in self._watched.items() if name == model]
            rows.append(
                DriftRow(
                    model,
                    {kind: self._drifts.get((model, kind), 0) for kind in (PREDICTIONS, CALIBRATION)},
                    {
                        PREDICTIONS: _mean(known.predictions for known in own),
                        CALIBRATION: _mean(known.calibration for known in own),
                    },
                )
            )
        return rows

    def _note(self, model: str, kind: str, has_changed: bool) -> bool:
        if has_changed:
            self._drifts[model, kind] = self._drifts.get((model, kind), 0) + 1
        return has_changed


class ModelDriftCollector(Collector):
    """Shows the drift of models as metrics; `read` gives the rows, guarded as their owner needs."""

    def __init__(self, read: Callable[[], list[DriftRow]]) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        """Return how often each stream has changed, and its mean now."""
        labels = ("model", "kind")
        drifts = CounterMetricFamily("perpflow_model_drifts", "Changes of mean found by ADWIN", labels=labels)
        means = GaugeMetricFamily("perpflow_model_mean", "Mean of the adaptive window", labels=labels)
        for row in self._read():
            for kind, count in row.drifts.items():
                drifts.add_metric((row.model, kind), count)
                means.add_metric((row.model, kind), row.means[kind])
        yield drifts
        yield means


def _mean(windows: Iterable[Adwin]) -> float:
    known = list(windows)
    width = sum(one.width for one in known)
    return sum(one.mean * one.width for one in known) / width if width else 0.0
