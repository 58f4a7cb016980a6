"""Bybit v5 frames to market events: public streams of linear perpetuals, and the REST answers that captures hold.

Pure. Tickers come as a snapshot and what has changed since, so the decoder remembers them; so do books, whose updates
are numbered per stream (u) and ordered over all streams of a symbol by the cross sequence (seq, cs), which is what
events are numbered by. Unknown fields are ignored; what cannot be read raises `FrameError`. Block trades, agreed on
outside the book, are left out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from libs.domain.bars import TIMEFRAMES
from libs.domain.instruments import instrument_id
from libs.domain.market import (
    BestQuote,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    Liquidation,
    MarketEvent,
    MarkPrice,
    OpenInterest,
    Side,
    Trade,
)
from libs.venues.frames import (
    MAX_MS,
    NS_PER_MS,
    Frame,
    FrameError,
    OpenedFrame,
    kline_event_id,
    read_document,
    read_e8,
    read_field,
    read_int,
    read_levels,
    read_price_e8,
    read_signed_e8,
)

VENUE_NAME = "BYBIT"
_FIX = "give frames of Bybit's public v5 streams of linear perpetuals"
_OPERATIONS = frozenset({"subscribe", "unsubscribe", "ping", "pong", "auth"})
_PRIVATE = frozenset({"execution", "order", "position", "wallet", "greeks", "dcp"})
_SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
_MARK_FIELDS = frozenset({"markPrice", "indexPrice", "fundingRate", "nextFundingTime"})
_QUOTE_FIELDS = ("bid1Price", "bid1Size", "ask1Price", "ask1Size")


@dataclass(slots=True)
class _Known:
    """What is remembered of a symbol: its ticker, the depth and number of its book, the levels of its best quote."""

    ticker: dict[str, Any] = field(default_factory=dict)
    depth: str = ""
    update: int = 0
    sequence: int = 0
    bids: dict[int, int] = field(default_factory=dict)
    asks: dict[int, int] = field(default_factory=dict)


class BybitDecoder:
    """A `FrameDecoder` that remembers tickers and books."""

    keeps_state = True
    rest_symbol = re.compile(
        rb"/v5/market/(?:orderbook|tickers|open-interest|recent-trade)\?(?:.*&)?symbol=([A-Z0-9]+)"
    )

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def open(self, payload: bytes) -> Frame | None:
        """Tell a frame's kind, symbol and time."""
        return open_frame(payload)

    def venue_of(self, payload: bytes) -> str:
        """Tell the market by the symbol, by tickers, and by trades: those of linear perpetuals alone have funding and a
        direction.
        """
        frame = open_frame(payload)
        if frame is None:
            return ""
        if frame.symbol.endswith("USD"):
            return "BYBIT_INVERSE"
        match frame:
            case Frame("ticker", _, {"type": "snapshot", "changed": told}):
                return VENUE_NAME if "fundingRate" in told else "BYBIT_SPOT"
            case Frame("trades", _, {"topic": _, "rows": [{"i": _} as told, *_]}):
                return VENUE_NAME if "L" in told else "BYBIT_SPOT"
        return ""

    def decode(
        self, frame: OpenedFrame, *, received_time: int, fallback_time: int, symbol: str = ""
    ) -> Sequence[MarketEvent]:
        """Return the frame's events."""
        assert isinstance(frame, Frame)
        decode = _DECODERS.get(frame.kind)
        if decode is None:
            return ()
        name = frame.symbol or symbol
        if not name:
            raise FrameError(f"a {frame.kind} frame names no symbol", "record it with its URL or set the instrument")
        known = self._known.setdefault(name, _Known())
        event_time = frame.sent_time or fallback_time
        return decode(frame.data, _Context(instrument_id(name, VENUE_NAME), received_time, event_time, known))


@dataclass(frozen=True, slots=True)
class _Context:
    instrument: str
    received_time: int
    sent_time: int
    known: _Known


def open_frame(payload: bytes) -> Frame | None:
    """Tell a frame's kind and symbol; None for acknowledgements and pongs. Raises `FrameError`."""
    document = read_document(payload)
    if "topic" in document:
        return _open_topic(document)
    if "op" in document:
        _check_operation(document)
        return None
    if "retCode" in document:
        return _open_answer(document)
    raise FrameError(f"unknown frame with fields {sorted(document)}", _FIX)


def _check_operation(document: Mapping[str, Any]) -> None:
    operation = document["op"]
    if operation not in _OPERATIONS:
        raise FrameError(f"an answer to the operation {operation!r}, which is about orders", _FIX)
    if document.get("success") is False or document.get("retCode"):
        text = document.get("ret_msg") or document.get("retMsg")
        raise FrameError(f"the exchange refused {operation}: {text}", "correct the instrument or what is subscribed to")


