"""Bybit's declaration for linear perpetuals, and their public market data. No orders are sent there yet.

One websocket carries everything; books begin with a snapshot there and open interest comes with the ticker. Bybit
numbers no trades: those missed are taken from the newest thousand, by time and id.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import orjson

from libs.domain.instruments import split_instrument_id
from libs.domain.market import ExchangeBar
from libs.venues.api import MarketData, StreamDeclaration, TradePage, TradePosition, Venue
from libs.venues.bybit_frames import BybitDecoder, decode_klines, read_trades
from libs.venues.bybit_history import ARCHIVE, open_history
from libs.venues.bybit_rest import ask
from libs.venues.errors import VenueUnavailable
from libs.venues.frames import FrameError
from libs.venues.rest import RestClient
from libs.venues.rules import PERPETUAL, TradingRules, check_market

KLINE_LIMIT = 1000
TRADE_LIMIT = 1000
DEPTH = 200
PING_EVERY_S = 20.0
_MINUTE_MS = 60_000


def declare_stream(symbol: str, base_url: str) -> StreamDeclaration:
    """Return the stream that carries a symbol's market."""
    book = f"orderbook.{DEPTH}.{symbol}"
    topics = [f"publicTrade.{symbol}", book, f"orderbook.1.{symbol}", f"tickers.{symbol}", f"allLiquidation.{symbol}"]
    return StreamDeclaration(
        "market",
        base_url,
        carries_trades=True,
        carries_book=True,
        subscribe=(_operation("subscribe", topics),),
        resubscribe=(_operation("unsubscribe", [book]), _operation("subscribe", [book])),
        ping=_operation("ping"),
        ping_every_s=PING_EVERY_S,
    )


def _operation(name: str, topics: list[str] | None = None) -> bytes:
    return orjson.dumps({"op": name} if topics is None else {"op": name, "args": topics})


class BybitMarketData:
    """A `MarketData`."""

    pushes_snapshots = True
    pushes_open_interest = True

    def __init__(self, rest: RestClient, instrument: str, stream_url: str) -> None:
        self._rest = rest
        self._instrument = instrument
        self._symbol, _ = split_instrument_id(instrument)
        self.streams = (declare_stream(self._symbol, stream_url),)

    def now_ms(self) -> int:
        """Return Bybit's clock."""
        return int(ask(self._rest, "/v5/market/time")["timeNano"]) // 1_000_000

    def check_rules(self) -> None:
        """Refuse a symbol that Bybit does not list, or whose declared rules are not those that it states."""
        check_market(self._instrument, read_rules(self._ask_symbol("/v5/market/instruments-info"), {self._symbol}))

    def depth_answer(self) -> bytes:
        """Return the book's snapshot as it was answered."""
        return self._rest.get("/v5/market/orderbook", {"category": "linear", "symbol": self._symbol, "limit": DEPTH})

    def open_interest_answer(self) -> bytes:
        """Return the ticker, which has the open interest, as it was answered."""
        return self._rest.get("/v5/market/tickers", {"category": "linear", "symbol": self._symbol})

    def klines(self, *, start_ms: int | None, limit: int) -> list[ExchangeBar]:
        """Return 1m klines, asked for by the thousand."""
        now_ms = self.now_ms()
        start = now_ms - now_ms % _MINUTE_MS - limit * _MINUTE_MS if start_ms is None else start_ms
        bars: list[ExchangeBar] = []
        while start < now_ms and len(bars) < limit:
            page_end = start + KLINE_LIMIT * _MINUTE_MS - 1
            answer = self._ask_symbol(
                "/v5/market/kline", {"interval": "1", "start": start, "end": page_end, "limit": KLINE_LIMIT}
            )
            bars += decode_klines(answer.get("list"), instrument=self._instrument)
            start = page_end + 1
        return [bar for bar in bars if bar.close_time <= now_ms * 1_000_000][:limit]

    def trades_after(self, position: TradePosition, *, received_time: int) -> TradePage:
        """Return what Bybit still has of the trades behind a time: the newest thousand."""
        answer = self._ask_symbol("/v5/market/recent-trade", {"limit": TRADE_LIMIT})
        rows = answer.get("list")
        if not isinstance(rows, list):
            raise FrameError(f"recent trades are {rows!r}", "a list was asked for")
        trades = read_trades(rows, self._instrument, received_time=received_time)
        is_joined = len(rows) < TRADE_LIMIT or (bool(trades) and trades[0].event_time <= position.event_time)
        return TradePage(trades, is_joined, is_last=True)

    def close(self) -> None:
        """Close the connections."""
        self._rest.close()

    def _ask_symbol(self, path: str, parameters: Mapping[str, str | int] | None = None) -> Any:
        return ask(self._rest, path, {"category": "linear", "symbol": self._symbol, **(parameters or {})})


def read_rules(answer: Any, symbols: Container[str]) -> Mapping[str, TradingRules]:
    """Return the rules that instruments-info states for those of the symbols that it lists.

    Raises `VenueUnavailable` for an answer of another form.
    """
    try:
        return {row["symbol"]: _rules(row) for row in answer["list"] if row["symbol"] in symbols}
    except (KeyError, TypeError, InvalidOperation) as error:
        raise VenueUnavailable(f"instruments-info is not what Bybit documents: {error!r}") from error


def _rules(row: Mapping[str, Any]) -> TradingRules:
    lots = row["lotSizeFilter"]
    contract = row["contractType"]
    rules = TradingRules(
        symbol=row["symbol"],
        contract_type=PERPETUAL if contract == "LinearPerpetual" else contract,
        quote_asset=row["quoteCoin"],
        tick_size=Decimal(row["priceFilter"]["tickSize"]),
        step_size=Decimal(lots["qtyStep"]),
        min_quantity=Decimal(lots["minOrderQty"]),
        min_notional=Decimal(lots["minNotionalValue"]),
    )
    if rules.tick_size <= 0 or rules.step_size <= 0:
        raise InvalidOperation(f"tick size {rules.tick_size}, step size {rules.step_size}")
    return rules


def open_market(rest: RestClient, instrument: str, stream_url: str) -> MarketData:
    """Return an instrument's market."""
    return BybitMarketData(rest, instrument, stream_url)


VENUE = Venue(
    "BYBIT",
    ("https://api.bybit.com", "wss://stream.bybit.com/v5/public/linear"),
    BybitDecoder,
    open_market,
    open_history,
    7200,
    ARCHIVE,
)
