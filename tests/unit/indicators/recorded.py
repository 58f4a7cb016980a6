"""Recorded bars as rows, and short ways through the engine."""

from __future__ import annotations

import os
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from libs.domain.bars import TIMEFRAMES, Bar, bar_event_id
from libs.domain.numbers import NANOSECONDS
from libs.domain.readings import READING_SERIES
from libs.indicators import columns as col
from libs.indicators.arrays import Memory, Values
from libs.indicators.batch import BatchRun, Seconds, round_rows
from libs.indicators.feature_set import FeatureSet, features_of
from libs.indicators.program import compile_feature_set

SHARED = Path(os.environ.get("PERPFLOW_SHARED", Path(__file__).parents[3].parent / "shared"))
MARKET = SHARED / "data" / "market"

BTC_1M = "ohlcv/binance_um_BTCUSDT_1m_20250504_20250624.parquet"
BTC_5M = "ohlcv/binance_um_BTCUSDT_5m_20230101_20240514.parquet"
BTC_1H = "ohlcv/binance_um_BTCUSDT_1h_20190908_20250630.parquet"
SPOT_1H = "ohlcv/binance_spot_BTCUSDT_1h_20180101_20250630.parquet"
LTC_1M = "ohlcv/binance_um_LTCUSDT_1m_2026-02_full.parquet"
"""With quote volume, trades and taker volume."""

_COLUMNS = {
    "open": "open",
    "high": "high",
    "low": "low",
    "close": "close",
    "volume": "volume",
    "quote_volume": "quote_volume",
    "taker_buy_volume": "taker_buy_volume",
    "trades": "trade_count",
}


def recorded_file(name: str) -> Path:
    """The path of a recorded file; skips the test where the recordings are not there."""
    path = MARKET / name
    if not path.is_file():
        pytest.skip(f"no recorded data at {path}; set PERPFLOW_SHARED to the folder that holds data/market")
    return path


@cache
def _read(name: str) -> tuple[Seconds, Memory]:
    table = pq.read_table(MARKET / name)
    times = table["open_time"].cast("int64").to_numpy() // 1000
    rows = np.full((len(times), col.ROW_WIDTH), np.nan)
    for column, into in _COLUMNS.items():
        if column in table.column_names:
            rows[:, col.ROW_COLUMNS.index(into)] = table[column].to_numpy()
    return times, rows


def recorded_rows(name: str, count: int | None = None, start: int = 0) -> tuple[Seconds, Memory]:
    """Open times (s) and rows of a recorded file, copies."""
    recorded_file(name)
    times, rows = _read(name)
    stop = None if count is None else start + count
    return times[start:stop].copy(), rows[start:stop].copy()


