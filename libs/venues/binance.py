"""Binance USD-M's public market data: whether it answers, REST answers as frames and bars, stream addresses."""

from __future__ import annotations

from typing import Any

import orjson

from libs.domain.instruments import split_instrument_id
from libs.domain.market import ExchangeBar, Trade
from libs.venues.binance_frames import Frame, decode_frame, decode_klines
from libs.venues.binance_rules import read_rules
from libs.venues.errors import VenueError
from libs.venues.frames import FrameError
from libs.venues.rest import RestClient
from libs.venues.rules import check_rules

REST_URL = "https://fapi.binance.com"
STREAM_URL = "wss://fstream.binance.com"
DEPTH_LIMIT = 1000
KLINE_LIMIT = 1500
TRADE_LIMIT = 1000


def probe_live(timeout_s: float = 5.0, rest_url: str = REST_URL) -> bool:
    """Tell whether Binance's futures answer a ping within the time."""
    with RestClient(rest_url, timeout_s=timeout_s) as rest:
        try:
            return bool(rest.get_json("/fapi/v1/ping") == {})
        except VenueError:
            return False


def stream_addresses(symbol: str, base_url: str = STREAM_URL) -> dict[str, str]:
    """Return the two addresses that together carry a symbol's market, by category.

    Since 2026-04-23 books come under /public; trades, marks and liquidations under /market. Neither sends the other's.
    """
    name = symbol.lower()
    public = f"{name}@depth@100ms/{name}@bookTicker"
    market = f"{name}@aggTrade/{name}@markPrice@1s/{name}@forceOrder"
    root = base_url.rstrip("/")
    return {"public": f"{root}/public/stream?streams={public}", "market": f"{root}/market/stream?streams={market}"}


class BinanceMarketData:
    """The REST side of one instrument's market.

    Every method that asks raises `VenueUnavailable`, `VenueRefused` or `FrameError`.
    """

    def __init__(self, rest: RestClient, instrument: str) -> None:
        self._rest = rest
        self._instrument = instrument
        self._symbol, _ = split_instrument_id(instrument)

    def check_rules(self) -> None:
        """Refuse an instrument whose trading rules are not those that Binance states."""
        answer = self._rest.get_json("/fapi/v1/exchangeInfo")
        check_rules([self._instrument], read_rules(answer, {self._symbol}))

    def depth_answer(self) -> bytes:
        """Return the book's snapshot as it was answered."""
        return self._rest.get("/fapi/v1/depth", {"symbol": self._symbol, "limit": DEPTH_LIMIT})

    def open_interest_answer(self) -> bytes:
        """Return the open interest as it was answered."""
        return self._rest.get("/fapi/v1/openInterest", {"symbol": self._symbol})

    def klines(self, *, start_ms: int | None, limit: int) -> list[ExchangeBar]:
        """Return up to `limit` (at most 1500) 1m klines from a time on, or the newest, the unfinished one left out."""
        parameters: dict[str, str | int] = {"symbol": self._symbol, "interval": "1m", "limit": min(limit, KLINE_LIMIT)}
        if start_ms is not None:
            parameters["startTime"] = start_ms
        bars = decode_klines(
            _expect_list(self._rest.get_json("/fapi/v1/klines", parameters)), instrument=self._instrument
        )
        now_ns = int(self._rest.get_json("/fapi/v1/time")["serverTime"]) * 1_000_000
        return [bar for bar in bars if bar.close_time <= now_ns]

    def trades_from(self, first_id: int, *, received_time: int) -> list[Trade]:
        """Return up to 1000 aggregate trades from an id on."""
        answer = self._rest.get_json(
            "/fapi/v1/aggTrades", {"symbol": self._symbol, "fromId": first_id, "limit": TRADE_LIMIT}
        )
        trades = []
        for row in _expect_list(answer):
            frame = Frame("aggTrade", self._symbol, row)
            trade = decode_frame(frame, received_time=received_time, fallback_time=0)
            if isinstance(trade, Trade):
                trades.append(trade)
        return trades

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()


def _expect_list(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise FrameError(f"the exchange answered {orjson.dumps(answer)[:80]!r}", "a list was asked for")
    return answer