def _open_topic(document: Mapping[str, Any]) -> Frame:
    topic = document["topic"]
    if not isinstance(topic, str):
        raise FrameError(f"topic is {topic!r}, not a string", _FIX)
    word, *rest = topic.split(".")
    if word in _PRIVATE:
        raise FrameError(f"private topic {topic!r} is about an account, not a market", _FIX)
    kind, symbol = _KINDS.get(word, ""), rest[-1] if rest else ""
    if not kind or not symbol:
        raise FrameError(f"unknown topic {topic!r}", f"known are {', '.join(sorted(_KINDS))} of Bybit v5")
    data = read_field(document, "data")
    if kind == "orderbook":
        if not isinstance(data, dict):
            raise FrameError(f"'data' of topic {topic!r} is not an object", _FIX)
        fields = {**data, "depth": rest[0], "type": document.get("type"), "cts": document.get("cts")}
    elif kind == "ticker":
        if not isinstance(data, dict) or "bidIv" in data:
            raise FrameError(f"topic {topic!r} is an option's ticker", _FIX)
        fields = {"changed": data, "type": document.get("type"), "cs": document.get("cs")}
    else:
        fields = {"rows": data if isinstance(data, list) else [data], "topic": topic}
    return Frame(kind, symbol, fields, _milliseconds(document, "ts") if "ts" in document else 0)


def _open_answer(document: Mapping[str, Any]) -> Frame | None:
    code = document["retCode"]
    if code:
        raise FrameError(f"the exchange answered error {code}: {document.get('retMsg')}", "fix the request it answers")
    result = document.get("result")
    sent = _milliseconds(document, "time") if "time" in document else 0
    if not isinstance(result, dict):
        raise FrameError("an answer without a result", _FIX)
    if {"s", "b", "a", "u", "seq"} <= result.keys():
        return Frame("orderbook", result["s"], {**result, "depth": "answer", "type": "answer"}, sent)
    rows = result.get("list")
    first = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    category = result.get("category")
    kind = ""
    if {"execId", "isBlockTrade", "price", "size"} <= first.keys():
        kind, fields = "answered trades", {"rows": rows}
    elif {"markPrice", "fundingRate", "openInterest"} <= first.keys():
        kind, fields = "ticker", {"changed": first, "type": "answer", "cs": None}
    elif {"openInterest", "timestamp"} <= first.keys():
        kind, fields = "open interest", {"rows": rows}
    if not kind:
        raise FrameError(
            f"an answer with fields {sorted(first or result)}" + (f" of category {category}" if category else ""),
            "known are those of orderbook, tickers, open-interest and recent-trade",
        )
    if category not in (None, "linear"):
        raise FrameError(f"an answer on {category} contracts", "linear perpetuals alone are read")
    return Frame(kind, first.get("symbol") or result.get("symbol") or "", fields, sent)


def _milliseconds(data: Mapping[str, Any], name: str) -> int:
    """Return a field of milliseconds, a number or its text, as ns."""
    value = read_field(data, name)
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if type(value) is not int or not 0 < value <= MAX_MS:
        raise FrameError(f"field {name!r} is {value!r}, not milliseconds", "check the recorder that wrote this line")
    return value * NS_PER_MS


def _side(data: Mapping[str, Any], name: str) -> Side:
    word = read_field(data, name)
    side = _SIDES.get(word) if isinstance(word, str) else None
    if side is None:
        raise FrameError(f"side is {word!r}, not Buy or Sell", "check the recorder that wrote this line")
    return side


def _trades(data: Mapping[str, Any], context: _Context) -> Sequence[MarketEvent]:
    return [
        make_trade(row, context.instrument, context.received_time, ("i", "T", "p", "v", "S"))
        for row in _rows(data)
        if row.get("BT") is not True
    ]


def _answered_trades(data: Mapping[str, Any], context: _Context) -> Sequence[MarketEvent]:
    return read_trades(data["rows"], context.instrument, received_time=context.received_time)


def read_trades(rows: Sequence[Mapping[str, Any]], instrument: str, *, received_time: int) -> list[Trade]:
    """Turn the rows of GET /v5/market/recent-trade, newest first, into trades, oldest first. Raises `FrameError`."""
    return [
        make_trade(row, instrument, received_time, ("execId", "time", "price", "size", "side"))
        for row in reversed(rows)
        if row.get("isBlockTrade") is not True
    ]


