"""A market of trades as columns of integers, read from one Parquet file: whole, or where it is long, a part at a time.

Only where every trade is one that the row reader and the stream would let through as it stands: numbered, ascending in
number and time, without a jump. Otherwise the rows are read one by one, which says what is wrong with which of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from libs.domain.market import ClockTick, Trade
from libs.domain.numbers import NANOSECONDS, SCALE
from libs.runtime.errors import BadInput
from services.backtest.columns import scale_column
from services.backtest.equity import Ints
from services.ingestion.core.normaliser import make_tick
from services.ingestion.core.plausibility import MAX_NOTIONAL, PRICE_FACTOR

_COLUMNS = ("time", "price", "qty", "is_buyer_maker", "id")
_SAFE_NOTIONAL = 0.999 * MAX_NOTIONAL / SCALE / SCALE
_ROWS = 1_048_576
"""How many trades are held in memory at once."""
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class TradeColumns:
    """Trades of one instrument; `ticks` are the places before whose trades a second of market time begins."""

    instrument: str
    times: Ints
    price_e8: Ints
    quantity_e8: Ints
    is_buyer_maker: npt.NDArray[np.bool_]
    numbers: Ints
    ticks: Ints

    def __len__(self) -> int:
        return len(self.times)

    def parts(self) -> Iterator[TradeColumns]:
        """Yield the trades as the one part that they are."""
        yield self

    def trade(self, place: int) -> Trade:
        """Return a trade as the market event that the row reader makes of it."""
        number, event_time = int(self.numbers[place]), int(self.times[place])
        return Trade(
            instrument=self.instrument,
            event_id=f"{self.instrument}/trade/{number}",
            event_time=event_time,
            received_time=event_time,
            price_e8=int(self.price_e8[place]),
            quantity_e8=int(self.quantity_e8[place]),
            is_buyer_maker=bool(self.is_buyer_maker[place]),
            venue_trade_id=number,
        )

    def trades(self, first: int, last: int) -> Iterator[Trade]:
        """Yield the same trades from one place up to another, made in a fraction of the time."""
        instrument, new = self.instrument, object.__new__
        set_instrument, set_id, set_time, set_received, set_price, set_quantity, set_maker, set_number = _SETTERS
        columns = (self.times, self.price_e8, self.quantity_e8, self.is_buyer_maker, self.numbers)
        rows = zip(*(column[first:last].tolist() for column in columns), strict=True)
        for event_time, price_e8, quantity_e8, is_buyer_maker, number in rows:
            trade: Trade = new(Trade)
            set_instrument(trade, instrument)
            set_id(trade, f"{instrument}/trade/{number}")
            set_time(trade, event_time)
            set_received(trade, event_time)
            set_price(trade, price_e8)
            set_quantity(trade, quantity_e8)
            set_maker(trade, is_buyer_maker)
            set_number(trade, number)
            yield trade

    def tick(self, place: int) -> ClockTick:
        """Return the tick of the second in which a trade lies."""
        event_time = int(self.times[place])
        return make_tick(self.instrument, event_time // NANOSECONDS, event_time)


# A frozen value is made through these in half the time that its own `__init__` takes.
_SETTERS: tuple[Callable[[Any, Any], None], ...] = tuple(vars(Trade)[field.name].__set__ for field in fields(Trade))


@dataclass(frozen=True, slots=True)
class TradeFile:
    """A long file of trades, every one of which was looked at; `parts` holds some of them in memory at a time."""

    path: Path
    instrument: str
    count: int
    rows: int

    def __len__(self) -> int:
        return self.count

    def parts(self) -> Iterator[TradeColumns]:
        """Yield the trades in order, about `rows` at a time; each part but the first begins with the last trade of the
        one before. Raises `BadInput` where the file is no longer what was looked at.
        """
        for part in _read_parts(self.path, self.instrument, self.rows):
            if part is None:
                raise BadInput(f"{self.path} has changed since it was opened")
            yield part


def open_trades(path: Path, instrument: str, rows: int = _ROWS) -> TradeColumns | TradeFile | None:
    """Open a file of trades, read whole where it has no more than `rows`; None as for `read_trade_columns`."""
    if not _has_trades(path):
        return None
    count = pq.read_metadata(path).num_rows
    if count <= rows:
        return read_trade_columns(path, instrument)
    if any(part is None for part in _read_parts(path, instrument, rows)):
        return None
    return TradeFile(path, instrument, count, rows)


def read_trade_columns(path: Path, instrument: str) -> TradeColumns | None:
    """Read a file of trades whole; None where it is no such file or a trade needs to be looked at by itself."""
    if not _has_trades(path):
        return None
    try:
        table = pq.read_table(path, columns=list(_COLUMNS))
    except (pa.ArrowException, OSError):
        return None
    return _columns_of(table, instrument)


def _has_trades(path: Path) -> bool:
    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        names = set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError):
        return False
    return set(_COLUMNS) <= names and "open_time" not in names


def _read_parts(path: Path, instrument: str, rows: int) -> Iterator[TradeColumns | None]:
    """Yield the trades in parts; None where a part cannot be read or needs to be looked at, and nothing after it."""
    last: list[pa.RecordBatch] = []
    try:
        # Arrow keeps all that it reads ahead until the file is closed, so it reads nothing ahead.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
            for batch in file.iter_batches(rows, columns=list(_COLUMNS)):
                part = _columns_of(pa.Table.from_batches([*last, batch]), instrument)
                yield part
                if part is None:
                    return
                last = [batch.slice(len(batch) - 1)]
    except (pa.ArrowException, OSError):
        yield None


def _columns_of(table: pa.Table, instrument: str) -> TradeColumns | None:
    try:
        kind = table.column("time").type
        times = table.column("time").cast(pa.timestamp("ns", tz=kind.tz)).cast(pa.int64()).to_numpy()
        numbers = table.column("id").cast(pa.int64()).to_numpy()
        makers = table.column("is_buyer_maker").cast(pa.bool_()).to_numpy(zero_copy_only=False)
    except (pa.ArrowException, AttributeError):
        return None
    price_e8 = scale_column(table.column("price"), may_be_zero=False)
    quantity_e8 = scale_column(table.column("qty"), may_be_zero=False)
    if price_e8 is None or quantity_e8 is None or not len(times) or any(table.column(n).null_count for n in _COLUMNS):
        return None
    if not _is_plain(times, numbers, price_e8, quantity_e8):
        return None
    seconds = times // NANOSECONDS
    ticks = np.flatnonzero(np.diff(seconds) > 0) + 1
    return TradeColumns(instrument, times, price_e8, quantity_e8, np.asarray(makers, np.bool_), numbers, ticks)


def _is_plain(times: Ints, numbers: Ints, price_e8: Ints, quantity_e8: Ints) -> bool:
    steps = np.diff(numbers)
    if numbers[0] <= 0 or times[0] <= 0 or np.any(np.diff(times) < 0) or np.any(steps != 1):
        return False
    low, high = np.minimum(price_e8[1:], price_e8[:-1]), np.maximum(price_e8[1:], price_e8[:-1])
    if np.any(high > low * PRICE_FACTOR):
        return False
    return bool(np.all(price_e8 / SCALE * (quantity_e8 / SCALE) < _SAFE_NOTIONAL))
