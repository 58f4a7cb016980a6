"""Examples: windows of features that end at a bar, and what followed it. Never across a gap in the bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
Places: TypeAlias = npt.NDArray[np.int64]

INPUTS: tuple[str, ...] = (
    "log_return_1",
    "log_return_5",
    "log_return_15",
    "candle_body",
    "candle_close_location",
    "candle_range",
    "position_in_range_20",
    "position_in_range_60",
    "ema_9_distance",
    "ema_20_distance",
    "ema_50_distance",
    "rsi_14",
    "macd_histogram_bps_12_26_9",
    "bollinger_percent_b_20_2",
    "natr_14",
    "di_balance_14",
    "stochastic_k_14_3_3",
    "volume_ratio_20",
    "volume_zscore_60",
    "vwap_20_deviation",
    "taker_imbalance",
    "taker_imbalance_20",
    "cvd_zscore_60",
    "historical_volatility_20",
    "volatility_ratio_10_60",
    "regression_slope_20",
    "efficiency_ratio_20",
    "return_zscore_60",
    "autocorrelation_1_60",
    "trade_intensity_ratio_20",
    "average_trade_size_zscore_60",
    "rsi_14_5m",
    "taker_imbalance_20_5m",
)
"""What models look at: scale-free features that klines with taker volume suffice for, since history has no more."""

MIN_KNOWN_SHARE = 0.5
"""An input known in fewer of the training bars than this is left out."""


class TooFewBars(ValueError):
    """The bars do not suffice; the message says how many are needed."""


@dataclass(frozen=True, slots=True)
class ChosenInputs:
    """Which features a model reads: names, places in the vector, mean and scale over the training bars."""

    names: tuple[str, ...]
    indices: Places
    means: Floats
    scales: Floats
    left_out: tuple[str, ...]


def choose_inputs(
    names: Sequence[str], features: Floats, train: Places, wanted: Sequence[str] = INPUTS
) -> ChosenInputs:
    """Choose the wanted inputs that the training bars know, and compute their mean and scale there.

    `names` are the columns of `features` (bars, features). Raises ValueError where the feature set lacks one.
    """
    place_of = {name: place for place, name in enumerate(names)}
    missing = [name for name in wanted if name not in place_of]
    if missing:
        raise ValueError(
            f"the feature set has no {', '.join(missing)}; change INPUTS in services.training.core.examples"
        )
    chosen: list[str] = []
    left_out: list[str] = []
    means: list[float] = []
    scales: list[float] = []
    for name in wanted:
        values = features[train, place_of[name]]
        known = values[np.isfinite(values)]
        scale = float(known.std()) if len(known) else 0.0
        if len(known) < MIN_KNOWN_SHARE * len(values) or not scale > 0.0:
            left_out.append(name)
            continue
        chosen.append(name)
        means.append(float(known.mean()))
        scales.append(scale)
    if not chosen:
        raise TooFewBars("none of the model's inputs is known in the training bars; give more bars")
    indices = np.array([place_of[name] for name in chosen], dtype=np.int64)
    return ChosenInputs(tuple(chosen), indices, np.array(means), np.array(scales), tuple(left_out))


def find_usable_bars(open_times: Places, step_ns: int, *, window: int, horizon: int, warm_up: int) -> Places:
    """Return the bars that can be an example: warm, `window` bars without a gap behind, `horizon` without one ahead.

    `open_times` ascend, in ns. Raises `TooFewBars` where there is none.
    """
    count = len(open_times)
    behind, ahead = max(window - 1, warm_up), horizon
    if count <= behind + ahead:
        raise TooFewBars(f"{count} bars are too few: a model needs more than {behind + ahead}")
    places = np.arange(behind, count - ahead, dtype=np.int64)
    spans = open_times[places + ahead] - open_times[places - window + 1]
    usable: Places = places[spans == (window - 1 + ahead) * step_ns]
    if not len(usable):
        raise TooFewBars(f"the bars have gaps everywhere: no {window + horizon} of them follow one another")
    return usable


def gather_windows(normalised: npt.NDArray[np.float32], places: Places, window: int) -> npt.NDArray[np.float32]:
    """Return (places, window, inputs): the rows up to and including each place, oldest first."""
    offsets = np.arange(-window + 1, 1, dtype=np.int64)
    windows: npt.NDArray[np.float32] = normalised[places[:, np.newaxis] + offsets[np.newaxis, :]]
    return windows
