"""Binance USD-M's declaration, and its public market data: REST answers as frames and bars, stream addresses."""

from __future__ import annotations

from typing import Any

import orjson

from libs.domain.instruments import split_instrument_id
from libs.domain.market import ExchangeBar, Trade
from libs.venues.api import MarketData, StreamDeclaration, TradePage, TradePosition, TradingVenue, Venue, VenueAccess
from libs.venues.binance_frames import BinanceDecoder, decode_frame, decode_klines
from libs.venues.binance_history import ARCHIVE, open_history
from libs.venues.binance_rules import read_rules
from libs.venues.frames import Frame, FrameError
from libs.venues.rest import RestClient
from libs.venues.rules import check_market

DEPTH_LIMIT = 1000
KLINE_LIMIT = 1500
TRADE_LIMIT = 1000


def declare_streams(symbol: str, base_url: str) -> tuple[StreamDeclaration, ...]:
    """Return the two streams that together carry a symbol's market.

    Since 2026-04-23 books come under /public; trades, marks and liquidations under /market. Neither sends the other's.
    """
    name = symbol.lower()
    public = f"{name}@depth@100ms/{name}@bookTicker"
    market = f"{name}@aggTrade/{name}@markPrice@1s/{name}@forceOrder"
    root = base_url.rstrip("/")
    return (
        StreamDeclaration("public", f"{root}/public/stream?streams={public}", carries_trades=False, carries_book=True),
        StreamDeclaration("market", f"{root}/market/stream?streams={market}", carries_trades=True, carries_book=False),
    )


class BinanceMarketData:
    """A `MarketData`: books and open interest are asked for, aggregate trades are numbered without holes."""

    pushes_snapshots = False
    pushes_open_interest = False

    def __init__(self, rest: RestClient, instrument: str, stream_url: str) -> None:
        self._rest = rest
        self._instrument = instrument
        self._symbol, _ = split_instrument_id(instrument)
        self.streams = declare_streams(self._symbol, stream_url)

    def now_ms(self) -> int:
        """Return Binance's clock."""
        return int(self._rest.get_json("/fapi/v1/time")["serverTime"])

    def check_rules(self) -> None:
        """Refuse a symbol that Binance does not list, or whose declared rules are not those that it states."""
        answer = self._rest.get_json("/fapi/v1/exchangeInfo")
        check_market(self._instrument, read_rules(answer, {self._symbol}))

    def depth_answer(self) -> bytes:
        """Return the book's snapshot as it was answered."""
        return self._rest.get("/fapi/v1/depth", {"symbol": self._symbol, "limit": DEPTH_LIMIT}, weight=20)

    def open_interest_answer(self) -> bytes:
        """Return the open interest as it was answered."""
        return self._rest.get("/fapi/v1/openInterest", {"symbol": self._symbol})

    def klines(self, *, start_ms: int | None, limit: int) -> list[ExchangeBar]:
        """Return up to `limit` (at most 1500) 1m klines."""
        parameters: dict[str, str | int] = {"symbol": self._symbol, "interval": "1m", "limit": min(limit, KLINE_LIMIT)}
        if start_ms is not None:
            parameters["startTime"] = start_ms
        bars = decode_klines(
            _expect_list(self._rest.get_json("/fapi/v1/klines", parameters, weight=10)), instrument=self._instrument
        )
        now_ns = self.now_ms() * 1_000_000
        return [bar for bar in bars if bar.close_time <= now_ns]

    def trades_after(self, position: TradePosition, *, received_time: int) -> TradePage:
        """Return up to 1000 aggregate trades behind an id."""
        answer = self._rest.get_json(
            "/fapi/v1/aggTrades",
            {"symbol": self._symbol, "fromId": position.trade_id + 1, "limit": TRADE_LIMIT},
            weight=20,
        )
        rows = _expect_list(answer)
        trades = []
        for row in rows:
            frame = Frame("aggTrade", self._symbol, row)
            trade = decode_frame(frame, received_time=received_time, fallback_time=0)
            if isinstance(trade, Trade):
                trades.append(trade)
        is_joined = not trades or trades[0].venue_trade_id == position.trade_id + 1
        return TradePage(trades, is_joined, is_last=len(rows) < TRADE_LIMIT)

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()


def _expect_list(answer: Any) -> list[Any]:
    if not isinstance(answer, list):
        raise FrameError(f"the exchange answered {orjson.dumps(answer)[:80]!r}", "a list was asked for")
    return answer


def open_market(rest: RestClient, instrument: str, stream_url: str) -> MarketData:
    """Return an instrument's market."""
    return BinanceMarketData(rest, instrument, stream_url)


def open_trading(access: VenueAccess) -> TradingVenue:
    """Return the venue that orders are sent to."""
    # The client library is not needed to read a market.
    from libs.venues.binance_client import BinanceClient
    from libs.venues.binance_trading import BinanceTrading
    from libs.venues.binance_user_data import BinanceUserDataStream

    client = BinanceClient(access.rest_url, access.api_key, access.api_secret, speed=access.speed)
    user_data = BinanceUserDataStream(access.stream_url, speed=access.speed)
    return BinanceTrading(client, user_data, is_testnet=access.is_testnet)


_LIVE = ("https://fapi.binance.com", "wss://fstream.binance.com")

VENUE = Venue(
    "BINANCE",
    _LIVE,
    BinanceDecoder,
    open_market,
    open_history,
    2400,
    ARCHIVE,
    {"testnet": ("https://testnet.binancefuture.com", "wss://fstream.binancefuture.com"), "live": _LIVE},
    open_trading,
)