def fill_in(rows: Memory, times: Seconds, seed: int = 5) -> Memory:
    """Add made-up values to the columns that klines lack, so that every feature has its inputs."""
    rng = np.random.default_rng(seed)
    close = rows[:, col.ROW_CLOSE]
    count = len(rows)
    rows[:, col.ROW_QUOTE] = rows[:, col.ROW_VOLUME] * close
    rows[:, col.ROW_TAKER] = rows[:, col.ROW_VOLUME] * rng.uniform(0.2, 0.8, count)
    rows[:, col.ROW_TRADES] = rng.integers(1, 5000, count)
    rows[:, col.ROW_SPREAD] = rng.uniform(0.1, 2.0, count)
    for j in (col.ROW_DEPTH_1, col.ROW_DEPTH_5, col.ROW_DEPTH_10):
        rows[:, j] = rng.uniform(-1.0, 1.0, count)
    rows[:, col.ROW_FLOW] = rng.normal(0.0, 50.0, count)
    rows[:, col.ROW_MICROPRICE] = rng.normal(0.0, 0.3, count)
    rows[:, col.ROW_REALISED] = rng.uniform(1e-8, 1e-6, count)
    rows[:, col.ROW_MARK] = close * (1.0 + rng.normal(0.0, 1e-4, count))
    rows[:, col.ROW_INDEX] = close * (1.0 + rng.normal(0.0, 2e-4, count))
    rows[:, col.ROW_FUNDING] = rng.normal(1e-4, 5e-5, count).round(8)
    rows[:, col.ROW_NEXT_FUNDING] = (times + 60) // 28800 * 28800 + 28800
    rows[:, col.ROW_INTEREST] = 80_000.0 + rng.normal(0.0, 20.0, count).cumsum()
    rows[:, col.ROW_LIQUIDATION_BUY] = rng.exponential(1.0, count) * (rng.random(count) < 0.2)
    rows[:, col.ROW_LIQUIDATION_SELL] = rng.exponential(1.0, count) * (rng.random(count) < 0.2)
    # Of a stream of their own, so that what was made before they came stays as it was.
    rng = np.random.default_rng(seed + 1_000)
    for j, name in enumerate(READING_SERIES, start=col.ROW_READINGS):
        rows[:, j] = {
            "fear_greed_index": rng.integers(0, 101, count),
            "peer_price": close / 20.0 * (1.0 + rng.normal(0.0, 1e-3, count)),
            "spot_price": close * (1.0 + rng.normal(0.0, 2e-4, count)),
            "active_addresses": rng.integers(500_000, 900_000, count),
            "exchange_net_flow": rng.normal(0.0, 3_000.0, count),
        }.get(name, rng.uniform(0.0, 1.0, count))
    round_rows(rows)
    return rows


def made_rows(count: int, seed: int = 1, start: int = 1_767_225_600) -> tuple[Seconds, Memory]:
    """A made-up market of one-minute bars with every input, seeded; begins at a midnight."""
    rng = np.random.default_rng(seed)
    times = start + 60 * np.arange(count, dtype=np.int64)
    close = 60_000.0 * np.exp(rng.normal(0.0, 8e-4, count).cumsum())
    open_ = np.concatenate((close[:1], close[:-1])) * (1.0 + rng.normal(0.0, 5e-5, count))
    rows = np.full((count, col.ROW_WIDTH), np.nan)
    rows[:, col.ROW_OPEN] = open_
    rows[:, col.ROW_HIGH] = np.maximum(open_, close) * (1.0 + rng.exponential(3e-4, count))
    rows[:, col.ROW_LOW] = np.minimum(open_, close) * (1.0 - rng.exponential(3e-4, count))
    rows[:, col.ROW_CLOSE] = close
    rows[:, col.ROW_VOLUME] = rng.exponential(30.0, count)
    return times, fill_in(rows, times)


def compute(feature_set: FeatureSet, times: Seconds, rows: Memory, step_s: int = 60) -> Values:
    """Run the batch engine over copies."""
    return BatchRun(compile_feature_set(feature_set, step_s)).take(times, rows.copy())


def compute_kind(kind: str, times: Seconds, rows: Memory, step_s: int = 60, **params: Any) -> dict[str, Values]:
    """Run one kind of feature; columns by name."""
    chosen = FeatureSet("test", 1, tuple(features_of(kind, **params)))
    out = compute(chosen, times, rows, step_s)
    return dict(zip(chosen.names, out.T, strict=True))


def same_bits(one: Values, other: Values) -> Values:
    """Where two arrays hold the same bits, NaN being NaN."""
    return (one.view(np.int64) == other.view(np.int64)) | (np.isnan(one) & np.isnan(other))


def _e8(value: float) -> int | None:
    return None if np.isnan(value) else _exact(value)


