"""Archives of exchanges and CSV as a market: the same run as over Parquet, and nothing left behind."""

from __future__ import annotations

import gc
import gzip
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq
import pytest

from libs.domain.market import ExchangeBar, Trade
from libs.runtime.errors import BadInput
from services.backtest.inputs import open_recording
from services.backtest.options import BacktestOptions, parse_strategies
from services.backtest.run import run_backtest
from tests.unit.backtest.test_backtest_run import bars_file
from tests.unit.backtest.test_quiet_trades import random_trades

BTC = "BTCUSDT.BINANCE"
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)
ROW = "1704067200000,42000.1,42010,41990,42005,1.5,1704067259999,63000,10,0.5,21000,0"
NEXT = "1704067260000,42005,42015,42000,42010,2.5,1704067319999,105000,12,1.5,63000,0"


def a_zip(path: Path, *lines: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(path.with_suffix(".csv").name, "\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("lines", [(HEADER, ROW, NEXT), (ROW, NEXT)])
def test_zip_of_klines_is_a_market_of_bars(lines: tuple[str, ...], tmp_path: Path) -> None:
    path = a_zip(tmp_path / "BTCUSDT-1m-2024-01-01.zip", *lines)
    market = open_recording(path, instrument=BTC, history=None, history_bars=0)
    bars = [event for event in market.events if isinstance(event, ExchangeBar)]
    assert [(bar.open_time // 10**6, bar.close_e8, bar.trade_count) for bar in bars] == [
        (1704067200000, 4200500000000, 10),
        (1704067260000, 4201000000000, 12),
    ]
    assert (market.timeframe, market.description["name"]) == ("1m", path.name)
    assert market.columns is not None


def test_run_over_csv_is_the_run_over_parquet(tmp_path: Path) -> None:
    options = BacktestOptions(BTC, strategies=parse_strategies(["ema_cross"]))
    for parquet in (bars_file(tmp_path / "bars.parquet"), random_trades(tmp_path / "trades.parquet", 2000)):
        table = pq.read_table(parquet)
        if "time" in table.column_names:
            # Archives count trades in milliseconds.
            table = table.set_column(0, "time", table.column("time").cast(pa.timestamp("ms", "UTC"), safe=False))
            pq.write_table(table, parquet)
        csv = parquet.with_suffix(".csv")
        pv.write_csv(table, csv)
        records = [
            run_backtest(open_recording(path, instrument=BTC, history=None, history_bars=0), options).record
            for path in (parquet, csv)
        ]
        assert records[0].equity == records[1].equity
        assert records[0].prices == records[1].prices
        assert records[0].fills == records[1].fills


def test_days_of_an_archive_are_one_market_and_go_with_it(tmp_path: Path) -> None:
    a_zip(tmp_path / "BTCUSDT-1m-2024-01-01.zip", ROW, NEXT)
    later = [line.replace("17040672", "17041536").replace("17040673", "17041537") for line in (ROW, NEXT)]
    a_zip(tmp_path / "BTCUSDT-1m-2024-01-02.zip", *later)
    market = open_recording(tmp_path, instrument=BTC, history=None, history_bars=0)
    assert sum(isinstance(event, ExchangeBar) for event in market.events) == 4
    assert market.converted is not None
    folder = market.converted.path
    assert folder.is_dir()
    del market
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("ETHUSDT-1m-2024-01-01.zip", (ROW, NEXT), "is of ETHUSDT, not of BTCUSDT"),
        ("BTCUSDT-x-2024-01-01.zip", ("a,b", "1,2"), "which are not the columns of any known form"),
        ("BTCUSDT-f.zip", ("calc_time,last_funding_rate", "1704067200000,0.0001"), "holds funding; a market is"),
    ],
)
def test_archive_of_something_else_is_refused(name: str, lines: tuple[str, ...], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        open_recording(a_zip(tmp_path / name, *lines), instrument=BTC, history=None, history_bars=0)


def test_broken_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m-2024-01-01.zip"
    path.write_bytes(b"no zip")
    with pytest.raises(BadInput, match=r"cannot be read: .*; fetch it again"):
        open_recording(path, instrument=BTC, history=None, history_bars=0)


def test_a_recorders_csv_is_a_recording_and_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "recorded.csv.gz"
    with gzip.open(path, "wt") as file:
        file.write(
            "# made by a test\nTimestampOfReceive,Stream,EventType,EventTime,TransactionTime,Symbol,TradeId,Price,"
        )
        file.write("Quantity,IsBuyerMarketMaker,XUnknownParameter\n")
        for number in (1, 2):
            at = 1_741_046_400_000 + number
            file.write(f"{at + 5},btcusdt@trade,trade,{at},{at},BTCUSDT,{number},60000,0.01,1,MARKET\n")
    market = open_recording(path, instrument=BTC, history=None, history_bars=0)
    assert [event.venue_trade_id for event in market.events if isinstance(event, Trade)] == [1, 2]
