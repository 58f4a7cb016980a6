"""Binance frames to market events: combined streams of USD-M, COIN-M and spot, and the REST answers that captures hold.

Pure: bytes in, one domain event out. Unknown fields are ignored; what cannot be read raises `FrameError`. Frames that
are known and not wanted (acknowledgements, open klines, tickers) give None.

Trades, quotes and book changes, which are nearly all there is, are read as the types of `binance_types` where they are
just as they should be. Everything else, and whatever is wrong with these, is read field by field, which says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
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
from libs.domain.numbers import InexactNumber
from libs.venues.binance_types import (
    PARTIAL_DEPTH,
    AggregateTradeFrame,
    DepthFrame,
    QuoteFrame,
    TradeFrame,
    TypedFrame,
    fields_of,
    read_typed,
)
from libs.venues.frames import (
    KNOWN_NUMBERS,
    MAX_KNOWN,
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
    read_ms,
    read_plain_levels,
    read_price_e8,
    read_signed_e8,
)

VENUE, SPOT, COIN_M = "BINANCE", "BINANCE_SPOT", "BINANCE_COINM"
_COIN_M_SYMBOL = re.compile(r"[A-Z0-9]+USD_(?:PERP|\d{6})")
# By kind of frame: the field that frames of one market have, that market, and the market of those without it.
_TELLING: Mapping[str, tuple[str, str, str]] = {
    "trade": ("M", SPOT, VENUE),
    "aggTrade": ("M", SPOT, VENUE),
    "depthUpdate": ("pu", VENUE, SPOT),
    "bookTicker": ("T", VENUE, SPOT),
    "depthSnapshot": ("T", VENUE, SPOT),
    "markPriceUpdate": ("r", VENUE, VENUE),
    "premiumIndex": ("lastFundingRate", VENUE, VENUE),
    "openInterest": ("openInterest", VENUE, VENUE),
    "forceOrder": ("o", VENUE, VENUE),
}
# What answers to commands say in place of an error.
_DONE = frozenset({0, 200, "0", "200"})

_IGNORED = frozenset(
    {
        "kline",
        "continuous_kline",
        "indexPrice_kline",
        "24hrTicker",
        "24hrMiniTicker",
        "contractInfo",
        "assetIndexUpdate",
        "compositeIndex",
        "tradingSession",
    }
)


def open_frame(payload: bytes) -> Frame | TypedFrame | None:
    """Tell a frame's kind and symbol; None for acknowledgements and empty subscriptions. Raises `FrameError`."""
    return read_typed(payload) or _open_document(payload)


def _open_document(payload: bytes) -> Frame | None:
    document = read_document(payload)
    stream = document.get("stream", "")
    if isinstance(stream, str) and "@depth" in stream and (partial := PARTIAL_DEPTH.search(stream)):
        raise FrameError(
            f"stream {stream!r} is the top {partial[1]} levels of the book, not its changes", "subscribe to @depth"
        )
    data = document.get("data", document)
    if not isinstance(data, dict):
        raise FrameError(f"'data' of stream {stream!r} is not an object", "give one frame per line")
    kind, symbol = _kind_of(data, stream), data.get("s")
    if not kind:
        return None
    symbol = symbol or data.get("symbol") or ""
    if kind == "forceOrder":
        symbol = read_field(_order_of(data), "s")
    if not isinstance(symbol, str):
        raise FrameError(f"symbol is {symbol!r}, not a string", "check the recorder that wrote this line")
    stamp = data.get("E", data.get("time", data.get("T")))
    return Frame(kind, symbol, data, stamp * NS_PER_MS if type(stamp) is int and 0 < stamp <= MAX_MS else 0)


def _kind_of(data: Mapping[str, Any], stream: str) -> str:
    event = data.get("e")
    if isinstance(event, str):
        return event
    if "lastUpdateId" in data and "bidPrice" not in data:
        return "depthSnapshot"
    if {"u", "b", "B", "a", "A"} <= data.keys():
        return "bookTicker"
    if "openInterest" in data:
        return "openInterest"
    if "markPrice" in data and "lastFundingRate" in data:
        return "premiumIndex"
    if "result" in data and "id" in data:
        return ""
    if "code" in data and "msg" in data:
        if data["code"] in _DONE:
            raise FrameError(f"an answer to a command: {data['msg']}", "give frames of a market")
        raise FrameError(f"the exchange answered error {data['code']}: {data['msg']}", "fix the request it answers")
    raise FrameError(
        f"unknown frame with fields {sorted(data)}" + (f" on stream {stream!r}" if stream else ""),
        "give Binance combined-stream frames or REST depth, openInterest and premiumIndex answers",
    )


