"""Passing the trades between decisions gives the same bars, orders, fills and equity as handling each, to the bit."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from libs.domain.market import Trade
from libs.domain.numbers import NANOSECONDS
from services.backtest.inputs import MarketInput, open_recording
from services.backtest.options import BacktestOptions, parse_settings, parse_strategies
from services.backtest.quiet_trades import QuietTrades
from services.backtest.run import BacktestResult, run_backtest
from services.backtest.trade_columns import TradeColumns, TradeFile, open_trades, read_trade_columns
from services.strategy import AccountView, Strategy, TargetPosition, state
from tests.unit.backtest.test_oracle import WIDE_LIMITS

BTC = "BTCUSDT.BINANCE"
SHARED = Path(os.environ.get("PERPFLOW_SHARED", Path(__file__).parents[3] / ".." / "shared")).resolve()
TRADES = SHARED / "data/market/trades"
MARKETS = (
    "binance_um_BTCUSDT_20240808_trades.parquet",
    "binance_spot_BTCUSDT_20240808_trades.parquet",
    "binance_spot_BTCUSDT_trades_20210108.parquet",
    "binance_um_APEUSDT_aggTrades_20241018.parquet",
)
CROSS = 'ema_cross={"fast_bars": 1, "slow_bars": 2, "warm_up_bars": 1, "quantity": "0.05"}'
# Ten minutes before midnight, so that a day begins in the middle.
START = 1_767_225_600 * NANOSECONDS - 600 * NANOSECONDS
SETTINGS: dict[str, Sequence[str]] = {
    "wide": WIDE_LIMITS,
    "no-latency": (*WIDE_LIMITS, "execution.latency_ms=0", "execution.account_interval_s=1"),
    "daily-loss": (
        *WIDE_LIMITS,
        "risk.max_daily_loss_fraction=0.0005",
        "risk.soft_drawdown_fraction=0.001",
        "risk.hard_drawdown_fraction=0.002",
    ),
    "stops": (*WIDE_LIMITS, "risk.stop_loss_fraction=0.001", "risk.take_profit_fraction=0.002"),
    "default-limits": (),
}


class Follower(Strategy):
    """Follows a run of rising or falling trades; remembers what it saw."""

    run: int = state(0)
    last_e8: int = state(0)
    seen: list[str] = state(list)

    def on_trade(self, trade: Trade, view: AccountView) -> Sequence[TargetPosition]:
        rose = (trade.price_e8 > self.last_e8) - (trade.price_e8 < self.last_e8)
        self.run = self.run + rose if self.run * rose > 0 else rose
        self.last_e8 = trade.price_e8
        self.seen.append(f"{trade.event_id} {view.equity_usdt} {dict(view.positions)}")
        if abs(self.run) < 5:
            return ()
        return (TargetPosition(trade.instrument, Decimal(400) * rose, "a run of trades"),)


def random_trades(path: Path, count: int = 4000, **changes: Any) -> Path:
    """Write trades of a random walk, bursts and silences, over about twenty minutes."""
    generator = np.random.default_rng(3)
    gaps = np.where(
        generator.random(count) < 0.9, generator.integers(0, 10**8, count), generator.integers(0, 4 * 10**9, count)
    )
    columns: dict[str, Any] = {
        "time": pa.array(START + np.cumsum(gaps), pa.timestamp("ns", tz="UTC")),
        "price": np.round(60_000 * np.exp(np.cumsum(generator.normal(0, 2e-4, count))), 1),
        "qty": generator.integers(1, 500, count) / 1000,
        "is_buyer_maker": generator.random(count) < 0.5,
        "id": np.arange(1, count + 1),
        **changes,
    }
    pq.write_table(pa.table(columns), path)
    return path


def run(
    path: Path, *, fast: bool, changed: Sequence[str], until: int | None = None, strategy: str = CROSS
) -> BacktestResult:
    market = open_recording(path, instrument=BTC, history=None, history_bars=0)
    assert market.trades is not None
    options = BacktestOptions(
        BTC,
        strategies=parse_strategies([strategy]),
        starting_balance_usdt=Decimal(10_000),
        settings=parse_settings(changed),
        until=until,
        fast=fast,
    )
    return run_backtest(market, options)


def assert_equal(path: Path, changed: Sequence[str], until: int | None = None) -> BacktestResult:
    passed, handled = (run(path, fast=fast, changed=changed, until=until) for fast in (True, False))
    assert passed.record == handled.record
    assert (passed.start, passed.end) == (handled.start, handled.end)
    return passed


@pytest.mark.slow
@pytest.mark.parametrize("changed", list(SETTINGS))
def test_passing_quiet_trades_decides_nothing_differently(changed: str, tmp_path: Path) -> None:
    passed = assert_equal(random_trades(tmp_path / "trades.parquet"), SETTINGS[changed])
    assert passed.record.fills


@pytest.mark.slow
@pytest.mark.parametrize("changed", ["wide", "no-latency", "default-limits"])
def test_strategy_that_sees_every_trade_decides_nothing_differently(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Follower] = []
    monkeypatch.setattr(Follower, "start", lambda follower: made.append(follower))
    path = random_trades(tmp_path / "trades.parquet")
    name = "tests.unit.backtest.test_quiet_trades:Follower"
    passed, handled = (run(path, fast=fast, changed=SETTINGS[changed], strategy=name) for fast in (True, False))
    assert passed.record.fills
    assert passed.record == handled.record
    assert made[0].seen == made[1].seen


@pytest.mark.slow
@pytest.mark.skipif(not TRADES.is_dir(), reason=f"no recorded trades at {TRADES}; set PERPFLOW_SHARED")
@pytest.mark.parametrize("name", MARKETS)
def test_recorded_trades_decide_nothing_differently(name: str, tmp_path: Path) -> None:
    cut = tmp_path / name
    pq.write_table(pq.read_table(TRADES / name).slice(0, 12_000), cut)
    assert_equal(cut, SETTINGS["wide"])


@pytest.mark.parametrize("place", [1500, 1501, 1502, 1503])
def test_run_ends_at_the_same_event(place: int, tmp_path: Path) -> None:
    path = random_trades(tmp_path / "trades.parquet", 2000)
    columns = read_trade_columns(path, BTC)
    assert columns is not None
    until = int(columns.times[place])
    assert_equal(path, WIDE_LIMITS, until)
    # Between a tick and the trade that it comes before.
    tick = columns.ticks[np.searchsorted(columns.ticks, place)]
    assert_equal(path, WIDE_LIMITS, int(columns.times[tick]) // NANOSECONDS * NANOSECONDS + 1)


def test_most_trades_are_passed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passed: list[int] = []
    take_over = QuietTrades._pass

    def count(self: QuietTrades, place: int, next_tick: int, stretch: Any) -> None:
        passed.append(stretch.end - place)
        take_over(self, place, next_tick, stretch)

    monkeypatch.setattr(QuietTrades, "_pass", count)
    run(random_trades(tmp_path / "trades.parquet"), fast=True, changed=WIDE_LIMITS)
    assert sum(passed) > 3000


def test_columns_hold_what_the_row_reader_reads(tmp_path: Path) -> None:
    path = random_trades(tmp_path / "trades.parquet", 500)
    columns = read_trade_columns(path, BTC)
    market: MarketInput = open_recording(path, instrument=BTC, history=None, history_bars=0)
    assert columns is not None
    events = list(market.events)
    assert list(columns.trades(7, 20)) == [columns.trade(place) for place in range(7, 20)]
    assert [columns.trade(place) for place in range(500)] == [event for event in events if isinstance(event, Trade)]
    ticks = [columns.tick(place) for place in columns.ticks.tolist()]
    assert ticks == [event for event in events if not isinstance(event, Trade)]


def changed(name: str, value: Any, place: int = 250, count: int = 500) -> dict[str, Any]:
    made = {"price": np.full(count, 60_000.0), "qty": np.full(count, 0.1), "id": np.arange(1, count + 1)}[name].copy()
    made[place] = value
    return {name: made}


@pytest.mark.parametrize(
    "change",
    [
        changed("price", 120_001.0),
        changed("price", 29_999.0),
        changed("price", 0.0),
        changed("price", float("nan")),
        changed("qty", 0.0),
        changed("qty", 400_000.0),
        changed("id", 7),
        changed("id", 2_000_000, place=499),
        {"id": np.arange(0, 500)},
    ],
)
def test_trades_that_need_a_look_are_read_one_by_one(change: dict[str, Any], tmp_path: Path) -> None:
    assert read_trade_columns(random_trades(tmp_path / "trades.parquet", 500, **change), BTC) is None


def test_trades_out_of_order_are_read_one_by_one(tmp_path: Path) -> None:
    path = random_trades(tmp_path / "trades.parquet", 500)
    table = pq.read_table(path)
    late = table.column("time").to_pylist()
    late[10], late[20] = late[20], late[10]
    times = pa.array(list(islice(late, 500)), pa.timestamp("ns", tz="UTC"))
    pq.write_table(table.set_column(0, "time", times), path)
    assert read_trade_columns(path, BTC) is None


@pytest.mark.parametrize("name", [CROSS, "tests.unit.backtest.test_quiet_trades:Follower"])
def test_long_file_is_run_in_parts_as_it_is_whole(name: str, tmp_path: Path) -> None:
    path = random_trades(tmp_path / "trades.parquet", 2000)
    long = open_trades(path, BTC, rows=300)
    assert isinstance(long, TradeFile)
    assert len(long) == 2000
    columns = read_trade_columns(path, BTC)
    assert columns is not None
    # At the end of a part, in the next one before its first trade, and where a part's first tick ends the run.
    for until in (None, *(int(columns.times[place]) for place in (299, 300, 301)), _second_of(columns.times[600])):
        whole, parts = (_run_market(path, name, until, trades) for trades in (columns, long))
        assert parts.record == whole.record
        assert (parts.start, parts.end) == (whole.start, whole.end)


def _second_of(event_time: int) -> int:
    return int(event_time) // NANOSECONDS * NANOSECONDS + 1


def _run_market(path: Path, name: str, until: int | None, trades: TradeColumns | TradeFile) -> BacktestResult:
    market = open_recording(path, instrument=BTC, history=None, history_bars=0)
    options = BacktestOptions(
        BTC,
        strategies=parse_strategies([name]),
        starting_balance_usdt=Decimal(10_000),
        settings=parse_settings(WIDE_LIMITS),
        until=until,
    )
    return run_backtest(replace(market, trades=trades), options)


@pytest.mark.parametrize("place", [299, 300, 301, 1999])
def test_long_file_with_a_trade_to_be_looked_at_is_not_run_in_parts(place: int, tmp_path: Path) -> None:
    numbers = np.arange(1, 2001)
    numbers[place:] += 1
    assert open_trades(random_trades(tmp_path / "trades.parquet", 2000, id=numbers), BTC, rows=300) is None


def test_long_file_is_never_in_memory_whole(tmp_path: Path) -> None:
    path, rows = tmp_path / "trades.parquet", 20_000
    table = pq.read_table(random_trades(tmp_path / "source.parquet", 20 * rows))
    pq.write_table(table, path, row_group_size=rows)
    del table
    long = open_trades(path, BTC, rows=rows)
    assert isinstance(long, TradeFile)
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in long.parts()]
    assert len(held) == 20
    assert max(held) < path.stat().st_size / 2
