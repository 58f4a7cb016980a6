"""Bars of real recordings equal an independent computation over the trades, and the exchange's own klines."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from libs.domain.bars import Bar
from libs.domain.events import DeadInput
from libs.domain.numbers import SCALE
from services.bars.core import BarsCore
from services.ingestion.feed import Pacer
from services.ingestion.recorded import RecordedSource
from tests.kit.builders import BTC
from tests.unit.ingestion.builders import read_all
from tests.unit.ingestion.shared import shared_market


def _bars_of(path: Path, history: Path | None = None, instrument: str = BTC) -> list[Bar]:
    source = RecordedSource(path, instrument=instrument, pacer=Pacer(0), history=history)
    source.open(None)
    core = BarsCore()
    events = (event for event in read_all(source, 5000) if not isinstance(event, DeadInput))
    return [bar for event in events for bar in core.handle(event) if isinstance(bar, Bar)]


@pytest.mark.slow
def test_bars_equal_sums_over_the_trades_table() -> None:
    market = shared_market()
    bars = _bars_of(market / "capture" / "binance_um_BTCUSDT_20240808.ns-jsonl.gz")
    rows = pq.read_table(market / "trades" / "binance_um_BTCUSDT_20240808_trades.parquet").to_pylist()
    minutes = defaultdict(list)
    for row in rows:
        minutes[int(row["time"].timestamp()) // 60 * 60 * 10**9].append(row)
    ones = [bar for bar in bars if bar.timeframe == "1m"]
    assert len(ones) == 5
    for bar in ones:
        trades = minutes[bar.open_time]
        prices = [Decimal(str(trade["price"])) for trade in trades]
        sizes = [Decimal(str(trade["qty"])) for trade in trades]
        assert (bar.open_e8, bar.close_e8) == (prices[0] * SCALE, prices[-1] * SCALE)
        assert (bar.high_e8, bar.low_e8) == (max(prices) * SCALE, min(prices) * SCALE)
        assert bar.volume_e8 == sum(sizes) * SCALE
        assert bar.quote_volume_e8 == sum(price * size for price, size in zip(prices, sizes, strict=True)) * SCALE
        taken = [size for trade, size in zip(trades, sizes, strict=True) if not trade["is_buyer_maker"]]
        assert bar.taker_buy_volume_e8 == sum(taken) * SCALE
        assert bar.trade_count == len(trades)
        assert bar.depth_imbalance_10 is not None
    (five,) = [bar for bar in bars if bar.timeframe == "5m"]
    assert five.volume_e8 == sum(bar.volume_e8 for bar in ones)


@pytest.mark.slow
def test_spot_bars_equal_the_exchange_klines_to_the_digit() -> None:
    market = shared_market()
    bars = _bars_of(market / "capture" / "binance_spot_BTCUSDT_20240808.ns-jsonl.gz", instrument="BTCUSDT.BINANCE_SPOT")
    ones = [bar for bar in bars if bar.timeframe == "1m"]
    table = pq.read_table(market / "ohlcv" / "binance_spot_BTCUSDT_1m_20240726_20240825.parquet")
    klines = {int(row["open_time"].timestamp()) * 10**9: row for row in table.to_pylist()}
    assert len(ones) >= 4
    for bar in ones:
        kline = klines[bar.open_time]
        expected = [Decimal(repr(kline[name])) * SCALE for name in ("open", "high", "low", "close", "volume")]
        assert [bar.open_e8, bar.high_e8, bar.low_e8, bar.close_e8, bar.volume_e8] == expected


@pytest.mark.slow
def test_seam_of_the_capture_is_closed_from_klines() -> None:
    market = shared_market()
    history = market / "ohlcv" / "binance_spot_BTCUSDT_1m_20240726_20240825.parquet"
    bars = _bars_of(market / "capture" / "binance_um_BTCUSDT_20240808.ns-jsonl.gz", history)
    ones = [bar.open_time for bar in bars if bar.timeframe == "1m"]
    assert len(ones) == 1500 + 1 + 5
    assert ones == list(range(ones[0], ones[-1] + 1, 60 * 10**9))
    assert {bar.timeframe for bar in bars} == {"1m", "5m", "15m", "1h", "4h", "1d"}
