"""Trades in columns give the bars, revisions and state that they give one by one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.domain.bars import Bar
from libs.domain.events import Unhandleable
from libs.domain.market import Trade
from libs.history.files import SeriesFiles
from libs.history.series import make_series, to_table
from libs.runtime.errors import BadInput
from libs.venues.history import TimeSpan
from services.backtest.trade_bars import bars_of_trades
from services.bars.core import BarsCore
from services.bars.core.trades import TradeArrays
from tests.kit.builders import BTC, START, a_trade

MINUTE_MS = 60_000


def columns_of(trades: list[Trade]) -> TradeArrays:
    return TradeArrays(
        np.array([trade.event_time for trade in trades], dtype=np.int64),
        np.array([trade.price_e8 for trade in trades], dtype=np.int64),
        np.array([trade.quantity_e8 for trade in trades], dtype=np.int64),
        np.array([trade.is_buyer_maker for trade in trades], dtype=np.bool_),
        np.array([trade.venue_trade_id for trade in trades], dtype=np.int64),
    )


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-90_000, 180_000), st.integers(1, 10**7), st.integers(1, 10**6)), min_size=1, max_size=30
    ),
    st.integers(1, 30),
)
def test_columns_give_what_one_by_one_gives(steps: list[tuple[int, int, int]], size: int) -> None:
    at, trades = 0.0, []
    for number, (step_ms, price, quantity) in enumerate(steps, start=1):
        # Some come behind those before them, some after a long silence.
        at = max(0.0, at + step_ms / 1000)
        trades.append(a_trade(number, str(price), f"{quantity / 1000:.3f}", at, is_buyer_maker=bool(price % 2)))
    one, other = BarsCore(), BarsCore()
    expected = [out for trade in trades for out in one.handle(trade)]
    made = [
        out
        for begin in range(0, len(trades), size)
        for out in other.handle_trades(BTC, columns_of(trades[begin : begin + size]))
    ]
    assert made == expected
    assert other.snapshot() == one.snapshot()


def test_a_trade_that_is_not_real_is_refused_and_changes_nothing() -> None:
    core = BarsCore()
    core.handle_trades(BTC, columns_of([a_trade(1)]))
    before = core.snapshot()
    for wrong in (replace(a_trade(3), quantity_e8=10**17), replace(a_trade(3), price_e8=0)):
        with pytest.raises(Unhandleable, match="trade 3 has price"):
            core.handle_trades(BTC, columns_of([a_trade(2), wrong]))
    assert core.snapshot() == before


def test_a_file_that_says_what_it_covers_gives_the_minutes_at_its_edges_too(tmp_path: Path) -> None:
    begin = START // 1_000_000
    rows = [(begin + 1500 + second * 1000, 60_000.1, 0.001, False, second) for second in range(150)]
    series = make_series("BINANCE", "BTCUSDT", "trades")
    files = SeriesFiles(tmp_path / "trades.parquet", series, "test")
    files.add(to_table(series, rows), TimeSpan(begin, begin + 3 * MINUTE_MS))
    files.commit()
    bars = list(bars_of_trades(tmp_path / "trades.parquet", BTC, ["1m"]))
    assert [(bar.trade_count, isinstance(bar, Bar)) for bar in bars] == [(59, True), (60, True), (31, True)]
    assert bars[0].open_e8 == 6_000_010_000_000
    pq.write_table(to_table(series, rows), tmp_path / "plain.parquet")
    assert [bar.trade_count for bar in bars_of_trades(tmp_path / "plain.parquet", BTC, ["1m"])] == [60]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"price": pa.array([0.123456789])}, "more than eight decimals"),
        ({"price": pa.array([float("nan")])}, "is no number"),
        ({"qty": pa.array([None], pa.float64())}, "rows without qty"),
        ({"id": None}, "has no column id"),
    ],
)
def test_a_file_that_holds_no_trades_is_refused(
    tmp_path: Path, change: dict[str, pa.Array | None], reason: str
) -> None:
    row = {"time": pa.array([0], pa.timestamp("ms", "UTC")), "price": pa.array([1.0]), "qty": pa.array([1.0])}
    table = {**row, "is_buyer_maker": pa.array([True]), "id": pa.array([1]), **change}
    path = tmp_path / "trades.parquet"
    pq.write_table(pa.table({name: column for name, column in table.items() if column is not None}), path)
    with pytest.raises(BadInput, match=reason):
        list(bars_of_trades(path, BTC, ["1m"]))
