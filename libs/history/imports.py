"""Reads files of others as rows of a series: archives of exchanges, CSV, Parquet. Its columns tell what a file is of.

Known are data.binance.vision's klines, aggTrades, trades, metrics and funding rates, Bybit's public trade files, and
tables with the columns of a kind. A name such as BTCUSDT-1m-2024-10.zip tells symbol and timeframe.
"""

from __future__ import annotations

import gzip
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pv
import pyarrow.parquet as pq

from libs.history.errors import HistoryError
from libs.history.series import Series, make_series
from libs.venues.history import COLUMNS, TIMED, TIMEFRAME_MS, Kind

_NAME = re.compile(r"(?:^|[-_])([A-Z0-9]{2,}(?:USDT|USDC|USD|BUSD|PERP))(?:$|[-_.]|(?=\d{4}-\d\d))")
_DAY_MS = 86_400_000
# Row numbers of a day stand for the numbers that Bybit does not give its trades.
_TRADES_A_DAY = 100_000_000
_SMALLEST_MS = 1_000_000_000_000


@dataclass(frozen=True, slots=True)
class _Form:
    """A form of table: the columns that tell it, those of the series by name, and what makes its rows."""

    name: str
    kind: Kind
    columns: Mapping[str, str]
    finish: Callable[[dict[str, Any]], dict[str, Any]] = lambda columns: columns

    def fits(self, names: Sequence[str]) -> bool:
        return set(self.columns.values()) <= set(names)


def _finish_bybit_trades(columns: dict[str, Any]) -> dict[str, Any]:
    seconds = pc.cast(columns["time"], pa.float64())
    times = pc.cast(pc.round(pc.multiply(seconds, 1000.0)), pa.int64())
    order = pc.sort_indices(times)
    times = times.take(order)
    days = pc.divide(times, _DAY_MS)
    numbers = pa.array(range(1, len(times) + 1), pa.int64())
    columns = {name: column.take(order) for name, column in columns.items()}
    maker = pc.equal(pc.utf8_lower(columns["is_buyer_maker"]), "sell")
    return {**columns, "time": times, "is_buyer_maker": maker, "id": pc.add(pc.multiply(days, _TRADES_A_DAY), numbers)}


_PRICES = {name: name for name in ("open", "high", "low", "close")}
_FORMS: tuple[_Form, ...] = (
    _Form(
        "klines of data.binance.vision",
        "klines",
        {
            **_PRICES,
            "open_time": "open_time",
            "volume": "volume",
            "quote_volume": "quote_volume",
            "trades": "count",
            "taker_buy_volume": "taker_buy_volume",
        },
    ),
    _Form(
        "aggregate trades of data.binance.vision",
        "trades",
        {
            "id": "agg_trade_id",
            "price": "price",
            "qty": "quantity",
            "time": "transact_time",
            "is_buyer_maker": "is_buyer_maker",
        },
    ),
    _Form(
        "trades of data.binance.vision",
        "trades",
        {"id": "id", "price": "price", "qty": "qty", "time": "time", "is_buyer_maker": "is_buyer_maker"},
    ),
    _Form(
        "metrics of data.binance.vision",
        "open-interest",
        {
            "time": "create_time",
            "open_interest": "sum_open_interest",
            "open_interest_value": "sum_open_interest_value",
        },
    ),
    _Form("funding of data.binance.vision", "funding", {"time": "calc_time", "rate": "last_funding_rate"}),
    _Form(
        "trades of Bybit",
        "trades",
        {"time": "timestamp", "price": "price", "qty": "size", "is_buyer_maker": "side"},
        _finish_bybit_trades,
    ),
    _Form("klines", "klines", {**_PRICES, "open_time": "open_time", "volume": "volume"}),
    _Form("mark prices", "mark", {**_PRICES, "open_time": "open_time"}),
    _Form("funding", "funding", {"time": "time", "rate": "rate"}),
    _Form("open interest", "open-interest", {"time": "time", "open_interest": "open_interest"}),
)
# data.binance.vision wrote no header into its older files.
_OLD_KLINES = (
    *("open_time", "open", "high", "low", "close", "volume", "close_time", "quote_volume", "count"),
    *("taker_buy_volume", "taker_buy_quote_volume", "ignore"),
)
_OLD_AGGREGATES = (
    *("agg_trade_id", "price", "quantity", "first_trade_id", "last_trade_id", "transact_time", "is_buyer_maker"),
)
_OLD_TRADES = ("id", "price", "qty", "quote_qty", "time", "is_buyer_maker")


@dataclass(frozen=True, slots=True)
class Imported:
    """A file's rows, the series they are of, and in which form they were."""

    series: Series
    table: Any
    form: str


