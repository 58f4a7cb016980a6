"""Examples: windows of features that end at a bar, and what followed it. Never across a gap in the bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from libs.indicators.feature_set import FeatureSet

Floats: TypeAlias = npt.NDArray[np.float64]
Singles: TypeAlias = npt.NDArray[np.float32]
Classes: TypeAlias = npt.NDArray[np.int64]
Places: TypeAlias = npt.NDArray[np.int64]

LEVELS = frozenset({"quote", "base", "bps per base"})
"""Units of features that grow with the price or the market: what a model learns at one level is wrong at the next."""

MIN_KNOWN_SHARE = 0.5
"""An input known in fewer of the training bars than this is left out."""

CLIP = 5.0
"""Scaled inputs are held to this many deviations."""


class TooFewBars(ValueError):
    """The bars do not suffice; the message says how many are needed."""


@dataclass(frozen=True, slots=True)
class ChosenInputs:
    """Which features a model reads: names, places in the vector, and mean, scale and deciles over the training bars."""

    names: tuple[str, ...]
    indices: Places
    means: Singles
    scales: Singles
    deciles: Floats
    left_out: tuple[str, ...]

    def scale(self, values: Singles) -> Singles:
        """Scale (..., inputs) as the graph does, operation by operation: 0 where unknown, held to `CLIP`."""
        scaled = np.clip((values - self.means) / self.scales, np.float32(-CLIP), np.float32(CLIP))
        return np.where(np.isnan(values), np.float32(0.0), scaled)


@dataclass(frozen=True, slots=True)
class Examples:
    """Windows that end at `places` of the scaled `rows` (bars, inputs), and what followed.

    `classes` are DOWN, FLAT, UP; `moves` the returns in units of the volatility over the horizon; `paths` (n, days)
    those up to the end of each day ahead, where an outlook is asked for.
    """

    rows: Singles
    places: Places
    window: int
    classes: Classes
    moves: Floats
    paths: Floats | None = None

    def __len__(self) -> int:
        return len(self.places)

    def windows(self, first: int = 0, last: int | None = None) -> Singles:
        """Return (n, window, inputs) of the examples from `first` up to `last`."""
        return gather_windows(self.rows, self.places[first:last], self.window)

    def flat(self) -> Singles:
        """Return (n, window x inputs), as models without a sense of order read them."""
        return self.windows().reshape(len(self), -1)


def choose_names(feature_set: FeatureSet) -> tuple[str, ...]:
    """Name the features of a set that mean the same at every price: all but those in quote or base units."""
    return tuple(one.name for one in feature_set.features if one.definition.unit not in LEVELS)


def choose_inputs(names: Sequence[str], features: Floats, train: Places, wanted: Sequence[str]) -> ChosenInputs:
    """Choose the wanted inputs that the training bars know, and compute their scaling and deciles there.

    `names` are the columns of `features` (bars, features). An input that is constant, or the same as one before it,
    is left out. Raises ValueError where the feature set lacks one.
    """
    place_of = {name: place for place, name in enumerate(names)}
    missing = [name for name in wanted if name not in place_of]
    if missing:
        raise ValueError(f"the feature set has no {', '.join(missing)}; see perpflow features list")
    chosen: list[str] = []
    left_out: list[str] = []
    seen: set[bytes] = set()
    statistics: list[tuple[float, float]] = []
    deciles: list[Floats] = []
    for name in wanted:
        values = features[train, place_of[name]]
        known = values[np.isfinite(values)]
        scale = float(known.std()) if len(known) else 0.0
        content = values.astype(np.float32).tobytes()
        # Anything smaller is rounding noise around a constant.
        is_constant = not scale > 1e-9 * max(1e-6, float(np.abs(known).max(initial=0.0)))
        if len(known) < MIN_KNOWN_SHARE * len(values) or is_constant or content in seen:
            left_out.append(name)
            continue
        seen.add(content)
        chosen.append(name)
        statistics.append((float(known.mean()), scale))
        deciles.append(np.quantile(known, np.arange(1, 10) / 10.0))
    if not chosen:
        raise TooFewBars("none of the model's inputs is known in the training bars; give more bars")
    means, scales = np.array(statistics, dtype=np.float32).T
    indices = np.array([place_of[name] for name in chosen], dtype=np.int64)
    return ChosenInputs(tuple(chosen), indices, means, scales, np.array(deciles), tuple(left_out))


def find_usable_bars(open_times: Places, step_ns: int, *, window: int, ahead: int, warm_up: int) -> Places:
    """Return the bars that can be an example: warm, `window` bars without a gap behind, `ahead` without one ahead.

    `open_times` ascend, in ns. Raises `TooFewBars` where there is none.
    """
    count = len(open_times)
    behind = max(window - 1, warm_up)
    if count <= behind + ahead:
        raise TooFewBars(f"{count} bars are too few: a model needs more than {behind + ahead}")
    places = np.arange(behind, count - ahead, dtype=np.int64)
    spans = open_times[places + ahead] - open_times[places - window + 1]
    usable: Places = places[spans == (window - 1 + ahead) * step_ns]
    if not len(usable):
        raise TooFewBars(f"the bars have gaps everywhere: no {window + ahead} of them follow one another")
    return usable


def gather_windows(rows: Singles, places: Places, window: int) -> Singles:
    """Return (places, window, inputs): the rows up to and including each place, oldest first."""
    if window == 1:
        return rows[places][:, np.newaxis, :]
    offsets = np.arange(-window + 1, 1, dtype=np.int64)
    windows: Singles = rows[places[:, np.newaxis] + offsets[np.newaxis, :]]
    return windows
