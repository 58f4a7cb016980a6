"""Makes bars of every recorded capture there is and holds them against the exchange's klines: `make captures`.

The table names each file and symbol: its events, what was quarantined, its whole minutes; whether their bars are the
sums of its trades, taken from the lines by another reader; and whether they equal klines, of a Parquet file of the same
market or of the capture itself. What cannot be compared says why. Exit code 1: something differs.
"""

from __future__ import annotations

import csv
import gzip
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq

from libs.domain.bars import Bar
from libs.domain.events import DeadInput
from libs.domain.market import ClockTick, MarketEvent, Trade
from libs.domain.numbers import NANOSECONDS, SCALE
from libs.runtime.errors import BadInput
from services.bars.core import BarsCore
from services.ingestion.recordings import Recording
from tests.kit.platform import SHARED
from tests.kit.played_market import MINUTE_MS, MinuteOfTrades

MARKET = SHARED / "data" / "market"
_MINUTE = 60 * NANOSECONDS
Fields = tuple[Any, ...]

# Every file, the instruments in it, and the prefix of the Parquet files with klines of their market.
FILES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "capture/binance_spot_BTCUSDT_20240808.ns-jsonl.gz": ("binance_spot", ("BTCUSDT.BINANCE_SPOT",)),
    "capture/binance_um_BTCUSDT_20240808.ns-jsonl.gz": ("binance_um", ("BTCUSDT.BINANCE",)),
    "capture/binance_um_BTCUSDT_markprice_20260930.jsonl": ("binance_um", ("BTCUSDT.BINANCE",)),
    "capture/bybit_linear_BTCUSDT_tickers_20260930.jsonl": ("bybit_linear", ("BTCUSDT.BYBIT",)),
    "capture/bybit_linear_XRPUSDT_orderbook500_20241201.jsonl.gz": ("bybit_linear", ("XRPUSDT.BYBIT",)),
    "capture/cryptofeed/BINANCE.http.0.0.gz": ("binance_spot", ("NKNUSDT.BINANCE_SPOT",)),
    "capture/cryptofeed/BINANCE.ws.1.0.gz": ("binance_spot", ("NKNUSDT.BINANCE_SPOT", "LRCBTC.BINANCE_SPOT")),
    "capture/cryptofeed/BINANCE_FUTURES.0.gz": ("binance_um", ("SUSHIUSDT.BINANCE",)),
    "capture/cryptofeed/BINANCE_FUTURES.http.0.0.gz": ("binance_um", ("SUSHIUSDT.BINANCE",)),
    "capture/cryptofeed/BINANCE_FUTURES.ws.1.0.gz": (
        "binance_um",
        ("SUSHIUSDT.BINANCE", "AKROUSDT.BINANCE", "KEEPUSDT.BINANCE", "CTKUSDT.BINANCE"),
    ),
    "capture/cryptofeed/BYBIT.0.gz": ("bybit_linear", ("BTCUSDT.BYBIT",)),
    "capture/cryptofeed/BYBIT.ws.25.0.gz": ("bybit_linear", ("ETHUSDT.BYBIT",)),
    **{
        f"capture/binance_data_processor/test_{form}_binance_{stream}_stream_usd_m_futures_trxusdt_04-03-2025.csv.gz": (
            "binance_um",
            ("TRXUSDT.BINANCE",),
        )
        for form in ("positive", "negative")
        for stream in ("trade", "difference_depth")
    },
    "trades/binance_spot_BTCUSDT_20240808_trades.parquet": ("binance_spot", ("BTCUSDT.BINANCE_SPOT",)),
    "trades/binance_spot_BTCUSDT_trades_20210108.parquet": ("binance_spot", ("BTCUSDT.BINANCE_SPOT",)),
    "trades/binance_um_APEUSDT_aggTrades_20241018.parquet": ("binance_um", ("APEUSDT.BINANCE",)),
    "trades/binance_um_BTCUSDT_20240808_trades.parquet": ("binance_um", ("BTCUSDT.BINANCE",)),
}


@dataclass(slots=True)
class Compared:
    """What became of one instrument of a file; `klines` says against what its bars were held, or why against none."""

    file: str
    instrument: str
    events: int = 0
    quarantined: int = 0
    first_reason: str = ""
    bars: list[Bar] = field(default_factory=list)
    trades: list[Trade] = field(default_factory=list)
    summed: int = 0
    klines: str = ""
    differences: list[str] = field(default_factory=list)

    def row(self) -> str:
        """Return its row of the table."""
        cells = (self.file, self.instrument, self.events, self.quarantined, len(self.bars), self.summed, self.klines)
        return f"| {' | '.join(map(str, cells))} |"


