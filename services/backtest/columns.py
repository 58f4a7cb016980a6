"""A market of bars as columns of integers, read whole from one Parquet file.

Only where every row is one that the row reader would accept as it stands; otherwise the rows are read one by one, which
says what is wrong with which of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from libs.domain.bars import TIMEFRAMES, Bar, bar_event_id
from libs.domain.market import ExchangeBar
from libs.domain.numbers import SCALE, quantize_e8, to_e8
from libs.venues.frames import kline_event_id
from services.backtest.equity import Ints
from services.ingestion.tables import timeframe_of

_PRICES = ("open", "high", "low", "close")
_OPTIONAL = ("quote_volume", "taker_buy_volume", "trades")
_CLEAR = 1e-3
"""A scaled value this near to a whole number has no more than eight decimals that count."""


@dataclass(frozen=True, slots=True)
class BarColumns:
    """Bars of one instrument and timeframe, ascending and without repeats; optional columns are None where absent."""

    instrument: str
    timeframe: str
    open_time: Ints
    open_e8: Ints
    high_e8: Ints
    low_e8: Ints
    close_e8: Ints
    volume_e8: Ints
    quote_volume_e8: Ints | None
    taker_buy_volume_e8: Ints | None
    trade_count: Ints | None

    def __len__(self) -> int:
        return len(self.open_time)

    @property
    def length_ns(self) -> int:
        """Length of a bar."""
        return TIMEFRAMES[self.timeframe]

    def slice(self, first: int, last: int) -> BarColumns:
        """Return the bars from one place up to another; the columns are views."""
        cut: dict[str, Any] = {
            field.name: value[first:last] if isinstance(value, np.ndarray) else value
            for field, value in ((field, getattr(self, field.name)) for field in fields(self))
        }
        return BarColumns(**cut)

    def exchange_bar(self, place: int) -> ExchangeBar:
        """Return a bar as the market event that the row reader makes of it."""
        open_time = int(self.open_time[place])
        close_time = open_time + self.length_ns
        return ExchangeBar(
            instrument=self.instrument,
            event_id=kline_event_id(self.instrument, self.timeframe, open_time),
            event_time=close_time,
            received_time=close_time,
            timeframe=self.timeframe,
            open_time=open_time,
            close_time=close_time,
            open_e8=int(self.open_e8[place]),
            high_e8=int(self.high_e8[place]),
            low_e8=int(self.low_e8[place]),
            close_e8=int(self.close_e8[place]),
            volume_e8=int(self.volume_e8[place]),
            quote_volume_e8=_at(self.quote_volume_e8, place),
            taker_buy_volume_e8=_at(self.taker_buy_volume_e8, place),
            trade_count=_at(self.trade_count, place),
            is_history=False,
        )

    def bars(self, first: int, last: int, history_before: int) -> list[Bar]:
        """Return closed bars as the bars service makes them of such a market; history before a time (ns).

        Each holds what nearly every strategy reads and takes the rest from the columns once it is asked for.
        """
        kind = self._lazy_bar()
        instrument, timeframe, length = self.instrument, self.timeframe, self.length_ns
        set_instrument, set_timeframe, set_event_time, set_close_time, set_history, *set_numbers = _EAGER
        set_opened, set_open, set_high, set_low, set_close, set_volume = set_numbers
        made: list[Bar] = []
        numbers = (self.open_time, self.open_e8, self.high_e8, self.low_e8, self.close_e8, self.volume_e8)
        for opened, *values in zip(*(column[first:last].tolist() for column in numbers), strict=True):
            bar = object.__new__(kind)
            closed = opened + length
            set_instrument(bar, instrument)
            set_timeframe(bar, timeframe)
            set_event_time(bar, closed)
            set_close_time(bar, closed)
            set_history(bar, closed < history_before)
            set_opened(bar, opened)
            set_open(bar, values[0])
            set_high(bar, values[1])
            set_low(bar, values[2])
            set_close(bar, values[3])
            set_volume(bar, values[4])
            made.append(bar)
        return made

    def _lazy_bar(self) -> type[LazyBar]:
        # A class of its own for these columns: a bar has no room for more than a bar's fields.
        return type("LazyBar", (LazyBar,), {"__slots__": (), "columns": self})

    def complete_bars(self, first: int, last: int, history_before: int) -> list[Bar]:
        """Return the same bars with all of their fields."""
        count = last - first
        absent = [None] * count
        instrument, timeframe, length = self.instrument, self.timeframe, self.length_ns
        columns = zip(
            self.open_time[first:last].tolist(),
            self.open_e8[first:last].tolist(),
            self.high_e8[first:last].tolist(),
            self.low_e8[first:last].tolist(),
            self.close_e8[first:last].tolist(),
            self.volume_e8[first:last].tolist(),
            *(
                absent if column is None else column[first:last].tolist()
                for column in (self.quote_volume_e8, self.taker_buy_volume_e8, self.trade_count)
            ),
            strict=True,
        )
        made = []
        for opened, *values in columns:
            closed = opened + length
            bar = Bar(
                instrument, bar_event_id(instrument, timeframe, opened), closed, timeframe, opened, closed, *values
            )
            if closed < history_before:
                object.__setattr__(bar, "is_history", True)
            made.append(bar)
        return made


class LazyBar(Bar):
    """A bar of `columns` that becomes a plain one as soon as a field is read that it does not hold yet."""

    __slots__ = ()
    columns: ClassVar[BarColumns]

    def __getattr__(self, name: str) -> Any:
        if name not in _BAR_FIELDS or type(self) is Bar:
            raise AttributeError(name)
        self.complete()
        return getattr(self, name)

    def complete(self) -> Bar:
        """Take over every field and be a plain bar from now on."""
        place = int(np.searchsorted(self.columns.open_time, self.open_time))
        (whole,) = self.columns.complete_bars(place, place + 1, 0)
        for field in _BAR_FIELDS - {"is_history"}:
            object.__setattr__(self, field, getattr(whole, field))
        object.__setattr__(self, "__class__", Bar)
        return self

    def __eq__(self, other: object) -> bool:
        return self.complete() == other

    def __hash__(self) -> int:
        return hash(self.complete())

    def __repr__(self) -> str:
        return repr(self.complete())


_BAR_FIELDS = frozenset(field.name for field in fields(Bar))
_EAGER: tuple[Callable[[Any, Any], None], ...] = tuple(
    vars(Bar)[name].__set__
    for name in (
        *("instrument", "timeframe", "event_time", "close_time", "is_history"),
        *("open_time", "open_e8", "high_e8", "low_e8", "close_e8", "volume_e8"),
    )
)


def _at(column: Ints | None, place: int) -> int | None:
    return None if column is None else int(column[place])


def read_columns(path: Path, instrument: str) -> BarColumns | None:
    """Read a file of bars whole; None where it is no such file or a row needs to be looked at by itself."""
    if path.suffix != ".parquet" or not path.is_file():
        return None
    try:
        names = set(pq.read_schema(path).names)
        if not {"open_time", "volume", *_PRICES} <= names:
            return None
        table = pq.read_table(path, columns=["open_time", "volume", *_PRICES, *(n for n in _OPTIONAL if n in names)])
        times = table.column("open_time")
        open_time = times.cast(pa.timestamp("ns", tz=times.type.tz)).cast(pa.int64()).to_numpy()
    except (pa.ArrowException, AttributeError, OSError):
        return None
    timeframe = timeframe_of(path)
    length = TIMEFRAMES[timeframe]
    if not len(open_time) or table.column("open_time").null_count:
        return None
    if np.any(open_time % length) or np.any(np.diff(open_time) <= 0):
        return None
    scaled: dict[str, Ints | None] = {}
    for name in ("volume", *_PRICES, *(n for n in _OPTIONAL[:2] if n in names)):
        scaled[name] = scale_column(table.column(name), may_be_zero=name not in _PRICES)
        if scaled[name] is None:
            return None
    opened, high, low, close = (scaled[name] for name in _PRICES)
    assert opened is not None and high is not None and low is not None and close is not None
    if np.any(low > np.minimum(opened, close)) or np.any(high < np.maximum(opened, close)):
        return None
    trades: Ints | None = None
    if "trades" in names:
        column = table.column("trades")
        if column.null_count or not pa.types.is_integer(column.type):
            return None
        trades = column.cast(pa.int64()).to_numpy()
    volume = scaled["volume"]
    assert volume is not None
    return BarColumns(
        instrument,
        timeframe,
        open_time,
        opened,
        high,
        low,
        close,
        volume,
        scaled.get("quote_volume"),
        scaled.get("taker_buy_volume"),
        trades,
    )


def scale_column(column: pa.ChunkedArray, *, may_be_zero: bool) -> Ints | None:
    """Scale floats by their shortest decimal form, rounded half-even to eight decimals, as the row reader does."""
    if column.null_count or not pa.types.is_floating(column.type):
        return None
    values: npt.NDArray[np.float64] = column.cast(pa.float64()).to_numpy()
    if not np.all(np.isfinite(values)) or np.any(values < 0.0) or (not may_be_zero and np.any(values == 0.0)):
        return None
    product = values * SCALE
    if np.any(product >= 2.0**50):
        # Beyond that a double no longer holds the eighth decimal for certain.
        return np.array([to_e8(quantize_e8(Decimal(repr(value)))) for value in values.tolist()], np.int64)
    nearest = np.rint(product)
    scaled = nearest.astype(np.int64)
    for place in np.flatnonzero(np.abs(product - nearest) > _CLEAR).tolist():
        scaled[place] = to_e8(quantize_e8(Decimal(repr(float(values[place])))))
    return scaled
