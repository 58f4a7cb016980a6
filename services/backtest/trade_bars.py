"""Bars of a Parquet file of trades, through the core of bars: a day of two million trades takes a second or two."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from libs.domain.bars import Bar, BarRevision
from libs.domain.events import Unhandleable
from libs.domain.market import ClockTick
from libs.domain.numbers import NANOSECONDS, SCALE
from libs.runtime.errors import BadInput
from services.bars.core import BarsCore
from services.bars.core.trades import TradeArrays

_COLUMNS = ("time", "price", "qty", "is_buyer_maker", "id")
_ROWS = 1 << 18
# A double holds an amount to 53 bits; what is farther off a whole number of 1e-8 than this was never one.
_SLACK = 0.02
_COVERED = b"perpflow.covered"
_MINUTE = 60 * NANOSECONDS


def bars_of_trades(
    path: Path, instrument: str, timeframes: Sequence[str], advance: Callable[[int], None] = lambda _rows: None
) -> Iterator[Bar | BarRevision]:
    """Yield the bars of a file of trades in order of time, revisions behind them. Raises `BadInput`.

    The minutes at its edges are left out where the file does not say that it covers them.
    """
    core = BarsCore(timeframes)
    try:
        file = pq.ParquetFile(path)
        missing = [name for name in _COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise BadInput(f"{path} has no column {', '.join(missing)}; trades need {', '.join(_COLUMNS)}")
        covered = orjson.loads((file.metadata.metadata or {}).get(_COVERED, b"[]"))
        is_first = True
        for batch in file.iter_batches(batch_size=_ROWS, columns=list(_COLUMNS)):
            trades = _arrays_of(batch, path)
            if is_first and len(trades.event_times):
                is_first = False
                opened = int(trades.event_times[0]) // _MINUTE * _MINUTE
                if any(begin * 1_000_000 <= opened < end * 1_000_000 for begin, end in covered):
                    core.begin(instrument, opened)
            yield from core.handle_trades(instrument, trades)
            advance(len(batch))
        if covered and not is_first:
            ended = covered[-1][1] * 1_000_000 + NANOSECONDS
            yield from core.handle(ClockTick(instrument, f"{instrument}/tick/{ended // NANOSECONDS}", ended, ended))
    except (pa.ArrowInvalid, OSError) as error:
        raise BadInput(f"{path} cannot be read as Parquet: {error}") from error
    except Unhandleable as error:
        raise BadInput(f"{path}: {error}; correct the file") from error


def _arrays_of(batch: pa.RecordBatch, path: Path) -> TradeArrays:
    for name in _COLUMNS:
        if batch.column(name).null_count:
            raise BadInput(f"{path} has rows without {name}; correct the file")
    times = batch.column("time").cast(pa.timestamp("ns", "UTC")).cast(pa.int64()).to_numpy()
    return TradeArrays(
        np.ascontiguousarray(times),
        _to_e8(batch.column("price"), "price", path),
        _to_e8(batch.column("qty"), "qty", path),
        np.ascontiguousarray(batch.column("is_buyer_maker").to_numpy(zero_copy_only=False)).astype(np.bool_),
        np.ascontiguousarray(batch.column("id").cast(pa.int64()).to_numpy()),
    )


def _to_e8(column: pa.Array, name: str, path: Path) -> npt.NDArray[np.int64]:
    values = column.cast(pa.float64()).to_numpy(zero_copy_only=False) * SCALE
    whole = np.rint(values)
    slack = np.maximum(_SLACK, np.abs(values) * 2.0**-51)
    if not (np.abs(values - whole) <= slack).all():
        at = int(np.flatnonzero(~(np.abs(values - whole) <= slack))[0])
        raise BadInput(f"{path}: {name} {values[at] / SCALE!r} has more than eight decimals or is no number")
    return np.ascontiguousarray(whole.astype(np.int64))
