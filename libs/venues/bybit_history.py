"""The past of Bybit's linear perpetuals over REST. Past trades and books are files of its archive."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.venues.archives import VenueArchive
from libs.venues.bybit_rest import ask
from libs.venues.history import (
    HOUR_MS,
    TIMEFRAME_MS,
    HistoryPage,
    HistoryRefused,
    Kind,
    MarketHistory,
    TimeSpan,
    field_of,
    read_real,
    read_rows,
    read_times,
    refuse_timeframe,
)
from libs.venues.rest import RestClient

ARCHIVE = VenueArchive("https://public.bybit.com", {"trades": "trading/{symbol}/{symbol}{day}.csv.gz"})
_INTERVALS = {"1m": "1", "5m": "5", "15m": "15", "1h": "60", "4h": "240", "1d": "D"}
_INTEREST_INTERVALS = {"5m": "5min", "15m": "15min", "1h": "1h", "4h": "4h", "1d": "1d"}
# What a question takes as begin and end, and how many rows it gives at most.
_PAGES: dict[Kind, tuple[str, str, str, int]] = {
    "klines": ("/v5/market/kline", "start", "end", 1000),
    "mark": ("/v5/market/mark-price-kline", "start", "end", 1000),
    "funding": ("/v5/market/funding/history", "startTime", "endTime", 200),
    "open-interest": ("/v5/market/open-interest", "startTime", "endTime", 200),
}


class BybitHistory:
    """A `MarketHistory`. Bybit answers the newest rows of a span first and counts no trades of a kline."""

    reach: Mapping[Kind, tuple[int, str]] = {}

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    def now_ms(self) -> int:
        """Return Bybit's clock."""
        return int(ask(self._rest, "/v5/market/time")["timeNano"]) // 1_000_000

    def check(self, kind: Kind, timeframe: str) -> None:
        """Refuse trades and books: only the newest thousand and the present one can be asked for."""
        if kind in ("trades", "book"):
            if kind == "trades":
                raise HistoryRefused("Bybit's REST interface gives the newest 1,000 trades alone")
            raise HistoryRefused(
                "Bybit's REST interface gives the present book alone; take files of past books from "
                "https://www.bybit.com/derivatives/en/history-data or record them with `perpflow up --market live`"
            )
        known = tuple(_INTEREST_INTERVALS if kind == "open-interest" else _INTERVALS)
        refuse_timeframe(kind, timeframe, known, "Bybit")

    def page_span_ms(self, kind: Kind, timeframe: str) -> int:
        """Return the span of a full page."""
        return _PAGES[kind][3] * (8 * HOUR_MS if kind == "funding" else TIMEFRAME_MS[timeframe])

    def page(self, symbol: str, kind: Kind, timeframe: str, span: TimeSpan) -> HistoryPage:
        """Return the last rows of a span."""
        path, begin, end, limit = _PAGES[kind]
        parameters: dict[str, str | int] = {
            "category": "linear",
            "symbol": symbol,
            begin: span.begin,
            end: span.end - 1,
            "limit": limit,
        }
        if kind in ("klines", "mark"):
            parameters["interval"] = _INTERVALS[timeframe]
        elif kind == "open-interest":
            parameters["intervalTime"] = _INTEREST_INTERVALS[timeframe]
        answer = read_rows(field_of(ask(self._rest, path, parameters), "list", path), path)
        times = read_times(answer, _TIMES[kind], path)
        rows = [(time_ms, *_READERS[kind](row, path)) for time_ms, row in zip(times, answer, strict=True)]
        rows.sort(key=lambda row: row[0])
        if len(rows) < limit or rows[0][0] <= span.begin:
            return HistoryPage(rows, None)
        return HistoryPage(rows, TimeSpan(span.begin, rows[0][0]))

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()


def _read_kline(row: Any, path: str) -> tuple[Any, ...]:
    return (*(read_real(field_of(row, number, path), "kline") for number in range(1, 7)), None, None)


def _read_mark(row: Any, path: str) -> tuple[Any, ...]:
    return tuple(read_real(field_of(row, number, path), "mark price") for number in range(1, 5))


def _read_funding(row: Any, path: str) -> tuple[Any, ...]:
    return (read_real(field_of(row, "fundingRate", path), "fundingRate"), None)


def _read_interest(row: Any, path: str) -> tuple[Any, ...]:
    return (read_real(field_of(row, "openInterest", path), "openInterest"), None)


_TIMES: dict[str, str | int] = {
    "klines": 0,
    "mark": 0,
    "funding": "fundingRateTimestamp",
    "open-interest": "timestamp",
}
_READERS = {"klines": _read_kline, "mark": _read_mark, "funding": _read_funding, "open-interest": _read_interest}


def open_history(rest: RestClient) -> MarketHistory:
    """Return Bybit's past."""
    return BybitHistory(rest)