def read_file(path: Path, *, venue: str, symbol: str = "", kind: str = "", timeframe: str = "") -> Imported:
    """Read a file. What is not given is read from its columns and name; raises `HistoryError` where neither has it."""
    table = _read_table(path)
    fitting = [form for form in _FORMS if form.fits(table.column_names) and kind in ("", form.kind)]
    if not fitting:
        wanted = f"the columns of {kind}" if kind else "the columns of any known form"
        raise HistoryError(
            f"{path} has the columns {', '.join(table.column_names)}, which are not {wanted}; known are "
            f"{', '.join(form.name for form in _FORMS)}"
        )
    form = fitting[0]
    if form.kind == "klines" and not kind and "mark" in path.name.lower():
        form = next(each for each in _FORMS if each.kind == "mark")
    columns = {
        name: table.column(form.columns.get(name, name)).combine_chunks()
        for name, _ in COLUMNS[form.kind]
        if form.columns.get(name, name) in table.column_names
    }
    try:
        columns = form.finish(columns)
        arrays = _arrays_of(form.kind, columns, len(table))
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise HistoryError(f"{path}, read as {form.name}: {error}; correct the file") from None
    times = arrays[0].cast(pa.int64())
    if form.kind in TIMED and not timeframe:
        timeframe = _timeframe_of(times, path)
    found = _NAME.search(path.name.split(".")[0])
    symbol = symbol or (found[1] if found else "")
    if not symbol:
        raise HistoryError(f"the name {path.name} tells no symbol; give it as --symbol BTCUSDT")
    series = make_series(venue, symbol, form.kind, timeframe)
    return Imported(series, pa.Table.from_arrays(arrays, schema=series.schema).sort_by(series.key_column), form.name)


def _arrays_of(kind: Kind, columns: Mapping[str, Any], count: int) -> list[Any]:
    arrays = []
    for name, column_type in COLUMNS[kind]:
        column = columns.get(name)
        if column is None:
            arrays.append(pa.nulls(count, {"real": pa.float64(), "count": pa.int64()}[column_type]))
        elif column_type == "time":
            arrays.append(_to_times(column))
        elif column_type == "flag":
            arrays.append(column.cast(pa.bool_()))
        else:
            arrays.append(column.cast(pa.float64() if column_type == "real" else pa.int64()))
    return arrays


def _to_times(column: Any) -> Any:
    """Return times as ms since epoch UTC: of numbers in ms or µs, or of timestamps."""
    kind = pa.timestamp("ms", "UTC")
    if pa.types.is_timestamp(column.type):
        if column.type.tz is None:
            column = column.cast(pa.timestamp(column.type.unit, "UTC"))
        return column.cast(kind, safe=False)
    numbers = column.cast(pa.int64())
    first = numbers[0].as_py() if len(numbers) else None
    if first is not None and first >= 1000 * _SMALLEST_MS:
        numbers = pc.divide(numbers, 1000)
    elif first is not None and first < _SMALLEST_MS:
        raise pa.ArrowInvalid(f"its times begin with {first}, which are no milliseconds since 1970")
    return numbers.cast(kind)


def _timeframe_of(times: Any, path: Path) -> str:
    if len(times) > 1:
        ordered = times.take(pc.sort_indices(times))
        steps = pc.subtract(ordered.slice(1), ordered.slice(0, len(ordered) - 1))
        step = pc.min(pc.drop_null(steps)).as_py()
        for name, length in TIMEFRAME_MS.items():
            if step == length:
                return name
    raise HistoryError(f"the rows of {path} tell no timeframe; give it as --timeframe 1m")


def _read_table(path: Path) -> Any:
    try:
        if path.suffix == ".parquet":
            return pq.ParquetFile(path).read()
        with _opened(path) as stream:
            return _read_csv(stream)
    except FileNotFoundError:
        raise HistoryError(f"{path} does not exist") from None
    except (pa.ArrowInvalid, OSError, zipfile.BadZipFile, EOFError) as error:
        raise HistoryError(f"{path} cannot be read: {error}; fetch it again") from None


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".csv")]
            if len(names) != 1:
                raise HistoryError(f"{path} holds {len(names)} CSV files; a file of an archive holds one")
            with archive.open(names[0]) as stream:
                yield stream
    elif path.suffix == ".gz":
        with gzip.open(path, "rb") as stream:
            yield cast("IO[bytes]", stream)
    elif path.suffix == ".csv":
        with path.open("rb") as stream:
            yield stream
    else:
        raise HistoryError(f"{path} is no .zip, .csv, .csv.gz or .parquet file")


def _read_csv(stream: IO[bytes]) -> Any:
    data = stream.read()
    first = data[: data.find(b"\n") if b"\n" in data else len(data)].decode(errors="replace").strip()
    cells = first.split(",")
    names: tuple[str, ...] | None = None
    if first and first[0].isdigit():
        names = {12: _OLD_KLINES, 7: _OLD_AGGREGATES, 6: _OLD_TRADES}.get(len(cells))
        if names is None:
            raise HistoryError(f"the CSV has no header and {len(cells)} columns, which are of no known form")
    options = pv.ReadOptions(column_names=names)
    convert = pv.ConvertOptions(true_values=["true", "True", "1"], false_values=["false", "False", "0"])
    return pv.read_csv(io.BytesIO(data), read_options=options, convert_options=convert)
