"""Says what is wrong with files of history: gaps, repeats, outliers, impossible bars, kinds that contradict each other.

Nothing is corrected. A finding is a number of rows with the first of them; zero findings is what a user wants to see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from libs.history.errors import HistoryError
from libs.history.series import Series, series_of

OUTLIER_DEVIATIONS = 25.0
"""A move counts as an outlier beyond so many median absolute moves, where the next one takes most of it back."""
TOLERANCE = 1e-6
"""How far sums of trades may be off those of their bar, as a share: both are sums of doubles."""
MARK_DISTANCE = 0.005
"""How far the ranges of mark and last prices of one period may lie apart, as a share: a mark follows its market.
Those of an hour of BTCUSDT at Binance overlapped in every one of 48,397 from 2019 to 2025."""
FUNDING_DRIFT_MS = 60_000
"""How far from a whole hour a venue stamps a settlement; Binance says 15 s, older rows have more."""
FUNDING_HOURS = (1, 2, 4, 8)
"""The intervals between settlements of Binance and Bybit; either changes a symbol's at times."""

HOUR_MS = 3_600_000

Reals = npt.NDArray[np.float64]
Times = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with `count` rows, the first of them at `first_ms`."""

    what: str
    count: int
    first_ms: int

    def __str__(self) -> str:
        at = datetime.fromtimestamp(self.first_ms / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
        return f"{self.count:,} {self.what}, first at {at.removesuffix('+00:00')} UTC"


@dataclass(frozen=True, slots=True)
class Report:
    """One series and what is wrong with it."""

    series: Series
    source: str
    rows: int
    first_ms: int
    last_ms: int
    findings: tuple[Finding, ...]


def read_folder(path: Path) -> dict[Series, tuple[str, Any]]:
    """Read every series of a file or folder that perpflow wrote. Raises `HistoryError` where there is none."""
    files = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    found: dict[Series, tuple[str, list[Any]]] = {}
    for file in files:
        try:
            parquet = pq.ParquetFile(file)
        except (pa.ArrowInvalid, OSError) as error:
            raise HistoryError(f"{file} is no Parquet file: {error}") from None
        named = series_of(parquet.metadata.metadata)
        if named is None:
            raise HistoryError(f"{file} does not say what it is of; read it with `perpflow import` first")
        series, source = named
        found.setdefault(series, (source, []))[1].append(parquet.read().replace_schema_metadata(None))
    if not found:
        raise HistoryError(f"{path} holds no Parquet file; name what collect-data or import wrote")
    return {series: (source, pa.concat_tables(tables)) for series, (source, tables) in found.items()}


def examine(all_series: Mapping[Series, tuple[str, Any]]) -> list[Report]:
    """Return a report of each series, with what it contradicts in others."""
    reports = []
    for series, (source, table) in all_series.items():
        times = _times(table, series)
        findings = [*_examine_times(times, series, table), *_examine_values(times, series, table)]
        findings += _contradictions(series, table, all_series)
        first, last = (int(times.min()), int(times.max())) if len(times) else (0, 0)
        reports.append(Report(series, source, len(times), first, last, tuple(findings)))
    return reports


def _times(table: Any, series: Series) -> Times:
    return np.asarray(table.column(series.time_column).cast(pa.int64()).to_numpy())


def _reals(table: Any, name: str) -> Reals:
    return np.asarray(table.column(name).cast(pa.float64()).to_numpy(zero_copy_only=False), dtype=np.float64)


def _finding(what: str, times: Times, where: npt.NDArray[np.bool_]) -> list[Finding]:
    at = np.flatnonzero(where)
    return [Finding(what, len(at), int(times[at[0]]))] if len(at) else []


def _examine_times(times: Times, series: Series, table: Any) -> list[Finding]:
    steps = np.diff(times)
    findings = _finding("rows out of order", times[1:], steps < 0)
    keys = times
    if series.key_column != series.time_column:
        keys = np.asarray(table.column(series.key_column).to_numpy())
        findings += _finding("trade numbers missing before a row", times[1:], np.diff(keys) > 1)
    ordered = np.sort(keys)
    findings += _finding("rows that repeat another", times[1:], np.diff(ordered) == 0)
    if series.step_ms:
        gaps = steps > series.step_ms
        if gaps.any():
            missing = int((steps[gaps] // series.step_ms - 1).sum())
            findings += _finding(f"gaps ({missing:,} rows missing)", times[:-1], gaps)
        findings += _finding("rows off the timeframe's grid", times, times % series.step_ms != 0)
    return findings


def _examine_values(times: Times, series: Series, table: Any) -> list[Finding]:
    match series.kind:
        case "klines" | "mark":
            prices = [_reals(table, name) for name in ("open", "high", "low", "close")]
            first, high, low, last = prices
            with np.errstate(invalid="ignore"):
                is_bar = (low > 0) & (low <= np.minimum(first, last)) & (np.maximum(first, last) <= high)
            findings = _finding("bars whose open, high, low and close contradict each other", times, ~is_bar)
            if series.kind == "klines":
                volume, taker = _reals(table, "volume"), _reals(table, "taker_buy_volume")
                with np.errstate(invalid="ignore"):
                    findings += _finding("bars whose volume is negative or none", times, ~(volume >= 0))
                    findings += _finding(
                        "bars that takers bought more of than was traded", times, taker > volume * (1 + TOLERANCE)
                    )
            return findings + _outliers(times, last)
        case "trades":
            price, quantity = _reals(table, "price"), _reals(table, "qty")
            with np.errstate(invalid="ignore"):
                is_trade = (price > 0) & (quantity > 0)
            return _finding("trades without a price or quantity", times, ~is_trade) + _outliers(times, price)
        case "funding":
            rate = _reals(table, "rate")
            with np.errstate(invalid="ignore"):
                findings = _finding("funding rates beyond 3 %", times, ~(np.abs(rate) <= 0.03))
            return findings + _off_schedule(times)
        case _:
            interest = _reals(table, "open_interest")
            with np.errstate(invalid="ignore"):
                return _finding("open interests not above 0", times, ~(interest > 0)) + _outliers(times, interest)


def _off_schedule(times: Times) -> list[Finding]:
    """Find settlements at times that no venue settles at, and intervals that one is missing from."""
    hours = np.rint(times / HOUR_MS).astype(np.int64)
    is_off = np.abs(times - hours * HOUR_MS) > FUNDING_DRIFT_MS
    findings = _finding("funding settled at another time than a whole hour", times, is_off)
    steps = np.diff(hours)
    # An interval that is longer than those around it lacks a settlement; a longer one that lasts is a new schedule.
    before, after = np.append(steps[:1], steps[:-1]), np.append(steps[1:], steps[-1:])
    is_missing = (steps > max(FUNDING_HOURS)) | ((steps > before) & (steps > after))
    findings += _finding("intervals from which a funding settlement is missing", times[:-1], is_missing)
    is_odd = ~is_missing & (steps > 0) & ~np.isin(steps, FUNDING_HOURS)
    findings += _finding("intervals between settlements that no venue has", times[:-1], is_odd)
    # Venues count their intervals from midnight UTC: every eight hours is at 0, 8 and 16 h.
    is_shifted = (steps == before) & np.isin(steps, FUNDING_HOURS) & (hours[:-1] % np.maximum(steps, 1) != 0)
    return findings + _finding("funding settled at hours that are not those of its interval", times[:-1], is_shifted)


def _outliers(times: Times, values: Reals) -> list[Finding]:
    """Find values that leave and come back at once: a slip, where a move that stays is a market."""
    if len(values) < 20:
        return []
    with np.errstate(invalid="ignore", divide="ignore"):
        moves = np.diff(np.log(values))
        sizes = np.abs(moves)
        usual = np.nanmedian(sizes[sizes > 0]) if (sizes > 0).any() else np.inf
        is_far = sizes > OUTLIER_DEVIATIONS * usual
        comes_back = np.abs(moves[:-1] + moves[1:]) < 0.2 * sizes[:-1]
        return _finding("values that leave and come back at once", times[1:-1], is_far[:-1] & is_far[1:] & comes_back)


def _contradictions(series: Series, table: Any, all_series: Mapping[Series, tuple[str, Any]]) -> list[Finding]:
    """Hold klines against trades of the same symbol and klines of a shorter timeframe, mark prices against both."""
    if series.kind not in ("klines", "mark"):
        return []
    findings: list[Finding] = []
    for other, (_, other_table) in all_series.items():
        if (other.venue, other.symbol, other.is_sample) != (series.venue, series.symbol, series.is_sample):
            continue
        if series.kind == "mark":
            if other.kind == "trades" or (other.kind == "klines" and 0 < other.step_ms <= series.step_ms):
                findings += _mark_against(series, table, other, other_table)
        elif other.kind == "trades":
            findings += _against_trades(series, table, other_table)
        elif other.kind == "klines" and 0 < other.step_ms < series.step_ms:
            findings += _against_shorter(series, table, other, other_table)
    return findings


def _against_trades(series: Series, table: Any, trades: Any) -> list[Finding]:
    opens, at = _times(table, series), np.asarray(trades.column("time").cast(pa.int64()).to_numpy())
    if not len(at) or not len(opens):
        return []
    order = np.argsort(at, kind="stable")
    at, price, quantity = at[order], _reals(trades, "price")[order], _reals(trades, "qty")[order]
    # Bars at the edges of the trades may be whole without them.
    inside = (opens >= at[0]) & (opens + series.step_ms <= at[-1])
    first, last = np.searchsorted(at, opens), np.searchsorted(at, opens + series.step_ms)
    sums = np.concatenate([[0.0], np.cumsum(quantity)])
    volume = sums[last] - sums[first]
    bar_volume = _reals(table, "volume")
    is_off = np.abs(volume - bar_volume) > TOLERANCE * np.maximum(1.0, np.maximum(volume, bar_volume))
    findings = _finding("bars whose volume is not that of the trades", opens, inside & is_off)
    has_trades = inside & (last > first)
    is_other = np.zeros(len(opens), dtype=np.bool_)
    if has_trades.any():
        first, last = first[has_trades], last[has_trades]
        of_trades = price[first], *extremes_within(price, price, first, last), price[last - 1]
        of_bars = (_reals(table, name)[has_trades] for name in ("open", "low", "high", "close"))
        is_other[has_trades] = np.logical_or.reduce([a != b for a, b in zip(of_trades, of_bars, strict=True)])
    return findings + _finding("bars whose open, high, low or close is not that of their trades", opens, is_other)


def extremes_within(
    low: npt.NDArray[Any], high: npt.NDArray[Any], first: Times, last: Times
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Return the least of `low` and the greatest of `high` in each range of rows [first, last), none of them empty."""
    # Ranges may overlap or have a hole between them: each is cut at its first row and behind its last one.
    cuts = np.stack([first, last], axis=1).ravel()
    lowest = np.minimum.reduceat(np.append(low, low[-1]), cuts)[::2]
    return lowest, np.maximum.reduceat(np.append(high, high[-1]), cuts)[::2]


