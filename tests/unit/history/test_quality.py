"""The quality report names what is wrong, and nothing where nothing is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from libs.history.quality import examine
from libs.history.sampling import BAR_COLUMNS, resample
from libs.history.series import Series, make_series, to_table
from services.training.market_data import simulate_bars

MINUTE_MS = 60_000
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
        "bars that open or close at another price than their trades",
    ]
    assert findings_of(TRADES, fewer) == ["trade numbers missing before a row"]


def test_sample_data_is_not_held_against_real_data() -> None:
    sample = make_series("BINANCE", "BTCUSDT", "klines", "1m", is_sample=True)
    wrong = changed(put(9, 4, 1.0), bars(FIVE), FIVE)
    assert "bars that are not the sum of their 1m bars" not in findings_of(FIVE, wrong, {sample: bars()})
