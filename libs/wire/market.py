"""Market events and bars to bytes and back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from google.protobuf.message import DecodeError as ProtobufError

from libs.domain.bars import TIMEFRAMES, Bar
from libs.domain.market import (
    BestQuote,
    ClockTick,
    DepthDelta,
    DepthSnapshot,
    ExchangeBar,
    FundingSettled,
    Liquidation,
    MarketEvent,
    MarkPrice,
    OpenInterest,
    Side,
    Trade,
)
from libs.schemas.perpflow.market.v1 import bar_pb2, market_pb2
from libs.wire.errors import DecodeError, EncodeError

MARKET_KIND: dict[type, str] = {
    Trade: "trade",
    DepthSnapshot: "depth_snapshot",
    DepthDelta: "depth_delta",
    BestQuote: "best_quote",
    MarkPrice: "mark_price",
    FundingSettled: "funding_settled",
    OpenInterest: "open_interest",
    Liquidation: "liquidation",
    ExchangeBar: "exchange_bar",
    ClockTick: "clock_tick",
}


def encode_market_event(event: MarketEvent) -> bytes:
    """Write a market event. Raises `EncodeError` where a number does not fit its field."""
    try:
        return _market_message(event).SerializeToString()
    except (ValueError, TypeError) as error:
        raise EncodeError(f"{type(event).__name__} {event.event_id}: {error}") from error


def _market_message(event: MarketEvent) -> market_pb2.MarketEvent:
    message = market_pb2.MarketEvent(
        event_id=event.event_id,
        instrument=event.instrument,
        event_time=event.event_time,
        received_time=event.received_time,
    )
    if isinstance(event, BestQuote):
        quote = message.best_quote
        quote.update_id = event.update_id
        quote.bid_price_e8 = event.bid_price_e8
        quote.bid_quantity_e8 = event.bid_quantity_e8
        quote.ask_price_e8 = event.ask_price_e8
        quote.ask_quantity_e8 = event.ask_quantity_e8
    elif isinstance(event, Trade):
        trade = message.trade
        trade.price_e8 = event.price_e8
        trade.quantity_e8 = event.quantity_e8
        trade.is_buyer_maker = event.is_buyer_maker
        trade.venue_trade_id = event.venue_trade_id
    elif isinstance(event, DepthDelta):
        delta = message.depth_delta
        delta.first_update_id = event.first_update_id
        delta.final_update_id = event.final_update_id
        delta.previous_final_update_id = event.previous_final_update_id
        _extend_book(delta, event)
    elif isinstance(event, DepthSnapshot):
        message.depth_snapshot.last_update_id = event.last_update_id
        _extend_book(message.depth_snapshot, event)
    elif isinstance(event, ClockTick):
        message.clock_tick.SetInParent()
    elif isinstance(event, MarkPrice):
        mark = message.mark_price
        mark.mark_price_e8 = event.mark_price_e8
        if event.index_price_e8 is not None:
            mark.index_price_e8 = event.index_price_e8
        mark.funding_rate_e8 = event.funding_rate_e8
        mark.next_funding_time = event.next_funding_time
    elif isinstance(event, FundingSettled):
        settled = message.funding_settled
        settled.SetInParent()
        settled.funding_rate_e8 = event.funding_rate_e8
        settled.mark_price_e8 = event.mark_price_e8
    elif isinstance(event, OpenInterest):
        message.open_interest.SetInParent()
        message.open_interest.open_interest_e8 = event.open_interest_e8
    elif isinstance(event, Liquidation):
        message.liquidation.side = int(event.side)  # type: ignore[assignment]
        message.liquidation.price_e8 = event.price_e8
        message.liquidation.quantity_e8 = event.quantity_e8
    else:
        _fill_exchange_bar(message.exchange_bar, event)
    return message


def _extend_book(message: market_pb2.DepthDelta | market_pb2.DepthSnapshot, event: DepthDelta | DepthSnapshot) -> None:
    message.SetInParent()
    message.bid_prices_e8.extend(event.bid_prices_e8)
    message.bid_quantities_e8.extend(event.bid_quantities_e8)
    message.ask_prices_e8.extend(event.ask_prices_e8)
    message.ask_quantities_e8.extend(event.ask_quantities_e8)


def _fill_exchange_bar(message: market_pb2.ExchangeBar, event: ExchangeBar) -> None:
    message.timeframe = event.timeframe
    message.open_time = event.open_time
    message.close_time = event.close_time
    message.open_e8 = event.open_e8
    message.high_e8 = event.high_e8
    message.low_e8 = event.low_e8
    message.close_e8 = event.close_e8
    message.volume_e8 = event.volume_e8
    message.is_history = event.is_history
    if event.quote_volume_e8 is not None:
        message.quote_volume_e8 = event.quote_volume_e8
    if event.taker_buy_volume_e8 is not None:
        message.taker_buy_volume_e8 = event.taker_buy_volume_e8
    if event.trade_count is not None:
        message.trade_count = event.trade_count


def decode_market_event(payload: bytes) -> MarketEvent:
    """Read a market event. Raises `DecodeError` naming the field that has no meaning."""
    message = market_pb2.MarketEvent()
    try:
        message.ParseFromString(payload)
    except ProtobufError as error:
        raise DecodeError(f"not a MarketEvent: {error}") from error
    instrument = message.instrument
    event_id = message.event_id
    event_time = message.event_time
    received_time = message.received_time
    if not instrument or not event_id:
        raise DecodeError("MarketEvent without instrument or event_id")
    if event_time <= 0 or received_time <= 0:
        raise DecodeError(f"MarketEvent {event_id}: event_time and received_time must be above 0")
    kind = message.WhichOneof("event")
    head = (instrument, event_id, event_time, received_time)
    if kind == "best_quote":
        quote = message.best_quote
        best = BestQuote(
            *head,
            quote.update_id,
            quote.bid_price_e8,
            quote.bid_quantity_e8,
            quote.ask_price_e8,
            quote.ask_quantity_e8,
        )
        _demand(best.bid_price_e8 > 0 and best.ask_price_e8 > 0, event_id, "a quote's prices must be above 0")
        return best
    if kind == "trade":
        trade = message.trade
        traded = Trade(*head, trade.price_e8, trade.quantity_e8, trade.is_buyer_maker, trade.venue_trade_id)
        _demand(
            traded.price_e8 > 0 and traded.quantity_e8 > 0, event_id, "a trade's price and quantity must be above 0"
        )
        return traded
    if kind == "depth_delta":
        delta = message.depth_delta
        return DepthDelta(
            *head,
            delta.first_update_id,
            delta.final_update_id,
            delta.previous_final_update_id,
            *_book_sides(delta, event_id),
        )
    if kind == "depth_snapshot":
        snapshot = message.depth_snapshot
        return DepthSnapshot(*head, snapshot.last_update_id, *_book_sides(snapshot, event_id))
    if kind == "clock_tick":
        return ClockTick(*head)
    if kind == "mark_price":
        mark = message.mark_price
        _demand(mark.mark_price_e8 > 0, event_id, "mark_price_e8 must be above 0")
        return MarkPrice(
            *head,
            mark.mark_price_e8,
            mark.index_price_e8 if mark.HasField("index_price_e8") else None,
            mark.funding_rate_e8,
            mark.next_funding_time,
        )
    if kind == "funding_settled":
        settled = message.funding_settled
        _demand(settled.mark_price_e8 > 0, event_id, "mark_price_e8 must be above 0")
        return FundingSettled(*head, settled.funding_rate_e8, settled.mark_price_e8)
    if kind == "open_interest":
        _demand(message.open_interest.open_interest_e8 >= 0, event_id, "open_interest_e8 must not be negative")
        return OpenInterest(*head, message.open_interest.open_interest_e8)
    if kind == "liquidation":
        forced = message.liquidation
        _demand(forced.price_e8 > 0 and forced.quantity_e8 > 0, event_id, "price and quantity must be above 0")
        return Liquidation(*head, decode_side(forced.side, event_id), forced.price_e8, forced.quantity_e8)
    if kind == "exchange_bar":
        return _exchange_bar(message.exchange_bar, head)
    raise DecodeError(f"MarketEvent {event_id} carries no event that this version knows")


def _demand(is_met: bool, event_id: str, sentence: str) -> None:
    if not is_met:
        raise DecodeError(f"{event_id}: {sentence}")


def _book_sides(
    message: market_pb2.DepthDelta | market_pb2.DepthSnapshot, event_id: str
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    bid_prices, bid_quantities = tuple(message.bid_prices_e8), tuple(message.bid_quantities_e8)
    ask_prices, ask_quantities = tuple(message.ask_prices_e8), tuple(message.ask_quantities_e8)
    _demand(
        len(bid_prices) == len(bid_quantities) and len(ask_prices) == len(ask_quantities),
        event_id,
        "a side's prices and quantities must be of one length",
    )
    _demand(
        _are_levels(bid_prices, bid_quantities) and _are_levels(ask_prices, ask_quantities),
        event_id,
        "book prices must be above 0 and quantities not negative",
    )
    return bid_prices, bid_quantities, ask_prices, ask_quantities


def _are_levels(prices: Sequence[int], quantities: Sequence[int]) -> bool:
    return not prices or (min(prices) > 0 and min(quantities) >= 0)


def decode_side(number: int, event_id: str) -> Side:
    """Read a side; zero is unspecified and refused."""
    try:
        return Side(number)
    except ValueError:
        raise DecodeError(f"{event_id}: side {number} is unspecified or unknown") from None


def check_timeframe(timeframe: str, open_time: int, close_time: int, event_id: str) -> None:
    """Refuse a bar whose times do not fit its timeframe."""
    length = TIMEFRAMES.get(timeframe)
    if length is None:
        raise DecodeError(f"{event_id}: timeframe {timeframe!r} is not one of {', '.join(TIMEFRAMES)}")
    if open_time < 0 or close_time != open_time + length or open_time % length:
        raise DecodeError(f"{event_id}: open_time {open_time} and close_time {close_time} do not fit {timeframe}")


def _check_ohlc(open_e8: int, high_e8: int, low_e8: int, close_e8: int, volume_e8: int, event_id: str) -> None:
    if low_e8 <= 0 or volume_e8 < 0 or not low_e8 <= min(open_e8, close_e8) <= max(open_e8, close_e8) <= high_e8:
        raise DecodeError(
            f"{event_id}: open {open_e8}, high {high_e8}, low {low_e8}, close {close_e8}, volume {volume_e8} is no bar"
        )


def _exchange_bar(message: market_pb2.ExchangeBar, head: tuple[str, str, int, int]) -> ExchangeBar:
    check_timeframe(message.timeframe, message.open_time, message.close_time, head[1])
    _check_ohlc(message.open_e8, message.high_e8, message.low_e8, message.close_e8, message.volume_e8, head[1])
    return ExchangeBar(
        *head,
        message.timeframe,
        message.open_time,
        message.close_time,
        message.open_e8,
        message.high_e8,
        message.low_e8,
        message.close_e8,
        message.volume_e8,
        message.quote_volume_e8 if message.HasField("quote_volume_e8") else None,
        message.taker_buy_volume_e8 if message.HasField("taker_buy_volume_e8") else None,
        message.trade_count if message.HasField("trade_count") else None,
        message.is_history,
    )


_BAR_REQUIRED = (
    "instrument",
    "event_id",
    "event_time",
    "timeframe",
    "open_time",
    "close_time",
    "open_e8",
    "high_e8",
    "low_e8",
    "close_e8",
    "volume_e8",
)
_BAR_OPTIONAL = (
    "quote_volume_e8",
    "taker_buy_volume_e8",
    "trade_count",
    "spread_mean_bps",
    "depth_imbalance_1",
    "depth_imbalance_5",
    "depth_imbalance_10",
    "order_flow_imbalance",
    "microprice_deviation_bps",
    "realised_variance",
    "mark_close_e8",
    "index_close_e8",
    "funding_rate_e8",
    "next_funding_time",
    "open_interest_e8",
    "liquidation_buy_e8",
    "liquidation_sell_e8",
)


def encode_bar(bar: Bar) -> bytes:
    """Write a bar. Raises `EncodeError` where a number does not fit its field."""
    fields = {name: getattr(bar, name) for name in _BAR_REQUIRED}
    for name in _BAR_OPTIONAL:
        value = getattr(bar, name)
        if value is not None:
            fields[name] = value
    try:
        return bar_pb2.Bar(is_history=bar.is_history, **fields).SerializeToString()
    except (ValueError, TypeError) as error:
        raise EncodeError(f"Bar {bar.event_id}: {error}") from error


def decode_bar(payload: bytes) -> Bar:
    """Read a bar. Raises `DecodeError` where its times or prices cannot be."""
    message = bar_pb2.Bar()
    try:
        message.ParseFromString(payload)
    except ProtobufError as error:
        raise DecodeError(f"not a Bar: {error}") from error
    if not message.instrument or not message.event_id:
        raise DecodeError("Bar without instrument or event_id")
    check_timeframe(message.timeframe, message.open_time, message.close_time, message.event_id)
    _demand(message.event_time > 0, message.event_id, "event_time must be above 0")
    _check_ohlc(message.open_e8, message.high_e8, message.low_e8, message.close_e8, message.volume_e8, message.event_id)
    has = {descriptor.name for descriptor, _ in message.ListFields()}
    fields: dict[str, Any] = {name: getattr(message, name) for name in _BAR_REQUIRED}
    # An optional field that was sent is listed even when it is zero.
    fields.update((name, getattr(message, name) if name in has else None) for name in _BAR_OPTIONAL)
    return Bar(**fields, is_history=message.is_history)