def _exact(value: float) -> int:
    return round(Decimal(repr(float(value))) * 10**8)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def as_bar(instrument: str, timeframe: str, open_time_s: int, row: Memory, is_history: bool = False) -> Bar:
    """A row as the domain's bar, with integers of 1e-8."""
    open_time = open_time_s * NANOSECONDS
    close_time = open_time + TIMEFRAMES[timeframe]
    trades = row[col.ROW_TRADES]
    following = row[col.ROW_NEXT_FUNDING]
    bar = Bar(
        instrument=instrument,
        event_id=bar_event_id(instrument, timeframe, open_time),
        event_time=close_time,
        timeframe=timeframe,
        open_time=open_time,
        close_time=close_time,
        open_e8=_exact(row[col.ROW_OPEN]),
        high_e8=_exact(row[col.ROW_HIGH]),
        low_e8=_exact(row[col.ROW_LOW]),
        close_e8=_exact(row[col.ROW_CLOSE]),
        volume_e8=_exact(row[col.ROW_VOLUME]),
        quote_volume_e8=_e8(row[col.ROW_QUOTE]),
        taker_buy_volume_e8=_e8(row[col.ROW_TAKER]),
        trade_count=None if np.isnan(trades) else int(trades),
        spread_mean_bps=_number(row[col.ROW_SPREAD]),
        depth_imbalance_1=_number(row[col.ROW_DEPTH_1]),
        depth_imbalance_5=_number(row[col.ROW_DEPTH_5]),
        depth_imbalance_10=_number(row[col.ROW_DEPTH_10]),
        order_flow_imbalance=_number(row[col.ROW_FLOW]),
        microprice_deviation_bps=_number(row[col.ROW_MICROPRICE]),
        realised_variance=_number(row[col.ROW_REALISED]),
        mark_close_e8=_e8(row[col.ROW_MARK]),
        index_close_e8=_e8(row[col.ROW_INDEX]),
        funding_rate_e8=_e8(row[col.ROW_FUNDING]),
        next_funding_time=None if np.isnan(following) else int(following) * NANOSECONDS,
        open_interest_e8=_e8(row[col.ROW_INTEREST]),
        liquidation_buy_e8=_e8(row[col.ROW_LIQUIDATION_BUY]),
        liquidation_sell_e8=_e8(row[col.ROW_LIQUIDATION_SELL]),
        is_history=is_history,
    )
    readings: dict[str, Any] = {name: _number(row[j]) for j, name in enumerate(READING_SERIES, start=col.ROW_READINGS)}
    return replace(bar, **readings)


_SUMS = (
    "volume_e8",
    "quote_volume_e8",
    "taker_buy_volume_e8",
    "trade_count",
)
_SILENT = ("liquidation_buy_e8", "liquidation_sell_e8")
_LASTS = ("mark_close_e8", "index_close_e8", "funding_rate_e8", "next_funding_time", "open_interest_e8")


def stream_of(instrument: str, times: Seconds, rows: Memory, higher: tuple[str, ...]) -> list[Bar]:
    """Bars as the bars service sends them: at each close the higher timeframes first, summed in integers, 1m last."""
    building: dict[str, Bar] = {}
    bars: list[Bar] = []
    for open_time, row in zip(times.tolist(), rows, strict=True):
        minute = as_bar(instrument, "1m", open_time, row)
        for timeframe in sorted(higher, key=TIMEFRAMES.__getitem__, reverse=True):
            length = TIMEFRAMES[timeframe]
            bucket = minute.open_time // length * length
            held = building.get(timeframe)
            values = {field: getattr(minute, field) for field in Bar.__dataclass_fields__}
            if held is not None and held.open_time == bucket:
                values["open_e8"] = held.open_e8
                values["high_e8"] = max(held.high_e8, minute.high_e8)
                values["low_e8"] = min(held.low_e8, minute.low_e8)
                for name in _SUMS:
                    mine, more = getattr(held, name), getattr(minute, name)
                    values[name] = None if mine is None or more is None else mine + more
                for name in _SILENT:
                    known = [each for each in (getattr(held, name), getattr(minute, name)) if each is not None]
                    values[name] = sum(known) if known else None
                for name in _LASTS:
                    values[name] = getattr(held, name) if values[name] is None else values[name]
            elif minute.open_time != bucket:
                continue
            values |= {
                "event_id": bar_event_id(instrument, timeframe, bucket),
                "timeframe": timeframe,
                "open_time": bucket,
                "close_time": bucket + length,
                "event_time": bucket + length,
            }
            building[timeframe] = Bar(**values)
            if minute.close_time == bucket + length:
                bars.append(building.pop(timeframe))
        bars.append(minute)
    return bars