def make_trade(
    row: Mapping[str, Any], instrument: str, received_time: int, names: tuple[str, str, str, str, str]
) -> Trade:
    """Read a trade from the fields of these names: id, time, price, quantity, side of the taker."""
    trade_id, time, price, quantity, side = names
    text = read_field(row, trade_id)
    if not isinstance(text, str) or not text:
        raise FrameError(f"field {trade_id!r} is {text!r}, not a trade's id", "legacy v2 frames are not read")
    return Trade(
        instrument=instrument,
        event_id=f"{instrument}/trade/{text}",
        event_time=_milliseconds(row, time),
        received_time=received_time,
        price_e8=read_price_e8(read_field(row, price), price),
        quantity_e8=read_price_e8(read_field(row, quantity), quantity),
        is_buyer_maker=_side(row, side) is Side.SELL,
        venue_trade_id=0,
    )


def _rows(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    for row in data["rows"]:
        if not isinstance(row, dict):
            raise FrameError(f"a row of topic {data['topic']!r} is {row!r}, not an object", _FIX)
    return data["rows"]  # type: ignore[no-any-return]


def _book(data: Mapping[str, Any], context: _Context) -> Sequence[MarketEvent]:
    bids = read_levels(read_field(data, "b"), "b", is_bid=True)
    asks = read_levels(read_field(data, "a"), "a", is_bid=False)
    update, sequence = read_int(data, "u"), read_int(data, "seq")
    event_time = _milliseconds(data, "cts") if data.get("cts") else context.sent_time
    known, is_snapshot = context.known, data["type"] in ("snapshot", "answer")
    if data["type"] not in ("snapshot", "answer", "delta"):
        raise FrameError(f"an order book of type {data['type']!r}", "known are snapshot and delta")
    if data["depth"] == "1":
        return _best_quote(bids, asks, sequence, event_time, context, is_snapshot=is_snapshot)
    if is_snapshot and not known.depth and data["depth"] != "answer":
        known.depth = data["depth"]
    if known.depth and data["depth"] not in (known.depth, "answer"):
        # Another depth of the same book, with numbers of its own.
        return ()
    if is_snapshot:
        known.update, known.sequence = update, sequence
        return (
            DepthSnapshot(
                context.instrument,
                f"{context.instrument}/snapshot/{sequence}",
                event_time,
                context.received_time,
                sequence,
                *bids,
                *asks,
            ),
        )
    is_next = update == known.update + 1
    before = known.sequence if is_next else 0
    known.update, known.sequence = update, sequence
    return (
        DepthDelta(
            context.instrument,
            f"{context.instrument}/depth/{sequence}",
            event_time,
            context.received_time,
            before + 1 if is_next else sequence,
            sequence,
            before,
            *bids,
            *asks,
        ),
    )


Levels = tuple[tuple[int, ...], tuple[int, ...]]


def _best_quote(
    bids: Levels, asks: Levels, sequence: int, event_time: int, context: _Context, *, is_snapshot: bool
) -> Sequence[MarketEvent]:
    known = context.known
    for levels, (prices, quantities) in ((known.bids, bids), (known.asks, asks)):
        if is_snapshot:
            levels.clear()
        levels.update(zip(prices, quantities, strict=True))
        for price in [price for price, quantity in levels.items() if not quantity]:
            del levels[price]
    if not known.bids or not known.asks:
        return ()
    bid, ask = max(known.bids), min(known.asks)
    return (_quote(context, sequence, event_time, (bid, known.bids[bid], ask, known.asks[ask])),)


def _quote(context: _Context, sequence: int, event_time: int, levels: tuple[int, int, int, int]) -> BestQuote:
    return BestQuote(
        context.instrument,
        f"{context.instrument}/quote/{sequence}",
        event_time,
        context.received_time,
        sequence,
        *levels,
    )


def _ticker(data: Mapping[str, Any], context: _Context) -> Sequence[MarketEvent]:
    changed: Mapping[str, Any] = data["changed"]
    ticker = context.known.ticker
    if data["type"] != "delta":
        ticker.clear()
    ticker.update(changed)
    events: list[MarketEvent] = []
    instrument, at, received = context.instrument, context.sent_time, context.received_time
    stamp = at // NS_PER_MS
    if not _MARK_FIELDS.isdisjoint(changed) and "markPrice" in ticker:
        index = ticker.get("indexPrice")
        next_funding = ticker.get("nextFundingTime")
        events.append(
            MarkPrice(
                instrument,
                f"{instrument}/mark/{stamp}",
                at,
                received,
                read_price_e8(ticker["markPrice"], "markPrice"),
                read_price_e8(index, "indexPrice") if index else None,
                read_signed_e8(ticker.get("fundingRate") or "0", "fundingRate"),
                _milliseconds(ticker, "nextFundingTime") if next_funding and next_funding != "0" else 0,
            )
        )
    if "openInterest" in changed:
        interest = read_e8(changed["openInterest"], "openInterest")
        events.append(OpenInterest(instrument, f"{instrument}/oi/{stamp}", at, received, interest))
    if data["cs"] and not changed.keys().isdisjoint(_QUOTE_FIELDS) and all(ticker.get(name) for name in _QUOTE_FIELDS):
        bid, bid_size, ask, ask_size = (read_e8(ticker[name], name) for name in _QUOTE_FIELDS)
        if bid and ask:
            events.append(_quote(context, read_int(data, "cs"), at, (bid, bid_size, ask, ask_size)))
    return events


def _open_interests(data: Mapping[str, Any], context: _Context) -> Sequence[MarketEvent]:
    events = []
    for row in reversed(data["rows"]):
        at = _milliseconds(row, "timestamp")
        interest = read_e8(read_field(row, "openInterest"), "openInterest")
        event_id = f"{context.instrument}/oi/{at // NS_PER_MS}"
        events.append(OpenInterest(context.instrument, event_id, at, context.received_time, interest))
    return events


def _liquidations(data: Mapping[str, Any], context: _Context) -> Sequence[MarketEvent]:
    events = []
    seen: Counter[str] = Counter()
    for row in _rows(data):
        # The topic allLiquidation has one-letter names; the older one, liquidation, has words.
        time, side, price, quantity = ("T", "S", "p", "v") if "T" in row else ("updatedTime", "side", "price", "size")
        at = _milliseconds(row, time)
        # It says which position was closed: a long one (Buy) by selling.
        order_side = _side(row, side).opposite
        price_e8 = read_price_e8(read_field(row, price), price)
        quantity_e8 = read_price_e8(read_field(row, quantity), quantity)
        event_id = f"{context.instrument}/liquidation/{at // NS_PER_MS}/{order_side.name}/{price_e8}/{quantity_e8}"
        seen[event_id] += 1
        if seen[event_id] > 1:
            event_id = f"{event_id}/{seen[event_id]}"
        events.append(
            Liquidation(context.instrument, event_id, at, context.received_time, order_side, price_e8, quantity_e8)
        )
    return events


# The word that a topic begins with, and the kind of frame that it carries; a kline is built from trades here.
_KINDS = {
    "publicTrade": "trades",
    "trade": "trades",
    "orderbook": "orderbook",
    "tickers": "ticker",
    "allLiquidation": "liquidations",
    "liquidation": "liquidations",
    "kline": "kline",
}
_DECODERS: dict[str, Callable[[Mapping[str, Any], _Context], Sequence[MarketEvent]]] = {
    "trades": _trades,
    "answered trades": _answered_trades,
    "orderbook": _book,
    "ticker": _ticker,
    "open interest": _open_interests,
    "liquidations": _liquidations,
}


def decode_klines(rows: Any, *, instrument: str, timeframe: str = "1m") -> list[ExchangeBar]:
    """Turn the rows of GET /v5/market/kline, newest first, into exchange bars, oldest first. Raises `FrameError`.

    Bybit counts no trades and no taker volume. `received_time` is the bar's close, so that the same klines always give
    the same events.
    """
    if not isinstance(rows, list):
        raise FrameError(f"klines are {rows!r}, not a list", "ask GET /v5/market/kline")
    length = TIMEFRAMES[timeframe]
    bars = []
    for number, row in enumerate(reversed(rows)):
        if not isinstance(row, list) or len(row) < 7:
            raise FrameError(f"kline {number} is {row!r}, not a row of 7", "ask GET /v5/market/kline")
        open_time = _milliseconds({"open time": row[0]}, "open time")
        prices = [
            read_price_e8(text, name) for text, name in zip(row[1:5], ("open", "high", "low", "close"), strict=True)
        ]
        bars.append(
            ExchangeBar(
                instrument=instrument,
                event_id=kline_event_id(instrument, timeframe, open_time),
                event_time=open_time + length,
                received_time=open_time + length,
                timeframe=timeframe,
                open_time=open_time,
                close_time=open_time + length,
                open_e8=prices[0],
                high_e8=prices[1],
                low_e8=prices[2],
                close_e8=prices[3],
                volume_e8=read_e8(row[5], "volume"),
                quote_volume_e8=read_e8(row[6], "turnover"),
                taker_buy_volume_e8=None,
                trade_count=None,
            )
        )
    return bars
