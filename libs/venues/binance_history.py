"""The past of Binance USD-M's perpetuals over REST. Past books and open interest beyond 30 days are archives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from libs.venues.archives import VenueArchive
from libs.venues.history import (
    DAY_MS,
    HOUR_MS,
    TIMEFRAME_MS,
    HistoryPage,
    HistoryRefused,
    Kind,
    MarketHistory,
    TimeSpan,
    field_of,
    read_optional_real,
    read_real,
    read_rows,
    read_whole,
    refuse_timeframe,
)
from libs.venues.rest import RestClient

_DAILY = "data/futures/um/daily"
ARCHIVE = VenueArchive(
    "https://data.binance.vision",
    {
        "klines": f"{_DAILY}/klines/{{symbol}}/{{timeframe}}/{{symbol}}-{{timeframe}}-{{day}}.zip",
        "mark": f"{_DAILY}/markPriceKlines/{{symbol}}/{{timeframe}}/{{symbol}}-{{timeframe}}-{{day}}.zip",
        "trades": f"{_DAILY}/aggTrades/{{symbol}}/{{symbol}}-aggTrades-{{day}}.zip",
        "open-interest": f"{_DAILY}/metrics/{{symbol}}/{{symbol}}-metrics-{{day}}.zip",
    },
    {"open-interest": "5m"},
    ".CHECKSUM",
)
_INTEREST_DAYS = 30
# Rows that one question gives at most, and its weight.
_PAGES: dict[Kind, tuple[str, int, int]] = {
    "klines": ("/fapi/v1/klines", 1500, 10),
    "mark": ("/fapi/v1/markPriceKlines", 1500, 10),
    "funding": ("/fapi/v1/fundingRate", 1000, 5),
    "open-interest": ("/futures/data/openInterestHist", 500, 5),
    "trades": ("/fapi/v1/aggTrades", 1000, 20),
}
_INTEREST_TIMEFRAMES = tuple(name for name in TIMEFRAME_MS if name != "1m")


class BinanceHistory:
    """A `MarketHistory`; trades are aggregate trades, whose ids have no holes."""

    reach: Mapping[Kind, tuple[int, str]] = {
        "open-interest": (
            _INTEREST_DAYS * DAY_MS,
            f"Binance's REST interface gives open interest of the last {_INTEREST_DAYS} days alone",
        )
    }

    def __init__(self, rest: RestClient) -> None:
        self._rest = rest

    def now_ms(self) -> int:
        """Return Binance's clock."""
        return int(self._rest.get_json("/fapi/v1/time")["serverTime"])

    def check(self, kind: Kind, timeframe: str) -> None:
        """Refuse books, and timeframes that there are not."""
        if kind == "book":
            raise HistoryRefused(
                f"Binance's REST interface gives no past books; take bookDepth or bookTicker files from {ARCHIVE.url} "
                "or record books with `perpflow up --market live`"
            )
        known = _INTEREST_TIMEFRAMES if kind == "open-interest" else tuple(TIMEFRAME_MS)
        refuse_timeframe(kind, timeframe, known, "Binance")

    def page_span_ms(self, kind: Kind, timeframe: str) -> int:
        """Return the span of a full page; of trades an hour, which is what one question may cover."""
        if kind == "trades":
            return HOUR_MS
        return _PAGES[kind][1] * (8 * HOUR_MS if kind == "funding" else TIMEFRAME_MS[timeframe])

    def page(self, symbol: str, kind: Kind, timeframe: str, span: TimeSpan) -> HistoryPage:
        """Return the first rows of a span."""
        path, limit, weight = _PAGES[kind]
        parameters: dict[str, str | int] = {
            "symbol": symbol,
            "startTime": span.begin,
            "endTime": span.end - 1,
            "limit": limit,
        }
        if kind in ("klines", "mark"):
            parameters["interval"] = timeframe
        elif kind == "open-interest":
            parameters["period"] = timeframe
        answer = read_rows(self._rest.get_json(path, parameters, weight=weight), path)
        rows = [_READERS[kind](row, path) for row in answer]
        if kind == "trades":
            rows = self._complete(symbol, rows, limit, weight)
        following = rows[-1][0] + (TIMEFRAME_MS[timeframe] if timeframe else 1) if rows else span.end
        if len(answer) < limit or following >= span.end:
            return HistoryPage(rows, None)
        return HistoryPage(rows, TimeSpan(following, span.end))

    def _complete(self, symbol: str, rows: list[tuple[Any, ...]], limit: int, weight: int) -> list[tuple[Any, ...]]:
        """Add the trades of the last millisecond that a full page cut off."""
        path = _PAGES["trades"][0]
        while len(rows) >= limit:
            parameters: dict[str, str | int] = {"symbol": symbol, "fromId": rows[-1][4] + 1, "limit": limit}
            answer = read_rows(self._rest.get_json(path, parameters, weight=weight), path)
            more = [row for row in (_read_trade(each, path) for each in answer) if row[0] == rows[-1][0]]
            rows += more
            if len(more) < limit:
                return rows
        return rows

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()


def _read_kline(row: Any, path: str) -> tuple[Any, ...]:
    cells = [field_of(row, number, path) for number in (0, 1, 2, 3, 4, 5, 7, 8, 9)]
    reals = [read_real(cell, "kline") for cell in cells[1:7]]
    return (read_whole(cells[0], "open time"), *reals, read_whole(cells[7], "trades"), read_real(cells[8], "taker"))


def _read_mark(row: Any, path: str) -> tuple[Any, ...]:
    prices = [read_real(field_of(row, number, path), "mark price") for number in range(1, 5)]
    return (read_whole(field_of(row, 0, path), "open time"), *prices)


def _read_funding(row: Any, path: str) -> tuple[Any, ...]:
    return (
        read_whole(field_of(row, "fundingTime", path), "fundingTime"),
        read_real(field_of(row, "fundingRate", path), "fundingRate"),
        read_optional_real(row.get("markPrice"), "markPrice"),
    )


def _read_interest(row: Any, path: str) -> tuple[Any, ...]:
    return (
        read_whole(field_of(row, "timestamp", path), "timestamp"),
        read_real(field_of(row, "sumOpenInterest", path), "sumOpenInterest"),
        read_optional_real(row.get("sumOpenInterestValue"), "sumOpenInterestValue"),
    )


def _read_trade(row: Any, path: str) -> tuple[Any, ...]:
    return (
        read_whole(field_of(row, "T", path), "T"),
        read_real(field_of(row, "p", path), "p"),
        read_real(field_of(row, "q", path), "q"),
        bool(field_of(row, "m", path)),
        read_whole(field_of(row, "a", path), "a"),
    )


_READERS = {
    "klines": _read_kline,
    "mark": _read_mark,
    "funding": _read_funding,
    "open-interest": _read_interest,
    "trades": _read_trade,
}


def open_history(rest: RestClient) -> MarketHistory:
    """Return Binance's past."""
    return BinanceHistory(rest)