def decode_frame(
    frame: OpenedFrame, *, received_time: int, fallback_time: int, symbol: str = "", venue: str = VENUE
) -> MarketEvent | None:
    """Turn a frame into its market event, or None where it is known and not wanted. Raises `FrameError`.

    `fallback_time` (ns) is the event time of frames without one (spot book tickers, spot depth answers); `symbol` names
    frames without a symbol. Trades carry the match time T, books the transaction time T where the venue sends it.
    """
    if isinstance(frame, TypedFrame):
        event = _TYPED_DECODERS[type(frame)](frame, _INSTRUMENTS[venue], received_time)
        if event is not None:
            return event
        frame = Frame(frame.kind, frame.symbol, fields_of(frame), frame.sent_time)
    assert isinstance(frame, Frame)
    decode = _DECODERS.get(frame.kind)
    if decode is None:
        if frame.kind in _IGNORED:
            return None
        raise FrameError(f"unknown event type {frame.kind!r}", f"known are {sorted(_DECODERS)}")
    name = frame.symbol or symbol
    if not name:
        raise FrameError(f"a {frame.kind} frame names no symbol", "record it with its URL or set the instrument")
    return decode(frame.data, instrument_id(name, venue), received_time, fallback_time)


class BinanceDecoder:
    """A `FrameDecoder`: every frame stands for itself. Events are of `venue`, which is one of this module's."""

    keeps_state = False
    rest_symbol = re.compile(rb"/(?:depth|openInterest|premiumIndex)\?(?:.*&)?symbol=([A-Z0-9_]+)")

    def __init__(self, venue: str = VENUE) -> None:
        self._venue = venue
        self._instruments = _INSTRUMENTS[venue]

    def open(self, payload: bytes) -> OpenedFrame | None:
        """Tell a frame's kind, symbol and time."""
        return read_typed(payload) or _open_document(payload)

    def venue_of(self, payload: bytes) -> str:
        """Tell the market by fields that the others' frames do not have, and COIN-M by the form of its symbols."""
        frame = _open_document(payload)
        if frame is None:
            return ""
        if _COIN_M_SYMBOL.fullmatch(frame.symbol):
            return COIN_M
        telling = _TELLING.get(frame.kind)
        return "" if telling is None else telling[1] if telling[0] in frame.data else telling[2]

    def decode(
        self, frame: OpenedFrame, *, received_time: int, fallback_time: int, symbol: str = ""
    ) -> Sequence[MarketEvent]:
        """Return the frame's event, if it has one."""
        quick = _TYPED_DECODERS.get(type(frame))
        if quick and (made := quick(frame, self._instruments, received_time)) is not None:
            return (made,)
        event = decode_frame(
            frame, received_time=received_time, fallback_time=fallback_time, symbol=symbol, venue=self._venue
        )
        return () if event is None else (event,)


def _trade(data: Mapping[str, Any], instrument: str, received_time: int, _: int) -> MarketEvent | None:
    # USD-M sends price 0 with X "NA" for what is not an execution in the book.
    if data.get("X", "MARKET") == "NA":
        return None
    return _read_trade(data, instrument, received_time, "trade", "t")


def _aggregate_trade(data: Mapping[str, Any], instrument: str, received_time: int, _: int) -> MarketEvent:
    return _read_trade(data, instrument, received_time, "aggtrade", "a")


def _read_trade(data: Mapping[str, Any], instrument: str, received_time: int, word: str, id_field: str) -> Trade:
    trade_id = read_int(data, id_field)
    is_buyer_maker = read_field(data, "m")
    if not isinstance(is_buyer_maker, bool):
        raise FrameError(f"field 'm' is {is_buyer_maker!r}, not true or false", "check the recorder")
    return Trade(
        instrument=instrument,
        event_id=f"{instrument}/{word}/{trade_id}",
        event_time=read_ms(data, "T"),
        received_time=received_time,
        price_e8=read_price_e8(read_field(data, "p"), "p"),
        quantity_e8=read_price_e8(read_field(data, "q"), "q"),
        is_buyer_maker=is_buyer_maker,
        venue_trade_id=trade_id,
    )


def _depth_delta(data: Mapping[str, Any], instrument: str, received_time: int, _: int) -> MarketEvent:
    bid_prices, bid_quantities = read_levels(read_field(data, "b"), "b", is_bid=True)
    ask_prices, ask_quantities = read_levels(read_field(data, "a"), "a", is_bid=False)
    first = read_int(data, "U")
    final = read_int(data, "u")
    if final < first:
        raise FrameError(f"u {final} is before U {first}", "check the recorder that wrote this line")
    return DepthDelta(
        instrument=instrument,
        event_id=f"{instrument}/depth/{final}",
        event_time=read_ms(data, "T" if "T" in data else "E"),
        received_time=received_time,
        first_update_id=first,
        final_update_id=final,
        # Spot sends no pu; its chain is U = previous u + 1.
        previous_final_update_id=read_int(data, "pu") if "pu" in data else first - 1,
        bid_prices_e8=bid_prices,
        bid_quantities_e8=bid_quantities,
        ask_prices_e8=ask_prices,
        ask_quantities_e8=ask_quantities,
    )


