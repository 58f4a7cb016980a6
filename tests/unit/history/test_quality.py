"""The quality report names what is wrong, and nothing where nothing is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from libs.history.imports import read_file
from libs.history.quality import examine
from libs.history.sampling import BAR_COLUMNS, resample
from libs.history.series import Series, make_series, to_table
from services.training.market_data import simulate_bars
from tests.kit.platform import SHARED

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
RECORDED = SHARED / "data" / "market"
Rows = list[list[Any]]
ONE, FIVE = (make_series("BINANCE", "BTCUSDT", "klines", name) for name in ("1m", "5m"))
TRADES = make_series("BINANCE", "BTCUSDT", "trades")


def bars(series: Series = ONE) -> Any:
    made = simulate_bars(3, 1).table
    columns = {name: getattr(made, name) for name in BAR_COLUMNS}
    return resample(series, made.open_times // 1_000_000, columns)


def findings_of(series: Series, table: Any, others: dict[Series, Any] | None = None) -> list[str]:
    tables = {series: ("test", table), **{each: ("test", other) for each, other in (others or {}).items()}}
    report = next(report for report in examine(tables) if report.series == series)
    return [finding.what for finding in report.findings]


def changed(change: Callable[[Rows], object], table: Any, series: Series = ONE) -> Any:
    columns = [table.column(0).cast(pa.int64()).to_pylist(), *(column.to_pylist() for column in table.columns[1:])]
    rows = [list(row) for row in zip(*columns, strict=True)]
    change(rows)
    return to_table(series, [tuple(row) for row in rows])


def put(row: int, column: int, value: float) -> Callable[[Rows], object]:
    return lambda rows: rows[row].__setitem__(column, value)


def test_nothing_is_found_in_what_is_right() -> None:
    assert findings_of(ONE, bars()) == []
    assert findings_of(FIVE, bars(FIVE), {ONE: bars()}) == []


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda rows: rows.pop(7), "gaps (1 rows missing)"),
        (lambda rows: rows.insert(7, rows[7]), "rows that repeat another"),
        (put(7, 2, 1.0), "bars whose open, high, low and close contradict each other"),
        (put(7, 5, -1.0), "bars whose volume is negative or none"),
        (put(7, 8, 1e12), "bars that takers bought more of than was traded"),
        (put(7, 0, 1_767_225_600_001), "rows off the timeframe's grid"),
        (lambda rows: rows.__setitem__(slice(3, 5), rows[4:2:-1]), "rows out of order"),
        (
            lambda rows: [put(7, at, 3 * rows[7][at])(rows) for at in range(1, 5)],
            "values that leave and come back at once",
        ),
    ],
)
def test_each_fault_is_named(change: Callable[[Rows], object], what: str) -> None:
    assert what in findings_of(ONE, changed(change, bars()))


def test_bars_that_are_not_the_sum_of_shorter_ones_contradict_them() -> None:
    wrong = changed(put(9, 4, 1.0), bars(FIVE), FIVE)
    assert "bars that are not the sum of their 1m bars" in findings_of(FIVE, wrong, {ONE: bars()})


def test_bars_are_held_against_the_trades() -> None:
    trades = [
        (minute * MINUTE_MS + part, 100.0 + part / 1000, 0.5, False, 2 * minute + part)
        for minute in range(4)
        for part in (0, 1)
    ]
    rows = [(minute * MINUTE_MS, 100.0, 100.001, 100.0, 100.001, 1.0, 100.0, 2, 1.0) for minute in range(3)]
    table = to_table(TRADES, trades)
    assert findings_of(ONE, to_table(ONE, rows), {TRADES: table}) == []
    assert findings_of(ONE, to_table(ONE, rows), {TRADES: table.slice(0, 3)}) == []
    fewer = pa.concat_tables([table.slice(0, 3), table.slice(4)])
    assert findings_of(ONE, to_table(ONE, rows), {TRADES: fewer}) == [
        "bars whose volume is not that of the trades",
        "bars whose open, high, low or close is not that of their trades",
    ]
    for column in (1, 2, 3, 4):
        wrong = list(rows[1])
        wrong[column] += 0.001 if column != 3 else -0.001
        assert "bars whose open, high, low or close is not that of their trades" in findings_of(
            ONE, to_table(ONE, [rows[0], tuple(wrong), rows[2]]), {TRADES: table}
        )
    assert findings_of(TRADES, fewer) == ["trade numbers missing before a row"]


def test_sample_data_is_not_held_against_real_data() -> None:
    sample = make_series("BINANCE", "BTCUSDT", "klines", "1m", is_sample=True)
    wrong = changed(put(9, 4, 1.0), bars(FIVE), FIVE)
    assert "bars that are not the sum of their 1m bars" not in findings_of(FIVE, wrong, {sample: bars()})


FUNDING = make_series("BINANCE", "BTCUSDT", "funding")
MARK = make_series("BINANCE", "BTCUSDT", "mark", "1m")


def settlements(*hours: float) -> Any:
    return to_table(FUNDING, [(int(hour * HOUR_MS), 0.0001, 100.0) for hour in hours])


@pytest.mark.parametrize(
    ("hours", "what"),
    [
        ((0, 8, 16, 24), None),
        ((0, 8.001, 16, 24), None),
        ((0, 8, 12, 16, 20), None),
        ((0, 4, 8, 16, 24), None),
        ((0, 1, 2, 3, 4), None),
        ((0, 8, 24, 32), "intervals from which a funding settlement is missing"),
        ((0, 4, 8, 16, 20), "intervals from which a funding settlement is missing"),
        ((0, 8, 16.5, 24), "funding settled at another time than a whole hour"),
        ((0, 8, 13, 16, 24), "intervals between settlements that no venue has"),
        ((3, 11, 19, 27), "funding settled at hours that are not those of its interval"),
    ],
)
def test_funding_is_held_against_the_schedules_of_venues(hours: tuple[float, ...], what: str | None) -> None:
    findings = findings_of(FUNDING, settlements(*hours))
    assert what in findings if what else findings == []


def marks(*prices: float) -> Any:
    rows = [(minute * MINUTE_MS, price, price, price, price) for minute, price in enumerate(prices)]
    return to_table(MARK, rows)


def test_mark_prices_are_held_against_trades_and_klines() -> None:
    trades = to_table(TRADES, [(minute * MINUTE_MS, 100.0 + minute, 0.5, False, minute) for minute in range(3)])
    klines = [(minute * MINUTE_MS, 100.0, 101.0, 99.0, 100.0, 1.0, 100.0, 2, 0.5) for minute in range(3)]
    others = {TRADES: trades, ONE: to_table(ONE, klines)}
    assert findings_of(MARK, marks(100.3, 101.0, 101.5, 500.0), others) == []
    assert findings_of(MARK, marks(100.0, 97.0, 101.5), others) == [
        "mark prices more than 0.5% from their trades",
        "mark prices more than 0.5% from their 1m klines",
    ]
    assert findings_of(MARK, marks(100.0, 97.0, 101.5), {make_series("BYBIT", "BTCUSDT", "trades"): trades}) == []


@pytest.mark.skipif(not RECORDED.exists(), reason="the recorded market data is not there")
def test_recorded_marks_klines_and_settlements_agree_until_one_is_moved() -> None:
    files = (
        "mark/bybit_linear_BTCUSDT_mark_1h_20250924_20260331.parquet",
        "ohlcv/bybit_linear_BTCUSDT_5m_20250924_20260331.parquet",
        "funding/bybit_linear_BTCUSDT_funding_20250924_20260331.parquet",
    )
    mark, klines, funding = (read_file(RECORDED / name, venue="bybit") for name in files)
    others = {klines.series: klines.table}
    assert findings_of(funding.series, funding.table) == []
    assert findings_of(mark.series, mark.table, others) == []
    kept = mark.table.slice(0, len(mark.table) - 3)
    moved = mark.table.slice(3).set_column(0, "open_time", kept.column("open_time"))
    assert "mark prices more than 0.5% from their 5m klines" in findings_of(mark.series, moved, others)
    without = pa.concat_tables([funding.table.slice(0, 100), funding.table.slice(101)])
    assert findings_of(funding.series, without) == ["intervals from which a funding settlement is missing"]
