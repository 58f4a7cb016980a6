"""Made-up 1m bars as rows of a series of klines, merged to its timeframe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from libs.history.series import Series, to_table
from libs.venues.history import COLUMNS

Reals = npt.NDArray[np.float64]
BAR_COLUMNS: tuple[str, ...] = tuple(name for name, _ in COLUMNS["klines"][1:])


def resample(series: Series, open_times_ms: npt.NDArray[np.int64], columns: Mapping[str, Reals]) -> Any:
    """Return the whole bars of a series' timeframe out of 1m bars without gaps as a table."""
    size = series.step_ms // 60_000
    starts = np.flatnonzero(open_times_ms % series.step_ms == 0)
    starts = starts[starts + size <= len(open_times_ms)]
    if not len(starts):
        return to_table(series, [])
    cuts = np.stack([starts, starts + size], axis=1).ravel()
    mergers = {"high": np.maximum, "low": np.minimum}
    merged: dict[str, Any] = {"open": columns["open"][starts], "close": columns["close"][starts + size - 1]}
    for name in BAR_COLUMNS:
        if name not in merged:
            values = np.append(columns[name], columns[name][-1])
            merged[name] = mergers.get(name, np.add).reduceat(values, cuts)[::2]
    merged["trades"] = merged["trades"].astype(np.int64)
    rows = (open_times_ms[starts], *(merged[name] for name in BAR_COLUMNS))
    return to_table(series, list(zip(*(column.tolist() for column in rows), strict=True)))