def _depth_snapshot(data: Mapping[str, Any], instrument: str, received_time: int, fallback_time: int) -> MarketEvent:
    bid_prices, bid_quantities = read_levels(read_field(data, "bids"), "bids", is_bid=True)
    ask_prices, ask_quantities = read_levels(read_field(data, "asks"), "asks", is_bid=False)
    last_update_id = read_int(data, "lastUpdateId")
    return DepthSnapshot(
        instrument=instrument,
        event_id=f"{instrument}/snapshot/{last_update_id}",
        event_time=read_ms(data, "T") if "T" in data else fallback_time,
        received_time=received_time,
        last_update_id=last_update_id,
        bid_prices_e8=bid_prices,
        bid_quantities_e8=bid_quantities,
        ask_prices_e8=ask_prices,
        ask_quantities_e8=ask_quantities,
    )


def _best_quote(data: Mapping[str, Any], instrument: str, received_time: int, fallback_time: int) -> MarketEvent:
    update_id = read_int(data, "u")
    return BestQuote(
        instrument=instrument,
        event_id=f"{instrument}/quote/{update_id}",
        event_time=read_ms(data, "T") if "T" in data else fallback_time,
        received_time=received_time,
        update_id=update_id,
        bid_price_e8=read_price_e8(read_field(data, "b"), "b"),
        bid_quantity_e8=read_e8(read_field(data, "B"), "B"),
        ask_price_e8=read_price_e8(read_field(data, "a"), "a"),
        ask_quantity_e8=read_e8(read_field(data, "A"), "A"),
    )


def _mark_price(data: Mapping[str, Any], instrument: str, received_time: int, _: int) -> MarketEvent:
    return _make_mark(
        instrument, received_time, read_ms(data, "E"), data, ("p", "i", "r"), next_funding_time=read_ms(data, "T")
    )


def _premium_index(data: Mapping[str, Any], instrument: str, received_time: int, _: int) -> MarketEvent:
    return _make_mark(
        instrument,
        received_time,
        read_ms(data, "time"),
        data,
        ("markPrice", "indexPrice", "lastFundingRate"),
        next_funding_time=read_ms(data, "nextFundingTime"),
    )


def _make_mark(
    instrument: str,
    received_time: int,
    event_time: int,
    data: Mapping[str, Any],
    fields: tuple[str, str, str],
    *,
    next_funding_time: int,
) -> MarkPrice:
    mark, index, rate = fields
    index_text = data.get(index)
    # Delivery contracts send an empty rate: no funding.
    rate_text = data.get(rate) or "0"
    return MarkPrice(
        instrument=instrument,
        event_id=f"{instrument}/mark/{event_time // NS_PER_MS}",
        event_time=event_time,
        received_time=received_time,
        mark_price_e8=read_price_e8(read_field(data, mark), mark),
        index_price_e8=(read_price_e8(index_text, index) if index_text else None),
        funding_rate_e8=read_signed_e8(rate_text, rate),
        next_funding_time=next_funding_time,
    )


def _open_interest(data: Mapping[str, Any], instrument: str, received_time: int, _: int) -> MarketEvent:
    at = read_ms(data, "time")
    return OpenInterest(
        instrument=instrument,
        event_id=f"{instrument}/oi/{at // NS_PER_MS}",
        event_time=at,
        received_time=received_time,
        open_interest_e8=read_e8(read_field(data, "openInterest"), "openInterest"),
    )


def _order_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    order = read_field(data, "o")
    if not isinstance(order, dict):
        raise FrameError(f"field 'o' is {order!r}, not an order", "check the recorder that wrote this line")
    return order


def _liquidation(data: Mapping[str, Any], instrument: str, received_time: int, _: int) -> MarketEvent:
    order = _order_of(data)
    word = read_field(order, "S")
    if word not in ("BUY", "SELL"):
        raise FrameError(f"side is {word!r}, not BUY or SELL", "check the recorder that wrote this line")
    at = read_ms(order, "T")
    price = read_price_e8(order.get("ap") or read_field(order, "p"), "ap")
    quantity = read_price_e8(order.get("z") or read_field(order, "q"), "z")
    return Liquidation(
        instrument=instrument,
        event_id=f"{instrument}/liquidation/{at // NS_PER_MS}/{word}/{price}/{quantity}",
        event_time=at,
        received_time=received_time,
        side=Side[word],
        price_e8=price,
        quantity_e8=quantity,
    )