def _mark_against(series: Series, table: Any, other: Series, market: Any) -> list[Finding]:
    """Find mark prices of a period whose range lies far from that of the trades or klines in it."""
    opens, at = _times(table, series), _times(market, other)
    order = np.argsort(at, kind="stable")
    at = at[order]
    first, last = np.searchsorted(at, opens), np.searchsorted(at, opens + series.step_ms)
    has_both = last > first
    if not has_both.any():
        return []
    low, high = (_reals(market, name)[order] for name in (("low", "high") if other.step_ms else ("price", "price")))
    lowest, highest = extremes_within(low, high, first[has_both], last[has_both])
    mark_low, mark_high = _reals(table, "low")[has_both], _reals(table, "high")[has_both]
    with np.errstate(invalid="ignore"):
        is_far = (mark_low > highest * (1 + MARK_DISTANCE)) | (mark_high < lowest * (1 - MARK_DISTANCE))
    of = f"{other.timeframe} klines" if other.step_ms else "trades"
    return _finding(f"mark prices more than {MARK_DISTANCE:.1%} from their {of}", opens[has_both], is_far)


def _against_shorter(series: Series, table: Any, other: Series, shorter: Any) -> list[Finding]:
    opens, short_opens = _times(table, series), _times(shorter, other)
    order = np.argsort(short_opens, kind="stable")
    short_opens = short_opens[order]
    first, last = np.searchsorted(short_opens, opens), np.searchsorted(short_opens, opens + series.step_ms)
    is_whole = last - first == series.step_ms // other.step_ms
    if not is_whole.any():
        return []
    first, last, whole_opens = first[is_whole], last[is_whole], opens[is_whole]
    values = {name: _reals(shorter, name)[order] for name in ("open", "high", "low", "close", "volume")}
    bars = {name: _reals(table, name)[is_whole] for name in values}
    # Whole bars follow one another: cut at their first row, and at the end of the last.
    cuts = np.stack([first, last], axis=1).ravel()
    padded = {name: np.append(each, each[-1]) for name, each in values.items()}
    volume = np.add.reduceat(padded["volume"], cuts)[::2]
    is_off = (
        (values["open"][first] != bars["open"])
        | (values["close"][last - 1] != bars["close"])
        | (np.maximum.reduceat(padded["high"], cuts)[::2] != bars["high"])
        | (np.minimum.reduceat(padded["low"], cuts)[::2] != bars["low"])
        | (np.abs(volume - bars["volume"]) > TOLERANCE * np.maximum(1.0, volume))
    )
    return _finding(f"bars that are not the sum of their {other.timeframe} bars", whole_opens, is_off)


def format_span(first_ms: int, last_ms: int) -> str:
    """Return the minutes from one time to another in words."""
    first, last = (datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M") for at in (first_ms, last_ms))
    return f"{first} to {last} UTC"


def describe(report: Report) -> Sequence[str]:
    """Return the lines of a report."""
    span = format_span(report.first_ms, report.last_ms)
    lines = [f"{report.series}: {report.rows:,} rows, {span}, from {report.source or 'an unnamed source'}"]
    lines += [f"  {finding}" for finding in report.findings] or ["  nothing wrong was found"]
    return lines
