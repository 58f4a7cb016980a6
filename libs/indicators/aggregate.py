"""Build higher-timeframe bars from base bars inside the batch engine, as exact as the service: sums of 1e-8.

A bucket is closed by the base bar that ends it, or, where that one is missing, by the first bar after it. What the file
begins in the middle of is dropped, since its open and volume are not known.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from libs.domain.ohlc import merge_prices
from libs.indicators import columns as col
from libs.indicators.arrays import Code, Row
from libs.indicators.compiling import compiled

BUCKET_NONE: Final = -1
_SUMS: Final = np.array(
    [col.ROW_VOLUME, col.ROW_QUOTE, col.ROW_TAKER, col.ROW_LIQUIDATION_BUY, col.ROW_LIQUIDATION_SELL], dtype=np.int64
)
SUM_COUNT: Final = len(_SUMS)
_FIRST_SILENT: Final = 3
_FLOAT_SUMS: Final = np.array([col.ROW_TRADES, col.ROW_FLOW, col.ROW_REALISED], dtype=np.int64)
_MEANS: Final = np.array(
    [col.ROW_SPREAD, col.ROW_DEPTH_1, col.ROW_DEPTH_5, col.ROW_DEPTH_10, col.ROW_MICROPRICE], dtype=np.int64
)
_LASTS: Final = np.array(
    [
        col.ROW_MARK,
        col.ROW_INDEX,
        col.ROW_FUNDING,
        col.ROW_NEXT_FUNDING,
        col.ROW_INTEREST,
    ],
    dtype=np.int64,
)
_FIRST_READING: Final = col.ROW_READINGS
PENDING_WIDTH: Final = col.ROW_WIDTH + SUM_COUNT + len(_MEANS)
COUNTER_WIDTH: Final = SUM_COUNT + 2
_E8: Final = 1e8
_SCALE: Final = 100_000_000
_INT64_LIMIT: Final = 9.2e18
_EXACT_LIMIT: Final = 2**53


@compiled
def begin_bucket(pending: Row, counters: Code, bucket: int, is_whole: bool) -> None:
    """Empty a bucket; `counters` holds its open time in seconds, whether it began at its start, and the exact sums."""
    pending[:] = math.nan
    for j in range(SUM_COUNT):
        pending[col.ROW_WIDTH + j] = 0.0
        counters[2 + j] = 0
    for j in range(len(_MEANS)):
        pending[col.ROW_WIDTH + SUM_COUNT + j] = 0.0
    counters[0] = bucket
    counters[1] = 1 if is_whole else 0


@compiled
def extend_bucket(pending: Row, counters: Code, row: Row) -> None:
    """Take one base bar into a bucket: sums of what flows, means of book statistics, the last of everything else.

    A sum of which a part is missing is missing, save for liquidations, where silence is none; a mean is over the bars
    that have it, the last is the last known. Readings are what the last bar knows.
    """
    is_first = pending[col.ROW_OPEN] != pending[col.ROW_OPEN]
    pending[col.ROW_OPEN], pending[col.ROW_HIGH], pending[col.ROW_LOW], pending[col.ROW_CLOSE] = merge_prices(
        is_first,
        (pending[col.ROW_OPEN], pending[col.ROW_HIGH], pending[col.ROW_LOW], pending[col.ROW_CLOSE]),
        (row[col.ROW_OPEN], row[col.ROW_HIGH], row[col.ROW_LOW], row[col.ROW_CLOSE]),
    )
    for j in _FLOAT_SUMS:
        pending[j] = row[j] if is_first else pending[j] + row[j]
    for j in range(SUM_COUNT):
        x = row[_SUMS[j]]
        if j >= _FIRST_SILENT:
            if x != x:
                continue
            pending[_SUMS[j]] = 0.0
        pending[col.ROW_WIDTH + j] += x
        if x == x and abs(pending[col.ROW_WIDTH + j]) * _E8 < _INT64_LIMIT:
            whole = math.floor(x)
            counters[2 + j] += np.int64(whole) * _SCALE + np.int64(np.rint((x - whole) * _E8))
    for j in range(len(_MEANS)):
        x = row[_MEANS[j]]
        if x == x:
            a = _MEANS[j]
            count = pending[col.ROW_WIDTH + SUM_COUNT + j]
            total = pending[a] if count > 0.0 else 0.0
            pending[a] = total + x
            pending[col.ROW_WIDTH + SUM_COUNT + j] = count + 1.0
    for j in _LASTS:
        if row[j] == row[j]:
            pending[j] = row[j]
    # A reading that is too old by the close is unknown, whatever was known before.
    for j in range(_FIRST_READING, col.ROW_WIDTH):
        pending[j] = row[j]


@compiled
def finish_bucket(pending: Row, counters: Code, close_time: float) -> None:
    """Turn the accumulated bucket into a bar row in place."""
    for j in range(SUM_COUNT):
        if j >= _FIRST_SILENT and pending[_SUMS[j]] != pending[_SUMS[j]]:
            continue
        total = pending[col.ROW_WIDTH + j]
        if abs(total) * _E8 < _INT64_LIMIT:
            # The double nearest to the exact sum, as whole over whole gives it in the stream.
            scaled = counters[2 + j]
            if scaled < _EXACT_LIMIT:
                total = np.float64(scaled) / _E8
            else:
                total = np.float64(scaled // _SCALE) + np.float64(scaled % _SCALE) / _E8
        elif _SUMS[j] != col.ROW_VOLUME:
            # Beyond 64 bits the bars service does not know it either.
            total = math.nan
        pending[_SUMS[j]] = total
    for j in range(len(_MEANS)):
        count = pending[col.ROW_WIDTH + SUM_COUNT + j]
        if count > 0.0:
            pending[_MEANS[j]] /= count
    pending[col.ROW_CLOSE_TIME] = close_time