def compare(file: str, kind: str, instrument: str) -> Compared:
    """Read a file as `perpflow up --market recorded:FILE` does, make its bars and compare them."""
    found = Compared(file, instrument)
    try:
        core = BarsCore()
        for event in Recording(MARKET / file, instrument=instrument).events():
            if isinstance(event, DeadInput):
                found.quarantined += 1
                found.first_reason = found.first_reason or event.reason
                continue
            found.events += 1
            if isinstance(event, Trade):
                found.trades.append(event)
            found.bars += (bar for bar in core.handle(event) if isinstance(bar, Bar) and bar.timeframe == "1m")
    except BadInput as error:
        found.klines = f"not read: {str(error).replace(f'{MARKET / file}', 'it')[:200]}"
        return found
    _compare_sums(found)
    _compare_klines(found, kind)
    return found


def _compare_sums(found: Compared) -> None:
    sums = _sum_trades(MARKET / found.file, found.instrument.partition(".")[0])
    for bar in found.bars:
        minute = sums[bar.open_time // 1_000_000]
        expected = (*minute.prices, minute.volume, minute.quote_volume, minute.taker_buy_volume)
        ours = (*_prices(bar), bar.volume_e8, bar.quote_volume_e8, bar.taker_buy_volume_e8)
        if ours != tuple(value * SCALE for value in expected) or bar.trade_count != minute.count:
            found.differences.append(f"{found.file} {found.instrument} {bar.open_time}: {ours} are not {expected}")
        else:
            found.summed += 1


def _prices(bar: Bar) -> tuple[int, int, int, int]:
    return bar.open_e8, bar.high_e8, bar.low_e8, bar.close_e8


def _sum_trades(path: Path, symbol: str) -> Mapping[int, MinuteOfTrades]:
    minutes: dict[int, MinuteOfTrades] = {}
    seen = -1
    for number, at_ms, price, quantity, is_buyer_maker in _raw_trades(path, symbol):
        if number > seen:
            minute = minutes.setdefault(at_ms - at_ms % MINUTE_MS, MinuteOfTrades())
            minute.add(Decimal(price), Decimal(quantity), is_buyer_maker=is_buyer_maker)
            seen = number
    return minutes


def _raw_trades(path: Path, symbol: str) -> Iterator[tuple[int, int, str, str, bool]]:
    if path.suffix == ".parquet":
        for number, row in enumerate(pq.read_table(path).to_pylist()):
            at_ms = round(row["time"].timestamp() * 1000)
            yield row.get("id", number), at_ms, repr(row["price"]), repr(row["qty"]), row["is_buyer_maker"]
        return
    if ".csv" in path.suffixes:
        with gzip.open(path, "rt") as file:
            for row in csv.DictReader(line for line in file if not line.startswith("#")):
                # Without a price, or beside the book, it is no trade of the market.
                if row.get("XUnknownParameter") != "MARKET" or not Decimal(row["Price"]):
                    continue
                is_maker = row["IsBuyerMarketMaker"] == "1"
                yield int(row["TradeId"]), int(row["TransactionTime"]), row["Price"], row["Quantity"], is_maker
        return
    for data in _raw_frames(path, symbol):
        if data.get("e") in ("trade", "aggTrade"):
            yield data["a" if data["e"] == "aggTrade" else "t"], data["T"], data["p"], data["q"], data["m"]


def _raw_frames(path: Path, symbol: str) -> Iterator[Mapping[str, Any]]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            _, brace, rest = line.partition(b"{")
            document = orjson.loads(brace + rest) if brace and line[:4] != b"http" and line[:3] != b"wss" else {}
            data = document.get("data", document)
            if isinstance(data, dict) and data.get("s") == symbol:
                yield data


def _compare_klines(found: Compared, kind: str) -> None:
    symbol = found.instrument.partition(".")[0]
    if not found.trades:
        found.klines = "no trades in it, of which bars are made"
        return
    running = 0
    if not {".parquet", ".csv"} & {*(MARKET / found.file).suffixes}:
        running = _compare_running_klines(found, symbol)
    if running:
        found.klines = f"{running} klines of the capture itself, each at its last trade"
        return
    if not found.bars:
        first, last = (each.event_time // NANOSECONDS for each in (found.trades[0], found.trades[-1]))
        found.klines = f"no whole minute in it: its trades last {last - first} s"
        return
    klines = _read_klines(f"{kind}_{symbol}_1m_", {bar.open_time for bar in found.bars})
    if not klines:
        found.klines = f"no 1m klines of {kind} {symbol} of that time are among the recorded data"
        return
    equal = 0
    for bar in found.bars:
        if bar.open_time in klines:
            if (*_prices(bar), bar.volume_e8) == klines[bar.open_time]:
                equal += 1
            else:
                found.differences.append(f"{found.file}: {bar} is not the kline {klines[bar.open_time]}")
    found.klines = f"{equal} of {len(klines)} equal the exchange's"


def _read_klines(prefix: str, open_times: set[int]) -> Mapping[int, Fields]:
    found: dict[int, Fields] = {}
    for path in sorted((MARKET / "ohlcv").glob(f"{prefix}*.parquet")):
        table = pq.read_table(path, columns=["open_time", "open", "high", "low", "close", "volume"])
        times = table["open_time"].cast("int64").to_pylist()
        for row, at_ms in enumerate(times):
            if at_ms * 1_000_000 in open_times:
                values = (table[name][row].as_py() for name in ("open", "high", "low", "close", "volume"))
                found[at_ms * 1_000_000] = tuple(Decimal(repr(value)) * SCALE for value in values)
    return found


def _compare_running_klines(found: Compared, symbol: str) -> int:
    """Compare klines that the venue sent within a minute with the bar of the trades up to their last one."""
    raw = [*_raw_frames(MARKET / found.file, symbol)]
    last_of = {data["a"]: data["l"] for data in raw if data.get("e") == "aggTrade"}
    first_of = {data["f"] for data in raw if data.get("e") == "aggTrade"}
    compared = 0
    for data in raw:
        kline = data.get("k")
        # One that ends within an aggregate trade, or began before the capture, has other trades.
        if kline is None or kline["L"] not in last_of.values() or kline["f"] not in first_of:
            continue
        trades = [trade for trade in found.trades if last_of[trade.venue_trade_id] <= kline["L"]]
        bar = _bar_of(trades, kline["t"] * 1_000_000)
        names = ("o", "h", "l", "c", "v", "q", "V")
        expected = tuple(Decimal(kline[name]) * SCALE for name in names)
        ours = () if bar is None else (*_prices(bar), bar.volume_e8, bar.quote_volume_e8, bar.taker_buy_volume_e8)
        if ours != expected:
            found.differences.append(f"{found.file} {symbol} at trade {kline['L']}: {ours} is not the kline {expected}")
        compared += 1
    return compared


def _bar_of(trades: list[Trade], open_time: int) -> Bar | None:
    core = BarsCore()
    core.begin(trades[0].instrument, open_time)
    end = open_time + _MINUTE + NANOSECONDS
    tick = ClockTick(trades[0].instrument, "tick", end, end)
    events: list[MarketEvent] = [*(trade for trade in trades if trade.event_time >= open_time), tick]
    bars = [bar for event in events for bar in core.handle(event) if isinstance(bar, Bar) and bar.timeframe == "1m"]
    return next((bar for bar in bars if bar.open_time == open_time), None)


def main() -> int:
    """Print the table; the answer is 1 where something differs or a file is not named here."""
    if not MARKET.is_dir():
        print(f"no recorded market data at {MARKET}; set PERPFLOW_SHARED to a folder that has it")
        return 2
    print("| file | instrument | events | quarantined | minutes | equal to their trades | klines |")
    print("|---|---|---:|---:|---:|---:|---|")
    there = {f"{path.relative_to(MARKET)}" for path in MARKET.glob("capture/**/*") if path.is_file()}
    differences = [f"{file} is not named in tests/soak/captures.py" for file in sorted(there - FILES.keys())]
    for file, (kind, instruments) in FILES.items():
        for instrument in instruments:
            found = compare(file, kind, instrument)
            print(found.row(), flush=True)
            differences += found.differences
    for each in differences:
        sys.stderr.write(f"{each}\n")
    return 1 if differences else 0


if __name__ == "__main__":
    raise SystemExit(main())
