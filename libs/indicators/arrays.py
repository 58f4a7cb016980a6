"""The array types that compiled steps share."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Memory: TypeAlias = npt.NDArray[np.float64]
"""All state of an engine, flat: counters, rings, indicator state, constants, latest values."""

Code: TypeAlias = npt.NDArray[np.int64]
"""A compiled feature set, flat: header, timeframe records, instructions."""

Row: TypeAlias = npt.NDArray[np.float64]
"""One bar in the order of `libs.indicators.columns.ROW_COLUMNS`."""

Values: TypeAlias = npt.NDArray[np.float64]
"""One number a feature, NaN where it is not known."""
