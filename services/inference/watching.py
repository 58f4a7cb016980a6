"""Watches models as they score: how long each takes, and how far its inputs have moved from those it was trained on.

Both are metrics alone: nothing here changes what a model answers. Drift is worked out when somebody asks for the
metrics, never while a vector waits. It is over the last vectors of the live market,
in the deciles of the training bars: the population stability index (above 0.25 the input is another one, after Siddiqi,
Credit Risk Scorecards, 2006) and the Kolmogorov-Smirnov distance, as far as nine deciles show it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
from prometheus_client import Histogram, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from libs.clock import SYSTEM_CLOCK, Clock
from services.inference.core import Manifest, Scores

_BUCKETS = (2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 5e-2, 0.25)
_PENDING = 1_000
REMEMBERED = 1440
"""Vectors that drift is judged over: a day of minutes."""

LEAST = 200
"""Vectors from which on drift is judged."""

_BINS = 10
_LEAST_SHARE = 1e-3


class InputDrift:
    """Keeps the inputs of the last vectors, and tells in which deciles they fell."""

    def __init__(self, deciles: npt.NDArray[np.float64], remembered: int = REMEMBERED) -> None:
        """Take the deciles of the training bars, (inputs, 9)."""
        self._deciles = deciles
        # A tenth of the training bars fell into each bin; where deciles coincide the first of them holds it all, and
        # what lies above the last one too where that is the largest value many times over.
        self._expected = np.zeros((len(deciles), _BINS))
        first = (deciles[:, np.newaxis, :] < deciles[:, :, np.newaxis]).sum(axis=2)
        for one, places in enumerate(first):
            np.add.at(self._expected[one], places, 1.0 / _BINS)
        last = np.where(deciles[:, -1] == deciles[:, -2], first[:, -1], _BINS - 1)
        self._expected[np.arange(len(deciles)), last] += 1.0 / _BINS
        self._rows = np.full((remembered, len(deciles)), np.nan, dtype=np.float32)
        self.seen = 0

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Take one vector's inputs; what is unknown counts in no bin."""
        self._rows[self.seen % len(self._rows)] = values
        self.seen += 1

    def measure(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return stability index and distance of each input, NaN where it was never known."""
        kept = self._rows[: min(self.seen, len(self._rows))]
        above = [len(kept) - np.isnan(kept).sum(axis=0), *((kept > decile).sum(axis=0) for decile in self._deciles.T)]
        counts = -np.diff(np.stack([*above, np.zeros_like(above[0])], axis=1), axis=1).astype(np.float64)
        totals = counts.sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            shares = np.where(totals > 0, counts / totals, np.nan)
        here, there = np.maximum(shares, _LEAST_SHARE), np.maximum(self._expected, _LEAST_SHARE)
        psi = ((here - there) * np.log(here / there)).sum(axis=1)
        distance = np.abs(np.cumsum(shares - self._expected, axis=1)).max(axis=1)
        return psi, distance


class InputDriftCollector(Collector):
    """Shows the drift of every watched model's inputs, worked out when it is asked for."""

    def __init__(self) -> None:
        self._drifts: dict[str, tuple[list[str], InputDrift]] = {}

    def follow(self, manifest: Manifest) -> InputDrift:
        """Return what keeps a model's inputs from now on."""
        drift = InputDrift(np.array([one.deciles for one in manifest.inputs]))
        self._drifts[manifest.model_id] = ([one.name for one in manifest.inputs], drift)
        return drift

    def collect(self) -> Iterator[Metric]:
        """Return both metrics of the models that have seen enough."""
        labels = ("model", "input")
        indices = GaugeMetricFamily("perpflow_input_psi", "Stability index of an input", labels=labels)
        distances = GaugeMetricFamily("perpflow_input_ks", "Distance of an input's distribution", labels=labels)
        for model_id, (names, drift) in list(self._drifts.items()):
            if drift.seen < LEAST:
                continue
            for name, psi, distance in zip(names, *drift.measure(), strict=True):
                indices.add_metric((model_id, name), float(psi))
                distances.add_metric((model_id, name), float(distance))
        yield indices
        yield distances


class ModelSecondsCollector(Collector):
    """The histogram of each model's times, which are noted as they come and sorted into buckets later."""

    def __init__(self) -> None:
        self._histogram = Histogram(
            "perpflow_model_seconds", "Scoring one vector", ("model",), buckets=_BUCKETS, registry=None
        )
        self._pending: dict[str, deque[float]] = {}

    def follow(self, model_id: str) -> deque[float]:
        """Return where a model's times are noted."""
        return self._pending.setdefault(model_id, deque())

    def sort(self) -> None:
        """Sort what was noted into buckets; the thread that scores may note more meanwhile."""
        for model_id, pending in list(self._pending.items()):
            child = self._histogram.labels(model_id)
            while pending:
                child.observe(pending.popleft())

    def collect(self) -> Iterator[Metric]:
        """Return the histogram."""
        self.sort()
        yield from self._histogram.collect()


INPUT_DRIFT = InputDriftCollector()
MODEL_SECONDS = ModelSecondsCollector()
COLLECTORS = (MODEL_SECONDS, INPUT_DRIFT)


def watch(
    manifest: Manifest, score: Callable[[npt.NDArray[np.float32]], Scores], clock: Clock = SYSTEM_CLOCK
) -> Callable[[npt.NDArray[np.float32]], Scores]:
    """Return `score`, watched."""
    pending = MODEL_SECONDS.follow(manifest.model_id)
    now, note, add = clock.monotonic_s, pending.append, INPUT_DRIFT.follow(manifest).add

    def watched(inputs: npt.NDArray[np.float32]) -> Scores:
        began = now()
        scores = score(inputs)
        note(now() - began)
        if len(pending) >= _PENDING:
            MODEL_SECONDS.sort()
        add(inputs[0, -1])
        return scores

    return watched
