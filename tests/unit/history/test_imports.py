"""Files of archives and of others become the same tables, each said to be what it is."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.history.errors import HistoryError
from libs.history.imports import read_file
from tests.kit.platform import SHARED

DAY_MS = 86_400_000
RECORDED = SHARED / "data" / "market"
BYBIT = """timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional
1730073601.5000,BTCUSDT,Sell,0.250,67990.10,MinusTick,b-2,1,0.25,1
1730073600.2501,BTCUSDT,Buy,0.001,67992.70,PlusTick,a-1,1,0.001,1
"""
KLINES = """1730073600000,67992.70,68094.60,67804.70,67835.20,5179.117,1730077199999,351923638.03910,85022,2415.052,1,0
1730077200000,67835.20,67886.40,67711.00,67720.00,4148.330,1730080799999,281179776.72190,63878,2028.077,1,0
"""


def test_klines_of_an_archive_without_a_header_are_read(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h-2024-10-28.csv"
    path.write_text(KLINES)
    found = read_file(path, venue="binance")
    assert str(found.series) == "BTCUSDT.BINANCE klines 1h"
    assert found.table.schema == found.series.schema
    assert found.table.column("trades").to_pylist() == [85022, 63878]
    assert found.table.column("taker_buy_volume").to_pylist() == [2415.052, 2028.077]


def test_trades_of_bybit_are_numbered_in_their_order(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT2024-10-28.csv.gz"
    path.write_bytes(gzip.compress(BYBIT.encode()))
    found = read_file(path, venue="bybit")
    assert str(found.series) == "BTCUSDT.BYBIT trades"
    rows = found.table.to_pylist()
    assert [row["qty"] for row in rows] == [0.001, 0.25]
    assert [row["is_buyer_maker"] for row in rows] == [False, True]
    assert [round(row["time"].timestamp() * 1000) for row in rows] == [1730073600250, 1730073601500]
    day = 1730073600250 // DAY_MS * 100_000_000
    assert [row["id"] for row in rows] == [day + 1, day + 2]


def test_metrics_of_an_archive_are_open_interest(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-metrics-2024-10-28.csv"
    path.write_text(
        "create_time,symbol,sum_open_interest,sum_open_interest_value\n"
        "2024-10-28 00:05:00,BTCUSDT,80000.5,5.4e9\n2024-10-28 00:10:00,BTCUSDT,80001.5,5.4e9\n"
    )
    found = read_file(path, venue="binance")
    assert str(found.series) == "BTCUSDT.BINANCE open-interest 5m"
    assert found.table.column("open_interest").to_pylist() == [80000.5, 80001.5]


def test_times_in_microseconds_are_told_from_those_in_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1h-2025-01-01.csv"
    path.write_text(KLINES.replace("00000,", "00000000,", 1).replace("1730077200000", "1730077200000000"))
    times = read_file(path, venue="binance").table.column("open_time").cast(pa.int64()).to_pylist()
    assert times == [1730073600000, 1730077200000]


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded market data is not there")
@pytest.mark.parametrize(
    ("name", "series", "rows"),
    [
        ("ohlcv/raw_vision/futures-um-klines-BTCUSDT-1h-2024-10-28.zip", "BTCUSDT.BINANCE klines 1h", 24),
        ("trades/raw_vision/futures-APEUSDT-aggTrades-2024-10-18.zip", "APEUSDT.BINANCE trades", 45342),
        ("ohlcv/binance_um_LTCUSDT_1m_2026-02_full.parquet", "LTCUSDT.BINANCE klines 1m", 40320),
        ("funding/binance_um_ETHUSDT_funding_20200101_20231231.parquet", "ETHUSDT.BINANCE funding", 4383),
        ("mark/binance_um_BTCUSDT_mark_1h_20191223_20250630.parquet", "BTCUSDT.BINANCE mark 1h", 48397),
        ("oi/binance_um_BTCUSDT_oi_5m_20260314_20260331.parquet", "BTCUSDT.BINANCE open-interest 5m", 5159),
    ],
)
def test_recorded_files_are_read_as_what_they_are(name: str, series: str, rows: int) -> None:
    found = read_file(RECORDED / name, venue="binance")
    assert (str(found.series), len(found.table)) == (series, rows)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("BTCUSDT-x.csv", "a,b\n1,2\n", "has the columns a, b, which are not the columns of any known form"),
        ("BTCUSDT-x.csv", "1,2\n", "no header and 2 columns"),
        ("bars.csv", KLINES, "tells no symbol; give it as --symbol"),
        ("BTCUSDT-1h.csv", KLINES.splitlines()[0], "tell no timeframe; give it as --timeframe"),
        ("BTCUSDT-1h.txt", KLINES, "is no .zip, .csv, .csv.gz or .parquet file"),
        ("BTCUSDT-1h.zip", KLINES, "cannot be read: File is not a zip file"),
        ("BTCUSDT-1h.parquet", KLINES, "cannot be read"),
        ("BTCUSDT-1h.csv", KLINES.replace("1730077200000", "17"), "which are no milliseconds|tell no timeframe"),
    ],
)
def test_a_file_that_is_none_of_these_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str, reason: str
) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(HistoryError, match=reason) as caught:
        read_file(tmp_path / name, venue="binance")
    assert "\n" not in str(caught.value)


def test_a_parquet_of_mark_prices_is_told_by_its_name(tmp_path: Path) -> None:
    prices = {name: [1.0, 2.0] for name in ("open", "high", "low", "close", "volume")}
    pq.write_table(
        pa.table({"open_time": pa.array([1730073600000, 1730077200000]), **prices}),
        tmp_path / "BTCUSDT_mark_1h.parquet",
    )
    assert read_file(tmp_path / "BTCUSDT_mark_1h.parquet", venue="binance").series.kind == "mark"