_DECODERS: dict[str, Callable[[Mapping[str, Any], str, int, int], MarketEvent | None]] = {
    "trade": _trade,
    "aggTrade": _aggregate_trade,
    "depthUpdate": _depth_delta,
    "depthSnapshot": _depth_snapshot,
    "bookTicker": _best_quote,
    "markPriceUpdate": _mark_price,
    "premiumIndex": _premium_index,
    "openInterest": _open_interest,
    "forceOrder": _liquidation,
}


class _Instruments(dict[str, str]):
    def __init__(self, venue: str) -> None:
        super().__init__()
        self._venue = venue

    def __missing__(self, symbol: str) -> str:
        if len(self) >= MAX_KNOWN:
            self.clear()
        self[symbol] = name = instrument_id(symbol, self._venue)
        return name


_INSTRUMENTS = {venue: _Instruments(venue) for venue in (VENUE, SPOT, COIN_M)}


# Each gives None for what is not as it should be.


def _typed_trade(
    frame: TradeFrame | AggregateTradeFrame, instruments: _Instruments, received_time: int
) -> Trade | None:
    try:
        price, quantity = KNOWN_NUMBERS[frame.price], KNOWN_NUMBERS[frame.quantity]
    except InexactNumber:
        return None
    if price <= 0 or quantity <= 0 or frame.execution == "NA":
        return None
    instrument, number = instruments[frame.symbol], frame.number
    event_id, at = f"{instrument}/{frame.word}/{number}", frame.at_ms * NS_PER_MS
    return Trade(instrument, event_id, at, received_time, price, quantity, frame.is_buyer_maker, number)


def _typed_quote(frame: QuoteFrame, instruments: _Instruments, received_time: int) -> BestQuote | None:
    known = KNOWN_NUMBERS
    try:
        bid, bid_quantity = known[frame.bid_price], known[frame.bid_quantity]
        ask, ask_quantity = known[frame.ask_price], known[frame.ask_quantity]
    except InexactNumber:
        return None
    if bid <= 0 or ask <= 0 or bid_quantity < 0 or ask_quantity < 0:
        return None
    instrument, number = instruments[frame.symbol], frame.number
    event_id, at = f"{instrument}/quote/{number}", frame.at_ms * NS_PER_MS
    return BestQuote(instrument, event_id, at, received_time, number, bid, bid_quantity, ask, ask_quantity)


def _typed_delta(frame: DepthFrame, instruments: _Instruments, received_time: int) -> DepthDelta | None:
    bids, asks = read_plain_levels(frame.bids, is_bid=True), read_plain_levels(frame.asks, is_bid=False)
    first, last = frame.first_number, frame.last_number
    if bids is None or asks is None or last < first:
        return None
    instrument = instruments[frame.symbol]
    event_id, at = f"{instrument}/depth/{last}", frame.at_ms * NS_PER_MS
    return DepthDelta(instrument, event_id, at, received_time, first, last, frame.previous_number, *bids, *asks)


_TYPED_DECODERS: dict[type, Callable[[Any, _Instruments, int], MarketEvent | None]] = {
    TradeFrame: _typed_trade,
    AggregateTradeFrame: _typed_trade,
    QuoteFrame: _typed_quote,
    DepthFrame: _typed_delta,
}


def decode_klines(
    rows: Sequence[Any], *, instrument: str, timeframe: str = "1m", is_history: bool = True
) -> list[ExchangeBar]:
    """Turn a REST klines answer into exchange bars, oldest first. Raises `FrameError` naming the row.

    `received_time` is the bar's close, so that the same klines always give the same events.
    """
    length = TIMEFRAMES[timeframe]
    bars = []
    for number, row in enumerate(rows):
        if not isinstance(row, list) or len(row) < 10:
            raise FrameError(f"kline {number} is {row!r}, not a row of 12", "ask GET /fapi/v1/klines")
        if type(row[0]) is not int or type(row[8]) is not int:
            raise FrameError(f"kline {number} has no whole open time and trade count", "ask GET /fapi/v1/klines")
        open_time = row[0] * 1_000_000
        close_time = open_time + length
        bars.append(
            ExchangeBar(
                instrument=instrument,
                event_id=kline_event_id(instrument, timeframe, open_time),
                event_time=close_time,
                received_time=close_time,
                timeframe=timeframe,
                open_time=open_time,
                close_time=close_time,
                open_e8=read_price_e8(row[1], "open"),
                high_e8=read_price_e8(row[2], "high"),
                low_e8=read_price_e8(row[3], "low"),
                close_e8=read_price_e8(row[4], "close"),
                volume_e8=read_e8(row[5], "volume"),
                quote_volume_e8=read_e8(row[7], "quote volume"),
                taker_buy_volume_e8=read_e8(row[9], "taker buy volume"),
                trade_count=row[8],
                is_history=is_history,
            )
        )
    return bars
